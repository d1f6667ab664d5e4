-- What the engine writes of a host it sees. The order of the parameters is the table's: clients bind them by name.

CREATE FUNCTION InsertVdsDynamic(
    v_vds_id uuid, v_status integer, v_cpu_cores integer, v_cpu_model varchar, v_cpu_speed_mh numeric,
    v_if_total_speed varchar, v_kvm_enabled boolean, v_physical_mem_mb integer, v_mem_commited integer,
    v_vm_active integer, v_vm_count integer, v_vm_migrating integer, v_reserved_mem integer, v_guest_overhead integer,
    v_software_version varchar, v_version_name varchar, v_build_name varchar, v_previous_status integer,
    v_cpu_flags varchar, v_cpu_over_commit_time_stamp timestamptz, v_vms_cores_count integer,
    v_pending_vcpus_count integer, v_cpu_sockets integer, v_net_config_dirty boolean,
    v_supported_cluster_levels varchar, v_host_os varchar, v_kvm_version varchar, v_spice_version varchar,
    v_kernel_version varchar, v_iscsi_initiator_name varchar, v_transparent_hugepages_state integer,
    v_anonymous_hugepages integer, v_hooks varchar, v_pending_vmem_size integer, v_supported_engines varchar,
    v_rpm_version varchar, v_libvirt_version varchar, v_cpu_threads integer, v_hw_manufacturer varchar,
    v_hw_product_name varchar, v_hw_version varchar, v_hw_serial_number varchar, v_hw_uuid varchar,
    v_hw_family varchar
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vds_dynamic (
        vds_id, status, cpu_cores, cpu_model, cpu_speed_mh, if_total_speed, kvm_enabled, physical_mem_mb, mem_commited,
        vm_active, vm_count, vm_migrating, reserved_mem, guest_overhead, software_version, version_name, build_name,
        previous_status, cpu_flags, cpu_over_commit_time_stamp, vms_cores_count, pending_vcpus_count, cpu_sockets,
        net_config_dirty, supported_cluster_levels, host_os, kvm_version, spice_version, kernel_version,
        iscsi_initiator_name, transparent_hugepages_state, anonymous_hugepages, hooks, pending_vmem_size,
        supported_engines, rpm_version, libvirt_version, cpu_threads, hw_manufacturer, hw_product_name, hw_version,
        hw_serial_number, hw_uuid, hw_family
    ) VALUES (
        v_vds_id, v_status, v_cpu_cores, v_cpu_model, v_cpu_speed_mh, v_if_total_speed, v_kvm_enabled,
        v_physical_mem_mb, v_mem_commited, v_vm_active, v_vm_count, v_vm_migrating, v_reserved_mem, v_guest_overhead,
        v_software_version, v_version_name, v_build_name, v_previous_status, v_cpu_flags, v_cpu_over_commit_time_stamp,
        v_vms_cores_count, v_pending_vcpus_count, v_cpu_sockets, v_net_config_dirty, v_supported_cluster_levels,
        v_host_os, v_kvm_version, v_spice_version, v_kernel_version, v_iscsi_initiator_name,
        v_transparent_hugepages_state, v_anonymous_hugepages, v_hooks, v_pending_vmem_size, v_supported_engines,
        v_rpm_version, v_libvirt_version, v_cpu_threads, v_hw_manufacturer, v_hw_product_name, v_hw_version,
        v_hw_serial_number, v_hw_uuid, v_hw_family
    );
END;
$$;

CREATE FUNCTION UpdateVdsDynamic(
    v_vds_id uuid, v_status integer, v_cpu_cores integer, v_cpu_model varchar, v_cpu_speed_mh numeric,
    v_if_total_speed varchar, v_kvm_enabled boolean, v_physical_mem_mb integer, v_mem_commited integer,
    v_vm_active integer, v_vm_count integer, v_vm_migrating integer, v_reserved_mem integer, v_guest_overhead integer,
    v_software_version varchar, v_version_name varchar, v_build_name varchar, v_previous_status integer,
    v_cpu_flags varchar, v_cpu_over_commit_time_stamp timestamptz, v_vms_cores_count integer,
    v_pending_vcpus_count integer, v_cpu_sockets integer, v_net_config_dirty boolean,
    v_supported_cluster_levels varchar, v_host_os varchar, v_kvm_version varchar, v_spice_version varchar,
    v_kernel_version varchar, v_iscsi_initiator_name varchar, v_transparent_hugepages_state integer,
    v_anonymous_hugepages integer, v_hooks varchar, v_non_operational_reason integer, v_pending_vmem_size integer,
    v_supported_engines varchar, v_rpm_version varchar, v_libvirt_version varchar, v_cpu_threads integer,
    v_hw_manufacturer varchar, v_hw_product_name varchar, v_hw_version varchar, v_hw_serial_number varchar,
    v_hw_uuid varchar, v_hw_family varchar
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE vds_dynamic SET
        status = v_status, cpu_cores = v_cpu_cores, cpu_model = v_cpu_model, cpu_speed_mh = v_cpu_speed_mh,
        if_total_speed = v_if_total_speed, kvm_enabled = v_kvm_enabled, physical_mem_mb = v_physical_mem_mb,
        mem_commited = v_mem_commited, vm_active = v_vm_active, vm_count = v_vm_count, vm_migrating = v_vm_migrating,
        reserved_mem = v_reserved_mem, guest_overhead = v_guest_overhead, software_version = v_software_version,
        version_name = v_version_name, build_name = v_build_name, previous_status = v_previous_status,
        cpu_flags = v_cpu_flags, cpu_over_commit_time_stamp = v_cpu_over_commit_time_stamp,
        vms_cores_count = v_vms_cores_count, pending_vcpus_count = v_pending_vcpus_count, cpu_sockets = v_cpu_sockets,
        net_config_dirty = v_net_config_dirty, supported_cluster_levels = v_supported_cluster_levels,
        host_os = v_host_os, kvm_version = v_kvm_version, spice_version = v_spice_version,
        kernel_version = v_kernel_version, iscsi_initiator_name = v_iscsi_initiator_name,
        transparent_hugepages_state = v_transparent_hugepages_state, anonymous_hugepages = v_anonymous_hugepages,
        hooks = v_hooks, non_operational_reason = v_non_operational_reason, pending_vmem_size = v_pending_vmem_size,
        supported_engines = v_supported_engines, rpm_version = v_rpm_version, libvirt_version = v_libvirt_version,
        cpu_threads = v_cpu_threads, hw_manufacturer = v_hw_manufacturer, hw_product_name = v_hw_product_name,
        hw_version = v_hw_version, hw_serial_number = v_hw_serial_number, hw_uuid = v_hw_uuid, hw_family = v_hw_family,
        _update_date = LOCALTIMESTAMP
    WHERE vds_id = v_vds_id;
END;
$$;
