-- The views on hosts, with their columns in the order clients of 3.2-snapshot know.

-- A tagged host, once per tag.
CREATE VIEW tags_vds_map_view AS
SELECT tags.tag_id, tags.tag_name, tags.parent_id, tags.readonly, tags.type, tags_vds_map.vds_id
FROM tags
    INNER JOIN tags_vds_map ON tags_vds_map.tag_id = tags.tag_id;

-- Hosts: 93 columns. A host without a row in vds_dynamic or vds_statistics is not seen here. spm_status: 0 = is not the
-- storage pool manager of its data centre, 1 = is becoming it, 2 = is it.
CREATE VIEW vds AS
SELECT
    vds_groups.vds_group_id, vds_groups.name AS vds_group_name, vds_groups.description AS vds_group_description,
    vds_groups.selection_algorithm, vds_static.vds_id, vds_static.vds_name, vds_static.ip, vds_static.vds_unique_id,
    vds_static.host_name, vds_static.port, vds_static.vds_strength, vds_static.server_ssl_enabled,
    vds_static.vds_type, vds_static.pm_type, vds_static.pm_user, vds_static.pm_password, vds_static.pm_port,
    vds_static.pm_options, vds_static.pm_enabled, vds_static.pm_proxy_preferences, vds_static.vds_spm_priority,
    vds_dynamic.hooks, vds_dynamic.status, vds_dynamic.cpu_cores, vds_dynamic.cpu_threads, vds_dynamic.cpu_model,
    vds_dynamic.cpu_speed_mh, vds_dynamic.if_total_speed, vds_dynamic.kvm_enabled, vds_dynamic.physical_mem_mb,
    vds_dynamic.pending_vcpus_count, vds_dynamic.pending_vmem_size, vds_dynamic.mem_commited, vds_dynamic.vm_active,
    vds_dynamic.vm_count, vds_dynamic.vm_migrating, vds_dynamic.vms_cores_count,
    vds_dynamic.cpu_over_commit_time_stamp, vds_dynamic.net_config_dirty, vds_groups.high_utilization,
    vds_groups.low_utilization, vds_groups.max_vds_memory_over_commit, vds_groups.cpu_over_commit_duration_minutes,
    vds_groups.count_threads_as_cores, storage_pool.id AS storage_pool_id, storage_pool.name AS storage_pool_name,
    vds_dynamic.reserved_mem, vds_dynamic.guest_overhead, vds_dynamic.rpm_version, vds_dynamic.software_version,
    vds_dynamic.version_name, vds_dynamic.build_name, vds_dynamic.previous_status, vds_statistics.cpu_idle,
    vds_statistics.cpu_load, vds_statistics.cpu_sys, vds_statistics.cpu_user, vds_statistics.usage_mem_percent,
    vds_statistics.usage_cpu_percent, vds_statistics.usage_network_percent, vds_statistics.mem_available,
    vds_statistics.mem_shared, vds_statistics.swap_free, vds_statistics.swap_total, vds_statistics.ksm_cpu_percent,
    vds_statistics.ksm_pages, vds_statistics.ksm_state, vds_dynamic.cpu_flags,
    vds_groups.cpu_name AS vds_group_cpu_name, vds_dynamic.cpu_sockets, vds_spm_id_map.vds_spm_id,
    vds_static.otp_validity,
    CASE
        WHEN storage_pool.spm_vds_id = vds_static.vds_id THEN CASE storage_pool.status WHEN 5 THEN 1 ELSE 2 END
        ELSE 0
    END AS spm_status,
    vds_dynamic.supported_cluster_levels, vds_dynamic.supported_engines,
    vds_groups.compatibility_version AS vds_group_compatibility_version, vds_dynamic.host_os,
    vds_dynamic.kvm_version, vds_dynamic.libvirt_version, vds_dynamic.spice_version, vds_dynamic.kernel_version,
    vds_dynamic.iscsi_initiator_name, vds_dynamic.transparent_hugepages_state, vds_dynamic.anonymous_hugepages,
    vds_dynamic.non_operational_reason, vds_static.recoverable, vds_static.sshkeyfingerprint,
    vds_dynamic.hw_manufacturer, vds_dynamic.hw_product_name, vds_dynamic.hw_version, vds_dynamic.hw_serial_number,
    vds_dynamic.hw_uuid, vds_dynamic.hw_family
FROM vds_groups
    INNER JOIN vds_static ON vds_static.vds_group_id = vds_groups.vds_group_id
    INNER JOIN vds_dynamic ON vds_dynamic.vds_id = vds_static.vds_id
    INNER JOIN vds_statistics ON vds_statistics.vds_id = vds_static.vds_id
    LEFT JOIN storage_pool ON storage_pool.id = vds_groups.storage_pool_id
    LEFT JOIN vds_spm_id_map ON vds_spm_id_map.vds_id = vds_static.vds_id;

-- Hosts for the search: 92 columns, one row per host, tag and storage domain of its data centre. Made from the tables, not
-- from vds, and not parallel to it.
CREATE VIEW vds_with_tags AS
SELECT
    vds_groups.vds_group_id, vds_groups.name AS vds_group_name, vds_groups.description AS vds_group_description,
    vds_groups.selection_algorithm, vds_static.vds_id, vds_static.vds_name, vds_static.ip, vds_static.vds_unique_id,
    vds_static.host_name, vds_static.port, vds_static.vds_strength, vds_static.server_ssl_enabled,
    vds_static.vds_type, vds_static.pm_type, vds_static.pm_user, vds_static.pm_password, vds_static.pm_port,
    vds_dynamic.hw_product_name, vds_dynamic.hw_version, vds_dynamic.hw_serial_number, vds_dynamic.hw_uuid,
    vds_dynamic.hw_family, vds_static.pm_options, vds_static.pm_enabled, vds_static.pm_proxy_preferences,
    vds_dynamic.hooks, vds_dynamic.status, vds_dynamic.cpu_cores, vds_dynamic.cpu_threads, vds_dynamic.cpu_model,
    vds_dynamic.cpu_speed_mh, vds_dynamic.if_total_speed, vds_dynamic.kvm_enabled, vds_dynamic.physical_mem_mb,
    vds_dynamic.pending_vcpus_count, vds_dynamic.pending_vmem_size, vds_dynamic.mem_commited, vds_dynamic.vm_active,
    vds_dynamic.vm_count, vds_dynamic.vm_migrating, vds_dynamic.vms_cores_count,
    vds_dynamic.cpu_over_commit_time_stamp, vds_dynamic.net_config_dirty, vds_groups.high_utilization,
    vds_groups.low_utilization, vds_groups.max_vds_memory_over_commit, vds_groups.cpu_over_commit_duration_minutes,
    vds_groups.count_threads_as_cores, storage_pool.id AS storage_pool_id, storage_pool.name AS storage_pool_name,
    tags_vds_map_view.tag_name, tags_vds_map_view.tag_id, vds_dynamic.reserved_mem, vds_dynamic.guest_overhead,
    vds_dynamic.rpm_version, vds_dynamic.software_version, vds_dynamic.version_name, vds_dynamic.build_name,
    vds_dynamic.previous_status, vds_statistics.cpu_idle, vds_statistics.cpu_load, vds_statistics.cpu_sys,
    vds_statistics.cpu_user, vds_statistics.usage_mem_percent, vds_statistics.usage_cpu_percent,
    vds_statistics.usage_network_percent, vds_statistics.mem_available, vds_statistics.mem_shared,
    vds_statistics.swap_free, vds_statistics.swap_total, vds_statistics.ksm_cpu_percent, vds_statistics.ksm_pages,
    vds_statistics.ksm_state, vds_dynamic.cpu_flags, vds_groups.cpu_name AS vds_group_cpu_name,
    vds_dynamic.cpu_sockets, vds_spm_id_map.vds_spm_id, vds_static.otp_validity,
    CASE
        WHEN storage_pool.spm_vds_id = vds_static.vds_id THEN CASE storage_pool.status WHEN 5 THEN 1 ELSE 2 END
        ELSE 0
    END AS spm_status,
    vds_dynamic.supported_cluster_levels, vds_dynamic.supported_engines,
    vds_groups.compatibility_version AS vds_group_compatibility_version, vds_dynamic.host_os,
    vds_dynamic.kvm_version, vds_dynamic.libvirt_version, vds_dynamic.spice_version, vds_dynamic.kernel_version,
    vds_dynamic.iscsi_initiator_name, vds_dynamic.transparent_hugepages_state, vds_dynamic.anonymous_hugepages,
    vds_dynamic.non_operational_reason, storage_pool_iso_map.storage_id
FROM vds_groups
    INNER JOIN vds_static ON vds_static.vds_group_id = vds_groups.vds_group_id
    INNER JOIN vds_dynamic ON vds_dynamic.vds_id = vds_static.vds_id
    INNER JOIN vds_statistics ON vds_statistics.vds_id = vds_static.vds_id
    LEFT JOIN storage_pool ON storage_pool.id = vds_groups.storage_pool_id
    LEFT JOIN tags_vds_map_view ON tags_vds_map_view.vds_id = vds_static.vds_id
    LEFT JOIN vds_spm_id_map ON vds_spm_id_map.vds_id = vds_static.vds_id
    LEFT JOIN storage_pool_iso_map ON storage_pool_iso_map.storage_pool_id = storage_pool.id;

-- For the data warehouse: hosts that changed since it last looked ...
CREATE VIEW dwh_host_configuration_history_view AS
SELECT
    vds_static.vds_id AS host_id,
    vds_static.vds_unique_id AS host_unique_id,
    vds_static.vds_name AS host_name,
    vds_static.vds_group_id AS cluster_id,
    CAST(vds_static.vds_type AS smallint) AS host_type,
    vds_static.host_name AS fqdn_or_ip,
    vds_dynamic.physical_mem_mb AS memory_size_mb,
    CAST(vds_statistics.swap_total AS integer) AS swap_size_mb,
    vds_dynamic.cpu_model,
    CAST(vds_dynamic.cpu_cores AS smallint) AS number_of_cores,
    CAST(vds_dynamic.cpu_sockets AS smallint) AS number_of_sockets,
    vds_dynamic.cpu_speed_mh,
    vds_dynamic.host_os,
    vds_static.ip AS pm_ip_address,
    vds_dynamic.kernel_version,
    vds_dynamic.kvm_version,
    vds_dynamic.libvirt_version,
    vds_dynamic.software_version AS vdsm_version,
    vds_static.port AS vdsm_port,
    vds_static._create_date AS create_date,
    vds_static._update_date AS update_date
FROM vds_static
    INNER JOIN vds_dynamic ON vds_dynamic.vds_id = vds_static.vds_id
    INNER JOIN vds_statistics ON vds_statistics.vds_id = vds_static.vds_id
WHERE vds_static._create_date > (SELECT var_datetime FROM dwh_history_timekeeping WHERE var_name = 'lastSync')
   OR vds_static._update_date > (SELECT var_datetime FROM dwh_history_timekeeping WHERE var_name = 'lastSync');

-- ... and every host, with old daemon versions under the names they were sold by.
CREATE VIEW dwh_host_configuration_full_check_view AS
SELECT
    vds_static.vds_id AS host_id,
    vds_static.vds_unique_id AS host_unique_id,
    vds_static.vds_name AS host_name,
    vds_static.vds_group_id AS cluster_id,
    CAST(vds_static.vds_type AS smallint) AS host_type,
    vds_static.host_name AS fqdn_or_ip,
    vds_dynamic.physical_mem_mb AS memory_size_mb,
    CAST(vds_statistics.swap_total AS integer) AS swap_size_mb,
    vds_dynamic.cpu_model,
    CAST(vds_dynamic.cpu_cores AS smallint) AS number_of_cores,
    CAST(vds_dynamic.cpu_sockets AS smallint) AS number_of_sockets,
    vds_dynamic.cpu_speed_mh,
    vds_dynamic.host_os,
    vds_static.ip AS pm_ip_address,
    vds_dynamic.kernel_version,
    vds_dynamic.kvm_version,
    vds_dynamic.libvirt_version,
    CAST(
        CASE substr(vds_dynamic.software_version, 1, 3)
            WHEN '4.4' THEN '2.1' || substr(vds_dynamic.software_version, 4)
            WHEN '4.5' THEN '2.2' || substr(vds_dynamic.software_version, 4)
            WHEN '4.9' THEN '2.3' || substr(vds_dynamic.software_version, 4)
            ELSE vds_dynamic.software_version
        END AS varchar) AS vdsm_version,
    vds_static.port AS vdsm_port,
    vds_static._create_date AS create_date,
    vds_static._update_date AS update_date
FROM vds_static
    INNER JOIN vds_dynamic ON vds_dynamic.vds_id = vds_static.vds_id
    INNER JOIN vds_statistics ON vds_statistics.vds_id = vds_static.vds_id;
