-- Procedures that are alike in both shapes.

-- An alert is about a host that is there.
CREATE FUNCTION DeleteAuditLogAlertsByVdsID(v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM audit_log WHERE vds_id = v_vds_id AND severity = 10;
END;
$$;

-- Remove a host that has no vds_dynamic and vds_statistics any more; otherwise their foreign keys refuse.
CREATE FUNCTION DeleteVdsStatic(v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vm_static SET dedicated_vm_for_vds = NULL, migration_support = 0 WHERE dedicated_vm_for_vds = v_vds_id;
    DELETE FROM tags_vds_map WHERE vds_id = v_vds_id;
    PERFORM DeleteAuditLogAlertsByVdsID(v_vds_id);
    DELETE FROM vds_static WHERE vds_id = v_vds_id;
    DELETE FROM permissions WHERE object_id = v_vds_id;
END;
$$;

-- Remove a host with everything about it. VMs pinned to it keep their migration_support.
CREATE FUNCTION DeleteVds(v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vm_static SET dedicated_vm_for_vds = NULL WHERE dedicated_vm_for_vds = v_vds_id;
    DELETE FROM tags_vds_map WHERE vds_id = v_vds_id;
    PERFORM DeleteAuditLogAlertsByVdsID(v_vds_id);
    DELETE FROM vds_statistics WHERE vds_id = v_vds_id;
    DELETE FROM vds_dynamic WHERE vds_id = v_vds_id;
    DELETE FROM vds_static WHERE vds_id = v_vds_id;
    DELETE FROM permissions WHERE object_id = v_vds_id;
END;
$$;

CREATE FUNCTION DeleteVdsDynamic(v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vds_dynamic WHERE vds_id = v_vds_id;
END;
$$;

CREATE FUNCTION DeleteVdsStatistics(v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vds_statistics WHERE vds_id = v_vds_id;
END;
$$;

CREATE FUNCTION UpdateVdsDynamicStatus(v_vds_guid uuid, v_status integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vds_dynamic SET status = v_status WHERE vds_id = v_vds_guid;
END;
$$;

CREATE FUNCTION InsertVdsStatistics(
    v_cpu_idle numeric, v_cpu_load numeric, v_cpu_sys numeric, v_cpu_user numeric, v_usage_cpu_percent integer,
    v_usage_mem_percent integer, v_usage_network_percent integer, v_vds_id uuid, v_mem_available bigint, v_mem_shared bigint,
    v_swap_free bigint, v_swap_total bigint, v_ksm_cpu_percent integer, v_ksm_pages bigint, v_ksm_state boolean
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vds_statistics (
        cpu_idle, cpu_load, cpu_sys, cpu_user, usage_cpu_percent, usage_mem_percent, usage_network_percent, vds_id,
        mem_available, mem_shared, swap_free, swap_total, ksm_cpu_percent, ksm_pages, ksm_state
    ) VALUES (
        v_cpu_idle, v_cpu_load, v_cpu_sys, v_cpu_user, v_usage_cpu_percent, v_usage_mem_percent, v_usage_network_percent,
        v_vds_id, v_mem_available, v_mem_shared, v_swap_free, v_swap_total, v_ksm_cpu_percent, v_ksm_pages, v_ksm_state
    );
END;
$$;

CREATE FUNCTION InsertVds_spm_id_map(v_storage_pool_id uuid, v_vds_id uuid, v_vds_spm_id integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vds_spm_id_map (storage_pool_id, vds_id, vds_spm_id) VALUES (v_storage_pool_id, v_vds_id, v_vds_spm_id);
END;
$$;

CREATE FUNCTION DeleteVds_spm_id_map(v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vds_spm_id_map WHERE vds_id = v_vds_id;
END;
$$;

CREATE FUNCTION InsertTags_vds_map(v_tag_id uuid, v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tags_vds_map (tag_id, vds_id) VALUES (v_tag_id, v_vds_id);
END;
$$;

CREATE FUNCTION DeleteTags_vds_map(v_tag_id uuid, v_vds_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM tags_vds_map WHERE tag_id = v_tag_id AND vds_id = v_vds_id;
END;
$$;

-- The id comes from the sequence and is handed back, whatever was passed in.
CREATE FUNCTION InsertVdcOption(v_option_name varchar, v_option_value varchar, v_version varchar, INOUT v_option_id integer)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vdc_options (option_name, option_value, version)
    VALUES (v_option_name, v_option_value, v_version)
    RETURNING option_id INTO v_option_id;
END;
$$;

CREATE FUNCTION UpdateVdcOption(v_option_name varchar, v_option_value varchar, v_option_id integer, v_version varchar)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vdc_options SET option_name = v_option_name, option_value = v_option_value, version = v_version
    WHERE option_id = v_option_id;
END;
$$;

CREATE FUNCTION DeleteVdcOption(v_option_id integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM vdc_options WHERE option_id = v_option_id;
END;
$$;

CREATE FUNCTION GetVdcOptionByName(v_option_name varchar, v_version varchar)
RETURNS SETOF vdc_options LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vdc_options.* FROM vdc_options WHERE option_name = v_option_name AND version = v_version;
END;
$$;

CREATE FUNCTION GetVdcOptionById(v_option_id integer) RETURNS SETOF vdc_options LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vdc_options.* FROM vdc_options WHERE option_id = v_option_id;
END;
$$;

CREATE FUNCTION GetAllFromVdcOption() RETURNS SETOF vdc_options LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vdc_options.* FROM vdc_options;
END;
$$;

-- Two functions of one name, told apart by their arguments: the engine has always had this one pair.
CREATE FUNCTION attach_user_to_su_role(v_user_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM attach_user_to_su_role(uuid_generate_v1(), v_user_id);
END;
$$;

CREATE FUNCTION attach_user_to_su_role(v_permission_id uuid, v_user_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO permissions (id, role_id, ad_element_id, object_id, object_type_id)
    VALUES (
        v_permission_id, '00000000-0000-0000-0000-000000000001', v_user_id, '00000000-0000-0000-0000-000000000001', 1
    );
END;
$$;
