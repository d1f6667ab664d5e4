-- Rows a fresh database of the snapshot holds.

INSERT INTO vdc_options (option_name, option_value, version) VALUES
    ('FenceAgentDefaultParams', 'ilo3:lanplus,power_wait=4;ilo4:lanplus,power_wait=4', 'general'),
    ('FenceAgentMapping', 'ilo2=ilo,ilo3=ipmilan,ilo4=ipmilan', 'general'),
    ('FenceProxyDefaultPreferences', 'cluster,dc', 'general'),
    ('SupportedClusterLevels', '3.0,3.1,3.2', 'general'),
    ('VdcVersion', '3.2.0.0', 'general'),
    -- "ipmilan:;" stands there twice
    ('VdsFenceOptionMapping',
     'alom:secure=secure,port=ipport;apc:secure=secure,port=ipport,slot=port;bladecenter:secure=secure,port=ipport,slot=port;'
     'cisco_ucs:secure=ssl,slot=port;drac5:secure=secure,slot=port;eps:slot=port;ilo:secure=ssl,port=ipport;ipmilan:;'
     'ilo2:secure=ssl,port=ipport;ipmilan:;ilo3:;ilo4:;rsa:secure=secure,port=ipport;rsb:;'
     'wti:secure=secure,port=ipport,slot=port', 'general'),
    ('VdsFenceType', 'alom,apc,bladecenter,drac5,eps,ilo,ilo3,ipmilan,rsa,rsb,wti,cisco_ucs', '3.1'),
    ('VdsFenceType', 'alom,apc,bladecenter,cisco_ucs,drac5,eps,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti', '3.2');

INSERT INTO schema_version (version, script, checksum, installed_by, started_at, ended_at, state, current) VALUES
    ('03020210', 'upgrade/03_02_0210_add_external_events.sql', '5d0c7f3ab86e4192a4c1e7d92b60f835', 'engine',
     timestamp '2012-12-30 08:00:00', timestamp '2012-12-30 08:00:01', 'INSTALLED', true);

-- all but two are listed (one of them was once listed in a spelling that fits no column): a user without administrator rights
-- can read the (encrypted) pm_password
INSERT INTO object_column_white_list (object_name, column_name)
SELECT 'vds', attribute.attname
FROM pg_attribute AS attribute
WHERE attribute.attrelid = 'vds'::regclass AND attribute.attnum > 0
  AND attribute.attname NOT IN ('rpm_version', 'sshkeyfingerprint')
ORDER BY attribute.attnum;

-- the data centre and the cluster every installation begins with
INSERT INTO storage_pool (
    id, name, description, storage_pool_type, status, master_domain_version, compatibility_version, _create_date,
    quota_enforcement_type
) VALUES (
    '5d000000-0000-4000-8000-000000000001', 'Default', 'The default Data Center', 1, 0, 0, '3.2',
    timestamptz '2012-03-01 08:00:00+00', 0
);
INSERT INTO vds_groups (
    vds_group_id, name, description, cpu_name, storage_pool_id, compatibility_version, transparent_hugepages, _create_date
) VALUES (
    '5c000000-0000-4000-8000-000000000001', 'Default', 'The default server cluster', 'Intel Nehalem Family',
    '5d000000-0000-4000-8000-000000000001', '3.2', true, timestamptz '2012-03-01 08:00:00+00'
);
