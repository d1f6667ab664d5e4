-- What a fresh engine is configured with, as far as it is alike in both shapes and hosts or power management come near it.
-- An installation holds some 350 options; these are the ones pmcompat reads or must leave alone, and a few others.

INSERT INTO vdc_options (option_name, option_value, version) VALUES
    ('AsyncTaskPollingRate', '10', 'general'),
    ('AuditLogAgingThreshold', '30', 'general'),
    ('AutoRecoveryAllowedTypes', '{"storage domains":"true","hosts":"true"}', 'general'),
    ('ConnectToServerTimeoutInSeconds', '20', 'general'),
    ('DBEngine', 'Postgres', 'general'),
    ('DelayResetForSpmInSeconds', '20', 'general'),
    ('DelayResetPerVmInSeconds', '0.5', 'general'),
    ('DisableFenceAtStartupInSec', '300', 'general'),
    ('EnableUSBAsDefault', 'true', 'general'),
    -- how long the engine waits for a fence agent: between two reads of its status, and how often it reads
    ('FenceQuietTimeBetweenOperationsInSec', '180', 'general'),
    ('FenceStartStatusDelayBetweenRetriesInSec', '60', 'general'),
    ('FenceStartStatusRetries', '3', 'general'),
    ('FenceStopStatusDelayBetweenRetriesInSec', '60', 'general'),
    ('FenceStopStatusRetries', '3', 'general'),
    ('FindFenceProxyDelayBetweenRetriesInSec', '30', 'general'),
    ('FindFenceProxyRetries', '3', 'general'),
    ('HighUtilizationForEvenlyDistribute', '75', 'general'),
    ('HostPreparingForMaintenanceIdleTime', '300', 'general'),
    ('LogPhysicalMemoryThresholdInMB', '1024', 'general'),
    ('MaxNumOfVmsInPool', '1000', 'general'),
    ('NumberVmRefreshesBeforeSave', '5', 'general'),
    ('ProductRPMVersion', '', 'general'),
    ('SSHInactivityTimoutSeconds', '300', 'general'),
    ('SSLEnabled', 'true', 'general'),
    ('ServerRebootTimeout', '300', 'general'),
    ('SpmCommandFailOverRetries', '3', 'general'),
    ('SpmVCpuConsumption', '1', 'general'),
    ('TimeToReduceFailedRunOnVdsInMinutes', '30', 'general'),
    ('TimeoutToResetVdsInSeconds', '60', 'general'),
    ('UseSecureConnectionWithServers', 'true', 'general'),
    ('VDSAttemptsToResetCount', '2', 'general'),
    ('VdsFenceOptionTypes', 'secure=bool,port=int,slot=int', 'general'),
    ('VdsFenceType', 'alom,apc,bladecenter,drac5,eps,ilo,ilo3,ipmilan,rsa,rsb,wti,cisco_ucs', '3.0'),
    ('VdsLoadBalancingIntervalInMinutes', '1', 'general'),
    ('VdsRecoveryTimeoutInMintues', '3', 'general'),
    ('VdsRefreshRate', '2', 'general'),
    ('VdsSelectionAlgorithm', 'None', 'general'),
    ('vdsConnectionTimeout', '2', 'general'),
    ('vdsRetries', '0', 'general'),
    ('vdsTimeout', '180', 'general');

INSERT INTO tags (tag_id, tag_name, description, parent_id, readonly, type, _create_date) VALUES
    ('00000000-0000-0000-0000-000000000000', 'root', 'root', NULL, true, 0, timestamptz '2012-03-01 08:00:00+00');

INSERT INTO dwh_history_timekeeping (var_name, var_value, var_datetime) VALUES
    ('lastSync', NULL, timestamptz '2000-01-01 00:00:00+00'),
    ('lastFullHostCheck', NULL, timestamptz '2000-01-01 00:00:00+00');

INSERT INTO roles (id, name, role_type, allows_viewing_children) VALUES
    ('00000000-0000-0000-0000-000000000001', 'SuperUser', 1, true),
    ('00000000-0000-0000-0001-000000000001', 'UserRole', 2, true),
    ('00000000-0000-0000-0001-000000000002', 'PowerUserRole', 2, true),
    ('00000000-0000-0000-0001-000000000003', 'UserVmManager', 2, false);

-- the first script an engine database ever recorded
INSERT INTO schema_version (version, script, checksum, installed_by, started_at, ended_at, state, current) VALUES
    ('03000000', 'upgrade/03_00_0000_add_schema_version.sql', '0', 'postgres',
     timestamp '2012-01-01 08:00:00', timestamp '2012-01-01 08:00:01', 'INSTALLED', false);
