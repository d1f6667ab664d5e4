-- Reads of hosts. All give whole rows, so a column appended to the view or the table appears at the end at once.
--
-- Where v_is_filtered is given, a filtered read returns only hosts v_user_id may see; two of the four also mask their columns.
-- The other two show every column, passwords included: so they were, and callers depend on the signatures.

CREATE FUNCTION GetAllFromVds(v_user_id uuid, v_is_filtered boolean) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE (NOT v_is_filtered OR EXISTS (
        SELECT 1 FROM user_vds_permissions_view AS seen WHERE seen.user_id = v_user_id AND seen.entity_id = vds.vds_id
    ));
END;
$$;

CREATE FUNCTION GetVdsByStoragePoolId(v_storage_pool_id uuid, v_user_id uuid, v_is_filtered boolean)
RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE storage_pool_id = v_storage_pool_id AND (NOT v_is_filtered OR EXISTS (
        SELECT 1 FROM user_vds_permissions_view AS seen WHERE seen.user_id = v_user_id AND seen.entity_id = vds.vds_id
    ));
END;
$$;

CREATE FUNCTION GetVdsByVdsId(v_vds_id uuid, v_user_id uuid, v_is_filtered boolean) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    IF v_is_filtered THEN
        RETURN QUERY
        SELECT DISTINCT (masked.rec).*
        FROM fn_db_mask_object('vds') AS masked (rec vds)
        WHERE (masked.rec).vds_id = v_vds_id AND EXISTS (
            SELECT 1 FROM user_vds_permissions_view AS seen
            WHERE seen.user_id = v_user_id AND seen.entity_id = (masked.rec).vds_id
        );
    ELSE
        RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE vds.vds_id = v_vds_id;
    END IF;
END;
$$;

CREATE FUNCTION GetVdsByVdsGroupId(v_vds_group_id uuid, v_user_id uuid, v_is_filtered boolean)
RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    IF v_is_filtered THEN
        RETURN QUERY
        SELECT DISTINCT (masked.rec).*
        FROM fn_db_mask_object('vds') AS masked (rec vds)
        WHERE (masked.rec).vds_group_id = v_vds_group_id AND EXISTS (
            SELECT 1 FROM user_vds_permissions_view AS seen
            WHERE seen.user_id = v_user_id AND seen.entity_id = (masked.rec).vds_id
        );
    ELSE
        RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE vds.vds_group_id = v_vds_group_id;
    END IF;
END;
$$;

CREATE FUNCTION GetVdsByName(v_vds_name varchar) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE vds_name = v_vds_name;
END;
$$;

CREATE FUNCTION GetVdsByHostName(v_host_name varchar) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE host_name = v_host_name;
END;
$$;

-- ip is the address of the primary power management agent.
CREATE FUNCTION GetVdsByIp(v_ip varchar) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE ip = v_ip;
END;
$$;

CREATE FUNCTION GetVdsByUniqueID(v_vds_unique_id varchar) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE vds_unique_id = v_vds_unique_id;
END;
$$;

CREATE FUNCTION GetVdsByType(v_vds_type integer) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT DISTINCT vds.* FROM vds WHERE vds_type = v_vds_type;
END;
$$;

CREATE FUNCTION GetVdsForVdsGroupWithStatus(v_vds_group_id uuid, v_status integer) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds.* FROM vds WHERE vds_group_id = v_vds_group_id AND status = v_status;
END;
$$;

-- Hosts that went non operational and may be tried again.
CREATE FUNCTION GetFailingVdss() RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds.* FROM vds WHERE recoverable AND status = 10;
END;
$$;

-- Hosts that may become storage pool manager, the preferred first, equals in any order; -1 = never.
CREATE FUNCTION GetUpAndPrioritizedVds(v_storage_pool_id uuid) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT vds.* FROM vds
    WHERE status = 3 AND storage_pool_id = v_storage_pool_id AND (vds_spm_priority IS NULL OR vds_spm_priority > -1)
    ORDER BY vds_spm_priority DESC, random();
END;
$$;

-- Hosts that are up and to which or from which no VM is on its way.
CREATE FUNCTION GetVdsWithoutMigratingVmsByVdsGroupId(v_vds_group_id uuid) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT DISTINCT vds.* FROM vds
    WHERE vds_group_id = v_vds_group_id AND status = 3 AND coalesce(pending_vcpus_count, 0) = 0 AND NOT EXISTS (
        SELECT 1 FROM vm_dynamic
        WHERE vm_dynamic.status IN (5, 6) AND vds.vds_id IN (vm_dynamic.run_on_vds, vm_dynamic.migrating_to_vds)
    );
END;
$$;

-- The same from vds_static alone.
CREATE FUNCTION GetAllFromVdsStatic() RETURNS SETOF vds_static LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds_static.* FROM vds_static;
END;
$$;

CREATE FUNCTION GetVdsStaticByVdsId(v_vds_id uuid) RETURNS SETOF vds_static LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds_static.* FROM vds_static WHERE vds_id = v_vds_id;
END;
$$;

CREATE FUNCTION GetVdsStaticByVdsName(v_vds_name varchar) RETURNS SETOF vds_static LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds_static.* FROM vds_static WHERE vds_name = v_vds_name;
END;
$$;

CREATE FUNCTION GetVdsStaticByHostName(v_host_name varchar) RETURNS SETOF vds_static LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds_static.* FROM vds_static WHERE host_name = v_host_name;
END;
$$;

CREATE FUNCTION GetVdsStaticByIp(v_ip varchar) RETURNS SETOF vds_static LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds_static.* FROM vds_static WHERE ip = v_ip;
END;
$$;

CREATE FUNCTION GetVdsStaticByVdsGroupId(v_vds_group_id uuid) RETURNS SETOF vds_static LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds_static.* FROM vds_static WHERE vds_group_id = v_vds_group_id;
END;
$$;
