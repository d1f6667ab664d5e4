-- What pmcompat.db.catalog asks the live database. Reads only, and only the system catalogs, except where said.
-- Every query runs with search_path = pg_catalog, so that definitions come out with all names qualified.
-- Each one returns one column of JSON objects, whose keys are the fields of the value they become.

-- name: relations
-- Tables and views with everything that must be put back when one is dropped and made again.
SELECT json_build_object(
    'oid', c.oid::bigint,
    'schema', n.nspname,
    'name', c.relname,
    'kind', c.relkind,
    'owner', pg_get_userbyid(c.relowner),
    'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) ELSE '' END,
    'options', coalesce(c.reloptions, '{}'),
    'comment', obj_description(c.oid, 'pg_class'),
    'populated', c.relispopulated,
    'grants', (
        SELECT coalesce(json_agg(json_build_object(
            'grantor', pg_get_userbyid(a.grantor),
            'grantee', CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
            'privilege', a.privilege_type, 'grantable', a.is_grantable) ORDER BY a.ordinality), '[]')
        FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) WITH ORDINALITY AS a
    ),
    'default_grants', c.relacl IS NULL,
    'columns', (
        SELECT coalesce(json_agg(json_build_object(
            'name', t.attname,
            'number', t.attnum,
            'type', format_type(t.atttypid, t.atttypmod),
            'collation', CASE WHEN t.attcollation NOT IN (0, 100) THEN t.attcollation::regcollation::text ELSE '' END,
            'not_null', t.attnotnull,
            'default', pg_get_expr(d.adbin, d.adrelid),
            'comment', col_description(c.oid, t.attnum),
            'grants', (
                SELECT coalesce(json_agg(json_build_object(
                    'grantor', pg_get_userbyid(a.grantor),
                    'grantee', CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
                    'privilege', a.privilege_type, 'grantable', a.is_grantable) ORDER BY a.ordinality), '[]')
                FROM aclexplode(t.attacl) WITH ORDINALITY AS a
            )) ORDER BY t.attnum), '[]')
        FROM pg_attribute AS t
        LEFT JOIN pg_attrdef AS d ON d.adrelid = t.attrelid AND d.adnum = t.attnum
        WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped
    ),
    'triggers', (
        SELECT coalesce(json_agg(json_build_object(
            'name', g.tgname, 'definition', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled,
            'comment', obj_description(g.oid, 'pg_trigger')) ORDER BY g.tgname), '[]')
        FROM pg_trigger AS g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
    ),
    'rules', (
        SELECT coalesce(json_agg(json_build_object(
            'name', r.rulename, 'definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled,
            'comment', obj_description(r.oid, 'pg_rewrite')) ORDER BY r.rulename), '[]')
        FROM pg_rewrite AS r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'
    ),
    'indexes', (
        SELECT coalesce(json_agg(json_build_object(
            'name', i.indexrelid::regclass::text, 'definition', pg_get_indexdef(i.indexrelid), 'enabled', 'O',
            'comment', obj_description(i.indexrelid, 'pg_class')) ORDER BY i.indexrelid::regclass::text), '[]')
        FROM pg_index AS i WHERE i.indrelid = c.oid AND c.relkind = 'm'
    ),
    'peculiar', ARRAY(
        SELECT 'a security label' FROM pg_seclabel AS s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = c.oid
        UNION ALL
        SELECT 'it belongs to an extension' FROM pg_depend AS d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
        UNION ALL
        SELECT 'column options' FROM pg_attribute AS t WHERE t.attrelid = c.oid AND t.attoptions IS NOT NULL
    )
)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%(oids)s)
ORDER BY n.nspname, c.relname;

-- name: routines
-- Functions and procedures with everything that must be put back.
SELECT json_build_object(
    'oid', p.oid::bigint,
    'schema', n.nspname,
    'name', p.proname,
    'kind', p.prokind,
    'language', l.lanname,
    'signature', p.oid::regprocedure::text,
    'arguments', pg_get_function_arguments(p.oid),
    'argument_names', coalesce(p.proargnames, '{}'),
    'defaults', p.pronargdefaults,
    'returns', coalesce(pg_get_function_result(p.oid), ''),
    'definition', CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE '' END,
    'body', p.prosrc,
    'parsed_body', p.prosqlbody IS NOT NULL,
    'owner', pg_get_userbyid(p.proowner),
    'comment', obj_description(p.oid, 'pg_proc'),
    'grants', (
        SELECT coalesce(json_agg(json_build_object(
            'grantor', pg_get_userbyid(a.grantor),
            'grantee', CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
            'privilege', a.privilege_type, 'grantable', a.is_grantable) ORDER BY a.ordinality), '[]')
        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WITH ORDINALITY AS a
    ),
    'default_grants', p.proacl IS NULL,
    'peculiar', ARRAY(
        SELECT 'a security label' FROM pg_seclabel AS s WHERE s.classoid = 'pg_proc'::regclass AND s.objoid = p.oid
        UNION ALL
        SELECT 'it belongs to an extension' FROM pg_depend AS d
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'x')
    )
)
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.oid = ANY (%(oids)s)
ORDER BY n.nspname, p.proname, p.oid::regprocedure::text;

-- name: named_relations
SELECT json_build_object('oid', c.oid::bigint, 'name', c.relname, 'kind', c.relkind)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(names)s);

-- name: named_routines
SELECT json_build_object('oid', p.oid::bigint, 'name', p.proname)
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.proname = ANY (%(names)s);

-- name: dependants
-- Everything that depends on the given relations and routines, directly or not. A view's rule and rowtype count as the
-- view itself, so that only relations, routines and the rarer kinds remain.
WITH RECURSIVE edge AS MATERIALIZED (
    SELECT DISTINCT
        CASE WHEN w.ev_class IS NOT NULL OR t.relid IS NOT NULL THEN 'pg_class'::regclass ELSE d.classid::regclass END AS class,
        coalesce(w.ev_class, t.relid, d.objid) AS obj,
        CASE WHEN rt.relid IS NOT NULL THEN 'pg_class'::regclass ELSE d.refclassid::regclass END AS on_class,
        coalesce(rt.relid, d.refobjid) AS on_obj
    FROM pg_depend AS d
    LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid AND w.rulename = '_RETURN'
    LEFT JOIN LATERAL (
        SELECT coalesce(nullif(y.typrelid, 0), nullif(e.typrelid, 0)) AS relid
        FROM pg_type AS y LEFT JOIN pg_type AS e ON e.oid = y.typelem
        WHERE d.classid = 'pg_type'::regclass AND y.oid = d.objid
    ) AS t ON true
    LEFT JOIN LATERAL (
        SELECT coalesce(nullif(y.typrelid, 0), nullif(e.typrelid, 0)) AS relid
        FROM pg_type AS y LEFT JOIN pg_type AS e ON e.oid = y.typelem
        WHERE d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid
    ) AS rt ON true
    WHERE d.deptype IN ('n', 'a', 'i')
), reached (class, obj, on_class, on_obj) AS (
    SELECT e.class, e.obj, e.on_class, e.on_obj FROM edge AS e
    WHERE e.on_obj = ANY (%(oids)s::oid[]) AND e.on_class IN ('pg_class'::regclass, 'pg_proc'::regclass)
        AND (e.class, e.obj) IS DISTINCT FROM (e.on_class, e.on_obj)
    UNION
    SELECT e.class, e.obj, e.on_class, e.on_obj FROM reached AS r JOIN edge AS e ON e.on_class = r.class AND e.on_obj = r.obj
    WHERE (e.class, e.obj) IS DISTINCT FROM (e.on_class, e.on_obj)
)
SELECT json_build_object(
    'oid', r.obj::bigint,
    'catalog', r.class::text,
    'on', r.on_obj::bigint,
    'within', coalesce(g.tgrelid, i.indrelid, a.adrelid, w.ev_class)::bigint,
    'description', pg_describe_object(r.class, r.obj, 0)
)
FROM reached AS r
LEFT JOIN pg_trigger AS g ON r.class = 'pg_trigger'::regclass AND g.oid = r.obj
LEFT JOIN pg_index AS i ON r.class = 'pg_class'::regclass AND i.indexrelid = r.obj
LEFT JOIN pg_attrdef AS a ON r.class = 'pg_attrdef'::regclass AND a.oid = r.obj
LEFT JOIN pg_rewrite AS w ON r.class = 'pg_rewrite'::regclass AND w.oid = r.obj
ORDER BY r.obj, r.on_obj;

-- name: reading_views
-- Views that read a table directly.
SELECT DISTINCT to_jsonb(w.ev_class::bigint)
FROM pg_depend AS d JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
JOIN pg_class AS c ON c.oid = w.ev_class AND c.relkind IN ('v', 'm')
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s;

-- name: column_users
-- What depends on the given columns of the given relations, as text.
SELECT DISTINCT json_build_object(
    'oid', coalesce(w.ev_class, d.objid)::bigint,
    'description', coalesce(
        (SELECT pg_describe_object('pg_class'::regclass, w.ev_class, 0) WHERE w.rulename = '_RETURN'),
        pg_describe_object(d.classid, d.objid, d.objsubid)),
    'relation', d.refobjid::regclass::text,
    'column', t.attname
)::jsonb
FROM pg_depend AS d
JOIN pg_attribute AS t ON t.attrelid = d.refobjid AND t.attnum = d.refobjsubid
LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (%(oids)s::oid[]) AND t.attname = ANY (%(columns)s)
    AND d.deptype IN ('n', 'a') AND d.classid <> 'pg_attrdef'::regclass
    AND NOT coalesce(w.ev_class, 0) = ANY (%(oids)s::oid[]);

-- name: row_type_routines
-- Functions that return rows of the given relations.
SELECT json_build_object('oid', p.oid::bigint, 'relation', y.typrelid::bigint)
FROM pg_proc AS p JOIN pg_type AS y ON y.oid = p.prorettype
WHERE y.typrelid = ANY (%(oids)s::oid[]) AND p.prokind = 'f';

-- name: routines_mentioning
-- Functions outside the system schemas whose text holds a word; their text is no dependency the server knows of.
SELECT to_json(p.oid::bigint)
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.prosrc ILIKE '%%' || replace(%(word)s, '_', '\_') || '%%' AND n.nspname NOT IN ('pg_catalog', 'information_schema');

-- name: triggers
SELECT json_build_object('name', g.tgname, 'definition', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled,
    'comment', obj_description(g.oid, 'pg_trigger'))
FROM pg_trigger AS g WHERE g.tgrelid = ANY (%(oids)s::oid[]) AND NOT g.tgisinternal AND g.tgenabled <> 'D'
ORDER BY g.tgname;

-- name: composite_users
-- Columns of other tables whose type is the table's row: they would have to be rewritten with it.
SELECT to_json(t.attrelid::regclass::text || '.' || quote_ident(t.attname))
FROM pg_attribute AS t JOIN pg_type AS y ON y.oid = t.atttypid LEFT JOIN pg_type AS e ON e.oid = y.typelem
JOIN pg_class AS c ON c.oid = t.attrelid
WHERE coalesce(nullif(y.typrelid, 0), e.typrelid) = %(oid)s AND c.relkind IN ('r', 'm', 'p') AND NOT t.attisdropped;

-- name: roles
-- Whether the session can act as these roles, and what it may create.
SELECT json_build_object('name', r.rolname, 'usable', pg_has_role(current_user, r.oid, 'USAGE'))
FROM pg_roles AS r WHERE r.rolname = ANY (%(names)s);

-- name: session
SELECT json_build_object(
    'database', current_database(),
    'user', current_user,
    'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
    'server_version', current_setting('server_version_num')::int,
    'server', current_setting('server_version'),
    'deadlock_timeout', (SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'),
    'may_create_schema', has_database_privilege(current_database(), 'CREATE'),
    'read_only', current_setting('transaction_read_only')::bool,
    'own_schema_owner', (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pmcompat'),
    'own_schema_readable', (
        SELECT has_schema_privilege(nspname, 'USAGE') FROM pg_namespace WHERE nspname = 'pmcompat'
    ),
    'default_grantees', ARRAY(
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END
        FROM pg_default_acl AS f, aclexplode(f.defaclacl) AS a ORDER BY 1
    ),
    'has_default_grants', EXISTS (SELECT FROM pg_default_acl),
    'sessions', (
        SELECT coalesce(json_agg(json_build_object('pid', s.pid, 'user', s.usename, 'application', s.application_name,
            'address', coalesce(host(s.client_addr), 'local'), 'since', s.backend_start) ORDER BY s.pid), '[]')
        FROM pg_stat_activity AS s
        WHERE s.datname = current_database() AND s.pid <> pg_backend_pid() AND s.backend_type = 'client backend'
    )
);

-- name: schema
SELECT json_build_object(
    'exists', true,
    'creators', ARRAY(
        SELECT r.rolname FROM pg_roles AS r WHERE r.rolname = ANY (%(roles)s) AND has_schema_privilege(r.oid, n.oid, 'CREATE')
    )
)
FROM pg_namespace AS n WHERE n.nspname = %(schema)s;

-- name: option_sequence
-- The sequence option_id takes its default from.
SELECT to_json(s.oid::regclass::text)
FROM pg_attrdef AS a JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid
JOIN pg_class AS s ON d.refclassid = 'pg_class'::regclass AND s.oid = d.refobjid AND s.relkind = 'S'
WHERE a.adrelid = %(oid)s AND a.adnum = (SELECT attnum FROM pg_attribute WHERE attrelid = %(oid)s AND attname = 'option_id');

-- name: size
SELECT json_build_object('rows', greatest(c.reltuples, 0)::bigint, 'bytes', pg_total_relation_size(c.oid))
FROM pg_class AS c WHERE c.oid = %(oid)s;

-- name: readable
SELECT to_json(has_table_privilege(%(oid)s::oid, 'SELECT'));

-- name: archive_readable
-- Its passwords are granted to nobody but the owner.
SELECT to_json(has_column_privilege(%(oid)s::oid, 'vds_name', 'SELECT') AND has_column_privilege(%(oid)s::oid, 'pm_secondary_ip', 'SELECT'));
