-- What pmcompat.db.catalog reads from the engine's own tables and from schema pmcompat. {schema} is the engine's schema.

-- name: options
SELECT json_build_object('id', o.option_id, 'name', o.option_name, 'value', o.option_value, 'version', o.version)
FROM {schema}.vdc_options AS o WHERE lower(o.option_name) = ANY (%(names)s) ORDER BY o.option_name, o.option_id;

-- name: white_list
SELECT json_build_object('object', w.object_name, 'column', w.column_name)
FROM {schema}.object_column_white_list AS w
WHERE w.object_name = 'vds' OR lower(w.column_name) IN ('pm_password', 'pm_secondary_password')
ORDER BY w.object_name, w.column_name;

-- name: white_list_cache
SELECT json_build_object('object', q.object_name, 'sql', q.sql)
FROM {schema}.object_column_white_list_sql AS q ORDER BY q.object_name;

-- name: release
SELECT json_build_object('id', v.id, 'version', v.version, 'script', v.script, 'rows', (SELECT count(*) FROM {schema}.schema_version))
FROM {schema}.schema_version AS v ORDER BY v.id DESC LIMIT 1;

-- name: scripts
SELECT json_build_object('id', m.migration_id, 'applied_at', m.applied_at_utc, 'sha256', s.sha256, 'by', s.applied_by)
FROM pmcompat._yoyo_migration AS m LEFT JOIN pmcompat.scripts AS s ON s.id = m.migration_id
ORDER BY m.migration_id;

-- name: last_upgrade
SELECT json_build_object('id', u.id, 'at', u.at, 'by', u.by, 'before', u.before)
FROM pmcompat.upgrades AS u WHERE u.operation = 'upgrade' ORDER BY u.id DESC LIMIT 1;

-- name: changed_options
SELECT json_build_object('id', c.option_id, 'name', c.option_name, 'value', coalesce(c.old_value, ''), 'version', c.version,
    'inserted', c.old_value IS NULL, 'new_value', c.new_value)
FROM pmcompat.changed_options AS c ORDER BY c.option_id;

-- name: archived
SELECT json_build_object('vds_id', a.vds_id, 'vds_name', a.vds_name, 'address', a.pm_secondary_ip, 'archived_at', a.archived_at)
FROM pmcompat.archived_agents AS a ORDER BY a.vds_name, a.archived_at;

-- name: stored_agents
SELECT to_json(count(*)) FROM {schema}.vds_static AS s
WHERE num_nonnulls(s.pm_secondary_ip, s.pm_secondary_type, s.pm_secondary_user, s.pm_secondary_password, s.pm_secondary_port,
    s.pm_secondary_options) > 0 OR s.pm_secondary_concurrent;
