-- Hosts for a database made by 3.1.0.sql. See shared/hosts.sql for what they are.
--
--     PGOPTIONS='-c pmcompat.hosts=20' psql -1 -v ON_ERROR_STOP=1 -f sql/baseline/hosts-3.1.0.sql
\ir shared/hosts.sql
\ir 3.1.0/hosts.sql
\ir shared/hosts_around.sql
