-- One 'general' row becomes one row per cluster version: the newest version gets the new value, the older ones the old value.
CREATE FUNCTION fn_db_split_config_value(v_option_name varchar, v_old_option_value varchar, v_new_option_value varchar)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_newest varchar := (SELECT max(version) FROM vdc_options WHERE version <> 'general');
BEGIN
    IF EXISTS (SELECT 1 FROM vdc_options WHERE option_name ILIKE v_option_name AND version = 'general') THEN
        INSERT INTO vdc_options (option_name, option_value, version)
        SELECT
            v_option_name,
            CASE WHEN seen.version = v_newest THEN v_new_option_value ELSE v_old_option_value END,
            seen.version
        FROM (SELECT DISTINCT version FROM vdc_options WHERE version <> 'general') AS seen
        ORDER BY seen.version;
        DELETE FROM vdc_options WHERE option_name ILIKE v_option_name AND version = 'general';
    END IF;
END;
$$;
