-- Other views that read vds_static, each cut down to a few columns: an upgrade of the table meets them all.

CREATE VIEW vms AS
SELECT
    vm_static.vm_guid, vm_static.vm_name, vm_static.vds_group_id, vm_dynamic.status, vm_dynamic.run_on_vds,
    runs_on.vds_name AS run_on_vds_name, vm_static.dedicated_vm_for_vds, vm_static.migration_support
FROM vm_static
    INNER JOIN vm_dynamic ON vm_dynamic.vm_guid = vm_static.vm_guid
    LEFT JOIN vds_static AS runs_on ON runs_on.vds_id = vm_dynamic.run_on_vds;

CREATE VIEW vds_interface_view AS
SELECT
    vds_interface.id, vds_interface.name, vds_interface.network_name, vds_interface.vds_id, vds_static.vds_name,
    vds_interface.mac_addr
FROM vds_interface
    INNER JOIN vds_static ON vds_static.vds_id = vds_interface.vds_id;

CREATE VIEW storage_domains_with_hosts_view AS
SELECT
    storage_domain_static.id, storage_domain_static.storage_name, storage_pool_iso_map.storage_pool_id,
    storage_pool_iso_map.status, vds_static.vds_id, vds_static.vds_name
FROM storage_domain_static
    INNER JOIN storage_pool_iso_map ON storage_pool_iso_map.storage_id = storage_domain_static.id
    INNER JOIN vds_groups ON vds_groups.storage_pool_id = storage_pool_iso_map.storage_pool_id
    INNER JOIN vds_static ON vds_static.vds_group_id = vds_groups.vds_group_id;

-- Every grant, with what its role is good for.
CREATE VIEW permissions_view AS
SELECT
    permissions.id, permissions.role_id, permissions.ad_element_id, permissions.object_id, permissions.object_type_id,
    roles.name AS role_name, roles.role_type, roles.allows_viewing_children
FROM permissions
    INNER JOIN roles ON roles.id = permissions.role_id;

-- Whose grants a user has: his own and those of his groups.
CREATE VIEW user_flat_groups AS
SELECT user_groups.user_id, user_groups.group_id AS granted_id
FROM user_groups
UNION
SELECT permissions.ad_element_id AS user_id, permissions.ad_element_id AS granted_id
FROM permissions;
