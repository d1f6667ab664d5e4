-- The rows of the hosts themselves, in the columns of the snapshot.

INSERT INTO vds_static (
    vds_id, vds_name, ip, vds_unique_id, host_name, port, vds_group_id, server_ssl_enabled, vds_type, vds_strength, pm_type,
    pm_user, pm_password, pm_port, pm_options, pm_enabled, _create_date, _update_date, otp_validity, vds_spm_priority,
    recoverable, sshkeyfingerprint, pm_proxy_preferences
)
SELECT
    vds_id, vds_name, ip, vds_unique_id, host_name, 54321, (SELECT vds_group_id FROM vds_groups), true, vds_type, 100, pm_type,
    pm_user, pm_password, pm_port, pm_options, pm_enabled, created, updated, otp_validity, vds_spm_priority,
    recoverable, sshkeyfingerprint, pm_proxy_preferences
FROM filling
ORDER BY n;

INSERT INTO vds_dynamic (
    vds_id, status, cpu_cores, cpu_model, cpu_speed_mh, if_total_speed, kvm_enabled, physical_mem_mb, vm_active, vm_count,
    software_version, cpu_flags, cpu_sockets, net_config_dirty, supported_cluster_levels, host_os, kvm_version,
    kernel_version, _update_date, non_operational_reason, supported_engines, rpm_version, libvirt_version, cpu_threads,
    hw_manufacturer, hw_product_name, hw_version, hw_serial_number, hw_uuid, hw_family
)
SELECT
    vds_id, status, cpu_cores, 'Intel(R) Xeon(R) CPU X5570 @ 2.93GHz', 2930, '2000', true, physical_mem_mb, vm_count, vm_count,
    software_version, 'fpu,vme,de,pse,tsc,msr,vmx,model_Nehalem', cpu_sockets, false, '3.0,3.1,3.2', 'Fedora - 18 - 1',
    '1.2.2 - 1.fc18', '3.7.1 - 5.fc18.x86_64', updated, CASE WHEN status = 10 THEN 7 ELSE 0 END, '3.0,3.1,3.2',
    'vdsm-4.10.2-6.fc18', 'libvirt-1.0.1-3.fc18', 2 * cpu_cores,
    'Example Machines', 'Rack 2U', 'A1', 'SN' || n, upper(md5('machine ' || n)::uuid::text), 'Rack'
FROM filling
ORDER BY n;
