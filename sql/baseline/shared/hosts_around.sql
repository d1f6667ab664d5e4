-- What stands around the hosts: statistics, the storage pool manager, tags, a storage domain, a user.

INSERT INTO vds_statistics (
    vds_id, cpu_idle, cpu_load, cpu_sys, cpu_user, usage_mem_percent, usage_cpu_percent, usage_network_percent, mem_available,
    mem_shared, swap_free, swap_total, ksm_state
)
SELECT
    vds_id, 100 - n % 90, n % 90, n % 30, n % 60, 10 + n % 80, n % 90, n % 7, physical_mem_mb / 2,
    0, 2047, 2047, false
FROM filling
ORDER BY n;

-- an engine numbers at most 250 hosts of a data centre
INSERT INTO vds_spm_id_map (storage_pool_id, vds_spm_id, vds_id)
SELECT storage_pool.id, filling.n, filling.vds_id
FROM filling
    CROSS JOIN storage_pool
WHERE filling.n <= 250;

-- with a storage domain and a manager the data centre is up
INSERT INTO storage_domain_static (id, storage, storage_name)
SELECT '5e000000-0000-4000-8000-000000000001', 'nfs.lab.example:/export/data', 'data'
WHERE EXISTS (SELECT 1 FROM vds_static);
INSERT INTO storage_pool_iso_map (storage_id, storage_pool_id, status, owner)
SELECT storage_domain_static.id, storage_pool.id, 3, 0 FROM storage_domain_static CROSS JOIN storage_pool;
UPDATE storage_pool SET status = 1, spm_vds_id = first.vds_id, master_domain_version = 1
FROM filling AS first
WHERE first.n = 1;

-- Tags: a rack for nine hosts of ten, production for two of five. Twenty hosts make 28 rows of vds_with_tags.
INSERT INTO tags (tag_id, tag_name, description, parent_id, readonly, type, _create_date)
SELECT
    ('57000000-0000-4000-8000-00000000000' || tag.number)::uuid, tag.name, tag.description,
    '00000000-0000-0000-0000-000000000000', false, 0, timestamptz '2012-03-01 08:00:00+00'
FROM (VALUES
    (1, 'rack-a', 'Rack A'), (2, 'rack-b', 'Rack B'), (3, 'production', 'Hosts that matter'), (4, 'spare', 'Nobody yet')
) AS tag (number, name, description);
INSERT INTO tags_vds_map (tag_id, vds_id, _create_date)
SELECT ('57000000-0000-4000-8000-00000000000' || (1 + n % 2))::uuid, vds_id, created FROM filling WHERE n % 10 <> 0;
INSERT INTO tags_vds_map (tag_id, vds_id, _create_date)
SELECT '57000000-0000-4000-8000-000000000003', vds_id, created FROM filling WHERE n % 5 IN (1, 2);

-- A user without administrator rights who may see the whole cluster, through a group: the one filtered reads are tried with.
INSERT INTO user_groups (user_id, group_id) VALUES
    ('5a000000-0000-4000-8000-000000000001', '5a000000-0000-4000-8000-0000000000f1');
INSERT INTO permissions (id, role_id, ad_element_id, object_id, object_type_id)
SELECT
    '5b000000-0000-4000-8000-000000000001', '00000000-0000-0000-0001-000000000001', '5a000000-0000-4000-8000-0000000000f1',
    vds_group_id, 9
FROM vds_groups;

DROP VIEW filling;
