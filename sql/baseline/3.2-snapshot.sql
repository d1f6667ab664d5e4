-- The host part of an engine database as oVirt 3.2 had it the day before secondary power management came, empty of hosts.
--
-- Against 3.1.0: the proxy preferences, the SSH fingerprint and the hardware columns are there, the hypervisor type is gone,
-- host ids are given by the caller, and three more getters look for networks. schema_version says 0302xxxx already: it
-- cannot tell whether the secondary columns exist.
--
-- See 3.1.0.sql for how to load it.
\ir shared/ground.sql
\ir 3.2-snapshot/tables.sql
\ir shared/tables.sql
\ir 3.2-snapshot/external_events.sql
\ir 3.2-snapshot/views.sql
\ir shared/views.sql
\ir 3.2-snapshot/network_view.sql
\ir 3.2-snapshot/permissions.sql
\ir shared/schema_functions.sql
\ir 3.2-snapshot/schema_functions.sql
\ir shared/procedures.sql
\ir 3.2-snapshot/procedures.sql
\ir 3.2-snapshot/dynamic.sql
\ir shared/getters.sql
\ir 3.2-snapshot/getters.sql
\ir shared/options.sql
\ir 3.2-snapshot/rows.sql
