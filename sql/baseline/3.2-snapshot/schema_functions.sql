-- One 'general' row becomes one row per cluster version: from the given version on the new value, before it the old one.
CREATE FUNCTION fn_db_split_config_value(
    v_option_name varchar, v_old_option_value varchar, v_new_option_value varchar, v_update_from_version varchar
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM vdc_options WHERE option_name ILIKE v_option_name AND version = 'general') THEN
        INSERT INTO vdc_options (option_name, option_value, version)
        SELECT
            v_option_name,
            CASE WHEN seen.version >= v_update_from_version THEN v_new_option_value ELSE v_old_option_value END,
            seen.version
        FROM (SELECT DISTINCT version FROM vdc_options WHERE version <> 'general') AS seen
        ORDER BY seen.version;
        DELETE FROM vdc_options WHERE option_name ILIKE v_option_name AND version = 'general';
    END IF;
END;
$$;

CREATE FUNCTION fn_db_delete_config_for_version(v_version text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vdc_options WHERE version = v_version;
END;
$$;
