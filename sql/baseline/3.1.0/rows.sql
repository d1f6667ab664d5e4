-- Rows a fresh 3.1.0 holds.

INSERT INTO vdc_options (option_name, option_value, version) VALUES
    ('FenceAgentDefaultParams', 'ilo3:lanplus,power_wait=4', 'general'),
    ('FenceAgentMapping', 'ilo3=ipmilan', 'general'),
    ('SupportedClusterLevels', '2.2,3.0,3.1', 'general'),
    ('VdcVersion', '3.1.0.0', 'general'),
    ('VdsFenceOptionMapping',
     'alom:secure=secure,port=ipport;apc:secure=secure,port=ipport,slot=port;bladecenter:secure=secure,port=ipport,slot=port;'
     'drac5:secure=secure,slot=port;eps:slot=port;ilo:secure=ssl,port=ipport;ipmilan:;rsa:secure=secure,port=ipport;rsb:;'
     'wti:secure=secure,port=ipport,slot=port;cisco_ucs:secure=ssl,slot=port;ilo3:', 'general'),
    ('VdsFenceOptions', '', 'general'),
    ('VdsFenceType', 'alom,apc,bladecenter,drac5,eps,ilo,ipmilan,rsa,rsb,wti,cisco_ucs', '2.2'),
    ('VdsFenceType', 'alom,apc,bladecenter,drac5,eps,ilo,ipmilan,rsa,rsb,wti,cisco_ucs', '3.1');

INSERT INTO schema_version (version, script, checksum, installed_by, started_at, ended_at, state, current) VALUES
    ('03011240', 'upgrade/03_01_1240_add_template_owner_role.sql', 'b2f4a0d6c1e94c3f8a7d5e60912b3c48', 'engine',
     timestamp '2012-08-09 08:00:00', timestamp '2012-08-09 08:00:01', 'INSTALLED', true);

-- everything is listed: a user without administrator rights can read the (encrypted) pm_password
INSERT INTO object_column_white_list (object_name, column_name)
SELECT 'vds', attribute.attname
FROM pg_attribute AS attribute
WHERE attribute.attrelid = 'vds'::regclass AND attribute.attnum > 0
ORDER BY attribute.attnum;

-- the data centre and the cluster every installation begins with
INSERT INTO storage_pool (
    id, name, description, storage_pool_type, status, master_domain_version, compatibility_version, _create_date,
    quota_enforcement_type
) VALUES (
    '5d000000-0000-4000-8000-000000000001', 'Default', 'The default Data Center', 1, 0, 0, '3.1',
    timestamptz '2012-03-01 08:00:00+00', 0
);
INSERT INTO vds_groups (
    vds_group_id, name, description, cpu_name, storage_pool_id, compatibility_version, transparent_hugepages, _create_date
) VALUES (
    '5c000000-0000-4000-8000-000000000001', 'Default', 'The default server cluster', 'Intel Nehalem Family',
    '5d000000-0000-4000-8000-000000000001', '3.1', true, timestamptz '2012-03-01 08:00:00+00'
);
