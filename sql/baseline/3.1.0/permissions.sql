-- Which user may see which host. Both views hang on vds: dropping vds would take them along.

-- Grants, before they are spread over groups: on the host; on its cluster or data centre; on the system, where the role
-- allows to see what lies below. 3.1.0 does not ask for a type of role.
CREATE VIEW user_vds_permissions_view_base AS
SELECT permissions_view.object_id AS entity_id, permissions_view.ad_element_id AS granted_id
FROM permissions_view
WHERE permissions_view.object_type_id = 3
UNION ALL
SELECT vds.vds_id AS entity_id, permissions_view.ad_element_id AS granted_id
FROM vds
    INNER JOIN permissions_view
        ON (permissions_view.object_type_id = 9 AND permissions_view.object_id = vds.vds_group_id)
        OR (permissions_view.object_type_id = 14 AND permissions_view.object_id = vds.storage_pool_id)
UNION ALL
SELECT vds.vds_id AS entity_id, permissions_view.ad_element_id AS granted_id
FROM permissions_view
    CROSS JOIN vds
WHERE permissions_view.object_type_id = 1 AND permissions_view.allows_viewing_children;

CREATE VIEW user_vds_permissions_view AS
SELECT DISTINCT base.entity_id, user_flat_groups.user_id
FROM user_vds_permissions_view_base AS base
    INNER JOIN user_flat_groups ON user_flat_groups.granted_id = base.granted_id;
