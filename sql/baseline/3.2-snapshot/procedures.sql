-- Procedures whose signatures differ between the shapes.

-- Add a host. A host whose unique id is there already is not added, and nobody is told.
-- The caller gives the id.
CREATE FUNCTION InsertVdsStatic(
    v_vds_id uuid, v_host_name varchar, v_ip varchar, v_vds_unique_id varchar, v_port integer,
    v_vds_group_id uuid, v_vds_name varchar, v_server_ssl_enabled boolean, v_vds_type integer,
    v_vds_strength integer, v_pm_type varchar, v_pm_user varchar, v_pm_password varchar, v_pm_port integer,
    v_pm_options varchar, v_pm_enabled boolean, v_pm_proxy_preferences varchar, v_vds_spm_priority integer,
    v_sshkeyfingerprint varchar
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF v_vds_unique_id IS NOT NULL AND EXISTS (SELECT 1 FROM vds_static WHERE vds_unique_id = v_vds_unique_id) THEN
        RETURN;
    END IF;
    INSERT INTO vds_static (
        vds_id, host_name, ip, vds_unique_id, port, vds_group_id, vds_name, server_ssl_enabled, vds_type, vds_strength,
        pm_type, pm_user, pm_password, pm_port, pm_options, pm_enabled, pm_proxy_preferences, vds_spm_priority,
        sshkeyfingerprint
    ) VALUES (
        v_vds_id, v_host_name, v_ip, v_vds_unique_id, v_port, v_vds_group_id, v_vds_name, v_server_ssl_enabled,
        v_vds_type, v_vds_strength, v_pm_type, v_pm_user, v_pm_password, v_pm_port, v_pm_options, v_pm_enabled,
        v_pm_proxy_preferences, v_vds_spm_priority, v_sshkeyfingerprint
    );
END;
$$;

-- Set all of a host's columns; there is no value that means "keep". The stamp makes the data warehouse see the change.
-- recoverable is not touched. No such host: nothing happens.
CREATE FUNCTION UpdateVdsStatic(
    v_host_name varchar, v_ip varchar, v_vds_unique_id varchar, v_port integer, v_vds_group_id uuid,
    v_vds_id uuid, v_vds_name varchar, v_server_ssl_enabled boolean, v_vds_type integer, v_vds_strength integer,
    v_pm_type varchar, v_pm_user varchar, v_pm_password varchar, v_pm_port integer, v_pm_options varchar,
    v_pm_enabled boolean, v_pm_proxy_preferences varchar, v_otp_validity bigint, v_vds_spm_priority integer,
    v_sshkeyfingerprint varchar
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vds_static SET
        host_name = v_host_name, ip = v_ip, vds_unique_id = v_vds_unique_id, port = v_port,
        vds_group_id = v_vds_group_id, vds_name = v_vds_name, server_ssl_enabled = v_server_ssl_enabled,
        vds_type = v_vds_type, vds_strength = v_vds_strength, pm_type = v_pm_type, pm_user = v_pm_user,
        pm_password = v_pm_password, pm_port = v_pm_port, pm_options = v_pm_options, pm_enabled = v_pm_enabled,
        pm_proxy_preferences = v_pm_proxy_preferences, otp_validity = v_otp_validity,
        vds_spm_priority = v_vds_spm_priority, sshkeyfingerprint = v_sshkeyfingerprint, _update_date = LOCALTIMESTAMP
    WHERE vds_id = v_vds_id;
END;
$$;

-- Add a host with empty vds_dynamic and vds_statistics. The engine itself does not call it.
CREATE FUNCTION InsertVds(
    v_vds_id uuid, v_host_name varchar, v_ip varchar, v_vds_unique_id varchar, v_port integer,
    v_vds_group_id uuid, v_vds_name varchar, v_server_ssl_enabled boolean, v_vds_type integer,
    v_vds_strength integer, v_pm_type varchar, v_pm_user varchar, v_pm_password varchar, v_pm_port integer,
    v_pm_options varchar, v_pm_enabled boolean, v_pm_proxy_preferences varchar, v_vds_spm_priority integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vds_static (
        vds_id, host_name, ip, vds_unique_id, port, vds_group_id, vds_name, server_ssl_enabled, vds_type, vds_strength,
        pm_type, pm_user, pm_password, pm_port, pm_options, pm_enabled, pm_proxy_preferences, vds_spm_priority
    ) VALUES (
        v_vds_id, v_host_name, v_ip, v_vds_unique_id, v_port, v_vds_group_id, v_vds_name, v_server_ssl_enabled,
        v_vds_type, v_vds_strength, v_pm_type, v_pm_user, v_pm_password, v_pm_port, v_pm_options, v_pm_enabled,
        v_pm_proxy_preferences, v_vds_spm_priority
    );
    INSERT INTO vds_dynamic (vds_id, status) VALUES (v_vds_id, 0);
    INSERT INTO vds_statistics (vds_id) VALUES (v_vds_id);
END;
$$;

CREATE FUNCTION InsertTags(
    v_description varchar, v_tag_id uuid, v_tag_name varchar, v_parent_id uuid, v_readonly boolean, v_type integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tags (description, tag_id, tag_name, parent_id, readonly, type)
    VALUES (v_description, v_tag_id, v_tag_name, v_parent_id, v_readonly, v_type);
END;
$$;
