-- Reads of hosts that 3.1.0 does not have.

CREATE FUNCTION GetVdsByStoragePoolIdWithStatus(v_storage_pool_id uuid, v_status integer)
RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT vds.* FROM vds WHERE storage_pool_id = v_storage_pool_id AND status = v_status;
END;
$$;

-- Hosts that carry a network of their cluster on an interface ...
CREATE FUNCTION GetVdsByNetworkId(v_network_id uuid) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT vds.* FROM vds
    WHERE EXISTS (
        SELECT 1
        FROM network
            INNER JOIN network_cluster ON network_cluster.network_id = network.id
            INNER JOIN vds_interface ON vds_interface.network_name = network.name
        WHERE network.id = v_network_id AND network_cluster.cluster_id = vds.vds_group_id AND vds_interface.vds_id = vds.vds_id
    );
END;
$$;

-- ... and hosts of the network's clusters that do not.
CREATE FUNCTION GetVdsWithoutNetwork(v_network_id uuid) RETURNS SETOF vds LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT vds.* FROM vds
        INNER JOIN network_cluster ON network_cluster.cluster_id = vds.vds_group_id
    WHERE network_cluster.network_id = v_network_id AND NOT EXISTS (
        SELECT 1
        FROM network
            INNER JOIN vds_interface ON vds_interface.network_name = network.name
        WHERE network.id = v_network_id AND vds_interface.vds_id = vds.vds_id
    );
END;
$$;

-- Reads vds by name without returning its row type: dropping vds would leave it behind, broken.
CREATE FUNCTION GetVdsInterfacesByNetworkId(v_network_id uuid) RETURNS SETOF vds_interface_view LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT vds_interface_view.*
    FROM vds_interface_view
        INNER JOIN vds ON vds.vds_id = vds_interface_view.vds_id
        INNER JOIN network_cluster ON network_cluster.cluster_id = vds.vds_group_id
        INNER JOIN network ON network.id = network_cluster.network_id AND network.name = vds_interface_view.network_name
    WHERE network.id = v_network_id;
END;
$$;
