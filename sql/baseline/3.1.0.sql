-- The host part of an engine database as released with oVirt 3.1.0, empty of hosts.
--
-- Our own SQL, written from the shape's description; every name, type, position and signature a client can see is that of
-- the release. Load it into an empty database, or an empty schema that stands first in search_path:
--
--     psql -1 -v ON_ERROR_STOP=1 -f sql/baseline/3.1.0.sql
--
-- No superuser is needed: the role that loads it owns everything. Nothing names its schema. No file of this directory holds
-- BEGIN or COMMIT: psql's -1, or the program that executes the text, makes it one transaction.
--
-- The parts stand in the order in which they need each other.
\ir shared/ground.sql
\ir 3.1.0/tables.sql
\ir shared/tables.sql
\ir 3.1.0/views.sql
\ir shared/views.sql
\ir 3.1.0/permissions.sql
\ir shared/schema_functions.sql
\ir 3.1.0/schema_functions.sql
\ir shared/procedures.sql
\ir 3.1.0/procedures.sql
\ir 3.1.0/dynamic.sql
\ir shared/getters.sql
\ir shared/options.sql
\ir 3.1.0/rows.sql
