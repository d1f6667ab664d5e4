-- The hosts of the demo and the tests: the one place where they are described.
--
-- As many hosts as the setting pmcompat.hosts says, all in the cluster "Default". The same number gives the same rows, every
-- time and everywhere. Host n is of kind ((n - 1) % 20) + 1, so twenty hosts show every kind once:
--
--  kind  status             power management
--     1  up                 ipmilan, encrypted password; this first host is the storage pool manager
--     2  up                 ilo3, encrypted password, no options; proxies '' (reads as cluster,dc)
--     3  up                 apc, outlet 7, network port 23; proxies dc
--     4  up                 apc, outlet 8 of the same device: the ip of the host before it; proxies NULL
--     5  maintenance        bladecenter, slot 3; a plain password some upgrade left behind; proxies cluster
--     6  up                 never configured: '' everywhere
--     7  up                 never configured: NULL everywhere (options are NOT NULL, so ''); no unique id either
--     8  non responsive     drac5, configured but switched off: the settings are kept
--     9  non responsive     wti, outlet 12, network port 23, plain password
--    10  pending approval   rsa; never storage pool manager (priority -1); one-time password still valid
--    11  up                 cisco_ucs, whose slot is a path with slashes
--    12  up                 ilo, a plain password with characters that XML, SQL and shells care about
--    13  up                 eps, which knows neither user nor password: both NULL
--    14  down               ilo4, a type 3.1.0 does not know; no priority
--    15  down               rsb, switched off, with a plain password
--    16  up                 alom, a user of 50 characters, an empty password, the network port twice: column and option
--    17  up                 ilo2, a password of three blanks, an option without value, one with an empty value
--    18  maintenance        switched on, but no agent was ever entered
--    19  non operational    ipmilan by name instead of address, flags without value, one option twice
--    20  reboot             apc_snmp, a type added by the site; a secret among the options; not to be recovered
--
-- Encrypted passwords look like the engine's: base64 of 256 bytes, 344 characters. They are nobody's: no key opens them.
--
-- All of it is one view, gone at the end, from which the tables are filled set by set.

CREATE TEMPORARY VIEW filling AS
WITH kind (
    kind, status, pm_enabled, pm_type, pm_user, password, pm_port, pm_options, proxies, address, spm_priority
) AS (VALUES
    ( 1,  3, true,  'ipmilan',     'admin',    'encrypted', NULL::integer, 'lanplus=1,power_wait=4', 'cluster,dc', 'own', 5),
    ( 2,  3, true,  'ilo3',        'oper',     'encrypted', NULL, '',                             '',           'own',     5),
    ( 3,  3, true,  'apc',         'apc',      'encrypted', 23,   'slot=7',                       'dc',         'own',     5),
    ( 4,  3, true,  'apc',         'apc',      'encrypted', 23,   'slot=8',                       NULL,         'before',  5),
    ( 5,  2, true,  'bladecenter', 'USERID',   'plain',     NULL, 'secure=true,slot=3',           'cluster',    'own',     5),
    ( 6,  3, false, '',            '',         'empty',     NULL, '',                             '',           'empty',   5),
    ( 7,  3, false, NULL,          NULL,       'none',      NULL, '',                             NULL,         'none',    5),
    ( 8,  4, false, 'drac5',       'root',     'encrypted', NULL, 'secure=true,slot=server-3',    'cluster,dc', 'own',     5),
    ( 9,  4, true,  'wti',         'super',    'plain',     23,   'slot=12',                      'dc,cluster', 'own',     5),
    (10, 11, true,  'rsa',         'USERID',   'encrypted', NULL, '',                             '',           'own',    -1),
    (11,  3, true,  'cisco_ucs',   'ucs-admin','encrypted', 443,
          'secure=true,slot=org-root/ls-rack-4/blade-2',                                      'cluster',    'own',     5),
    (12,  3, true,  'ilo',         'Admin',    'awkward',   NULL, 'secure=yes,port=443',          'cluster,dc', 'own',     5),
    (13,  3, true,  'eps',         NULL,       'none',      NULL, 'slot=2',                       '',           'own',     5),
    (14,  1, true,  'ilo4',        'hp-admin', 'encrypted', NULL, 'power_wait=4',                 NULL,         'own',  NULL),
    (15,  1, false, 'rsb',         'root',     'plain',     NULL, '',                             '',           'own',     5),
    (16,  3, true,  'alom',        repeat('a', 50), 'empty', 23,  'port=23,secure=false',         'cluster',    'own',    10),
    (17,  3, true,  'ilo2',        'Admin',    'blanks',    NULL, 'ipport=8443,secure,ribcl=',    'cluster,dc', 'own',     0),
    (18,  2, true,  NULL,          NULL,       'none',      NULL, '',                             '',           'none',    5),
    (19, 10, true,  'ipmilan',     'operator', 'encrypted', 623,
          'lanplus,privlvl=operator,cipher=3,power_wait=4,power_wait=8',                      'cluster,dc', 'name',    5),
    (20,  8, true,  'apc_snmp',    'snmp',     'encrypted', 161,
          'port=4,snmp_version=3,snmp_priv_passwd=not/for=logs',                              'dc',         'own',     1)
)
SELECT
    n,
    kind.kind,
    ('50000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS vds_id,
    numbered.name AS vds_name,
    numbered.name || '.lab.example' AS host_name,
    CASE kind.address
        WHEN 'own' THEN numbered.ip
        WHEN 'before' THEN numbered.ip_before
        WHEN 'name' THEN 'bmc-' || numbered.digits || '.lab.example'
        WHEN 'empty' THEN ''
    END AS ip,
    CASE
        WHEN kind.kind <> 7 THEN upper(md5('machine ' || n)::uuid::text) || '_00:1A:4A:' || numbered.mac
    END AS vds_unique_id,
    kind.status, kind.pm_enabled, kind.pm_type, kind.pm_user,
    CASE kind.password
        WHEN 'encrypted' THEN translate(
            encode(
                sha512(('a' || n)::bytea) || sha512(('b' || n)::bytea)
                    || sha512(('c' || n)::bytea) || sha512(('d' || n)::bytea),
                'base64'),
            E'\n', '')
        WHEN 'plain' THEN 'left-behind-' || numbered.digits
        WHEN 'awkward' THEN 'p&s<s>"w''o\r%d,=;$1'
        WHEN 'blanks' THEN '   '
        WHEN 'empty' THEN ''
    END AS pm_password,
    kind.pm_port, kind.pm_options, kind.proxies AS pm_proxy_preferences,
    CAST(kind.spm_priority AS smallint) AS vds_spm_priority,
    CASE WHEN kind.kind = 10 THEN 1356825600000 END AS otp_validity,
    kind.kind <> 20 AS recoverable,
    CASE WHEN kind.kind NOT IN (7, 10) THEN regexp_replace(md5('key ' || n), '(..)(?!$)', '\1:', 'g') END AS sshkeyfingerprint,
    CASE WHEN n % 3 = 0 THEN 2 ELSE 0 END AS vds_type,
    timestamptz '2012-03-01 08:00:00+00' + (n % 400000) * interval '1 minute' AS created,
    CASE WHEN n % 2 = 0 THEN timestamptz '2012-12-01 08:00:00+00' + (n % 400000) * interval '1 minute' END AS updated,
    4 * (1 + n % 8) AS cpu_cores,
    1 + n % 2 AS cpu_sockets,
    16384 * (1 + n % 16) AS physical_mem_mb,
    n % 12 AS vm_count,
    CASE n % 4 WHEN 0 THEN '4.4.0' WHEN 1 THEN '4.9.6' WHEN 2 THEN '4.10.0' ELSE '4.5.1' END AS software_version
FROM generate_series(1, current_setting('pmcompat.hosts')::integer) AS n
    INNER JOIN kind ON kind.kind = (n - 1) % 20 + 1
    CROSS JOIN LATERAL (
        SELECT
            lpad(n::text, greatest(4, length(n::text)), '0') AS digits,
            'host-' || lpad(n::text, greatest(4, length(n::text)), '0') AS name,
            format('10.%s.%s.%s', n >> 16 & 255, n >> 8 & 255, n & 255) AS ip,
            format('10.%s.%s.%s', (n - 1) >> 16 & 255, (n - 1) >> 8 & 255, (n - 1) & 255) AS ip_before,
            upper(regexp_replace(lpad(to_hex(n), 6, '0'), '(..)(..)(..)', '\1:\2:\3')) AS mac
    ) AS numbered;
