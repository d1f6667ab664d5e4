-- Functions the engine's own upgrade scripts are written with. Names are compared with ILIKE and without regard to the schema,
-- so "_" is a wildcard and a table of the same name elsewhere counts. That is how they are; sites rely on them.

CREATE FUNCTION fn_db_add_column(v_table varchar, v_column varchar, v_column_def text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM information_schema.columns WHERE table_name ILIKE v_table AND column_name ILIKE v_column
    ) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN %s %s', v_table, v_column, v_column_def);
    END IF;
END;
$$;

CREATE FUNCTION fn_db_drop_column(v_table varchar, v_column varchar) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM information_schema.columns WHERE table_name ILIKE v_table AND column_name ILIKE v_column) THEN
        EXECUTE format('ALTER TABLE %s DROP COLUMN %s', v_table, v_column);
    END IF;
END;
$$;

CREATE FUNCTION fn_db_rename_column(v_table varchar, v_column varchar, v_new_name varchar) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM information_schema.columns WHERE table_name ILIKE v_table AND column_name ILIKE v_column) THEN
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %s TO %s', v_table, v_column, v_new_name);
    END IF;
END;
$$;

CREATE FUNCTION fn_db_change_column_type(v_table varchar, v_column varchar, v_type varchar, v_new_type varchar)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_name ILIKE v_table AND column_name ILIKE v_column AND (udt_name ILIKE v_type OR data_type ILIKE v_type)
    ) THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %s TYPE %s', v_table, v_column, v_new_type);
    END IF;
END;
$$;

-- Adds; never changes a row that is there.
CREATE FUNCTION fn_db_add_config_value(v_option_name varchar, v_option_value varchar, v_version varchar)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM vdc_options WHERE option_name ILIKE v_option_name AND version = v_version) THEN
        INSERT INTO vdc_options (option_name, option_value, version) VALUES (v_option_name, v_option_value, v_version);
    END IF;
END;
$$;

-- Overwrites whatever is there, an administrator's value included.
CREATE FUNCTION fn_db_update_config_value(v_option_name varchar, v_option_value varchar, v_version varchar)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vdc_options SET option_value = v_option_value WHERE option_name ILIKE v_option_name AND version = v_version;
END;
$$;

-- Overwrites only what still equals the old default; the flag makes that comparison blind to case.
CREATE FUNCTION fn_db_update_default_config_value(
    v_option_name varchar, v_default_option_value varchar, v_option_value varchar, v_version varchar,
    v_ignore_default_value_case boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vdc_options SET option_value = v_option_value
    WHERE option_name ILIKE v_option_name AND version = v_version
      AND CASE WHEN v_ignore_default_value_case THEN option_value ILIKE v_default_option_value
               ELSE option_value = v_default_option_value END;
END;
$$;

CREATE FUNCTION fn_db_delete_config_value(v_option_name varchar, v_version varchar) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vdc_options WHERE option_name ILIKE v_option_name AND version = v_version;
END;
$$;

-- Lists a column for users without administrator rights, if such a column exists; otherwise nothing happens, silently.
CREATE FUNCTION fn_db_add_column_to_object_white_list(v_object_name varchar, v_column_name varchar)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM information_schema.columns WHERE table_name = v_object_name AND column_name = v_column_name
    ) AND NOT EXISTS (
        SELECT 1 FROM object_column_white_list WHERE object_name = v_object_name AND column_name = v_column_name
    ) THEN
        INSERT INTO object_column_white_list (object_name, column_name) VALUES (v_object_name, v_column_name);
    END IF;
END;
$$;

-- The rows of a view with every column that is not on the white list replaced by NULL, each as one value of the view's row
-- type: SELECT (rec).* FROM fn_db_mask_object('vds') AS masked (rec vds). The SQL text is made once and kept in
-- object_column_white_list_sql under the bare name; it goes stale when the view changes, until somebody empties that table.
CREATE FUNCTION fn_db_mask_object(v_object regclass) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    v_name varchar(128) := (SELECT relname FROM pg_class WHERE oid = v_object);
    v_sql  text;
BEGIN
    SELECT cached.sql INTO v_sql FROM object_column_white_list_sql AS cached WHERE cached.object_name = v_name;
    IF v_sql IS NULL THEN
        SELECT format(
            'SELECT CAST(ROW(%s) AS %s) FROM %s',
            string_agg(
                CASE WHEN listed.column_name IS NULL
                     THEN 'CAST(NULL AS ' || format_type(attribute.atttypid, attribute.atttypmod) || ')'
                     ELSE quote_ident(attribute.attname) END,
                ', ' ORDER BY attribute.attnum),
            v_object, v_object)
        INTO v_sql
        FROM pg_attribute AS attribute
            LEFT JOIN object_column_white_list AS listed
                ON listed.object_name = v_name AND listed.column_name = attribute.attname
        WHERE attribute.attrelid = v_object AND attribute.attnum > 0 AND NOT attribute.attisdropped;
        INSERT INTO object_column_white_list_sql (object_name, sql) VALUES (v_name, v_sql);
    END IF;
    RETURN QUERY EXECUTE v_sql;
END;
$$;
