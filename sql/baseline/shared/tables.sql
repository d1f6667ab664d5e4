-- Tables that refer to hosts and are alike in both shapes.

CREATE TABLE vds_statistics (
    vds_id                uuid          NOT NULL,
    cpu_idle              numeric(18,0) DEFAULT 0,
    cpu_load              numeric(18,0) DEFAULT 0,
    cpu_sys               numeric(18,0) DEFAULT 0,
    cpu_user              numeric(18,0) DEFAULT 0,
    usage_mem_percent     integer       DEFAULT 0,
    usage_cpu_percent     integer       DEFAULT 0,
    usage_network_percent integer,
    mem_available         bigint,
    mem_shared            bigint,
    swap_free             bigint,
    swap_total            bigint,
    ksm_cpu_percent       integer       DEFAULT 0,
    ksm_pages             bigint,
    ksm_state             boolean,
    CONSTRAINT pk_vds_statistics PRIMARY KEY (vds_id),
    CONSTRAINT vds_static_vds_statistics FOREIGN KEY (vds_id) REFERENCES vds_static (vds_id)
);

-- vds_id is not unique: a host mapped in two data centres stands twice in the view vds.
CREATE TABLE vds_spm_id_map (
    storage_pool_id uuid    NOT NULL,
    vds_spm_id      integer NOT NULL,
    vds_id          uuid    NOT NULL,
    CONSTRAINT pk_vds_spm_id_map PRIMARY KEY (storage_pool_id, vds_spm_id),
    CONSTRAINT fk_vds_spm_id_map_storage_pool FOREIGN KEY (storage_pool_id) REFERENCES storage_pool (id) ON DELETE CASCADE,
    CONSTRAINT fk_vds_spm_id_map_vds_id FOREIGN KEY (vds_id) REFERENCES vds_static (vds_id) ON DELETE CASCADE
);

CREATE TABLE tags_vds_map (
    tag_id       uuid NOT NULL,
    vds_id       uuid NOT NULL,
    _create_date timestamptz DEFAULT LOCALTIMESTAMP,
    CONSTRAINT pk_tags_vds_map PRIMARY KEY (tag_id, vds_id),
    CONSTRAINT tags_vds_map_tag FOREIGN KEY (tag_id) REFERENCES tags (tag_id),
    CONSTRAINT tags_vds_map_vds FOREIGN KEY (vds_id) REFERENCES vds_static (vds_id)
);

-- Below: as much of the engine's other tables as the host procedures, getters and views touch.

CREATE TABLE vm_static (
    vm_guid              uuid         NOT NULL,
    vm_name              varchar(255) NOT NULL,
    vds_group_id         uuid         NOT NULL,
    dedicated_vm_for_vds uuid,
    migration_support    integer      NOT NULL DEFAULT 0,
    CONSTRAINT pk_vm_static PRIMARY KEY (vm_guid),
    CONSTRAINT vds_groups_vm_static FOREIGN KEY (vds_group_id) REFERENCES vds_groups (vds_group_id),
    CONSTRAINT vds_static_vm_static FOREIGN KEY (dedicated_vm_for_vds) REFERENCES vds_static (vds_id)
);

-- status 1 = up; 5 and 6 = migrating from and to a host
CREATE TABLE vm_dynamic (
    vm_guid          uuid    NOT NULL,
    status           integer NOT NULL,
    run_on_vds       uuid,
    migrating_to_vds uuid,
    CONSTRAINT pk_vm_dynamic PRIMARY KEY (vm_guid),
    CONSTRAINT vm_static_vm_dynamic FOREIGN KEY (vm_guid) REFERENCES vm_static (vm_guid),
    CONSTRAINT vds_static_vm_dynamic_r FOREIGN KEY (run_on_vds) REFERENCES vds_static (vds_id),
    CONSTRAINT vds_static_vm_dynamic_m FOREIGN KEY (migrating_to_vds) REFERENCES vds_static (vds_id)
);

CREATE TABLE network (
    id              uuid        NOT NULL,
    name            varchar(50) NOT NULL,
    storage_pool_id uuid,
    CONSTRAINT pk_network PRIMARY KEY (id),
    CONSTRAINT fk_network_storage_pool_id FOREIGN KEY (storage_pool_id) REFERENCES storage_pool (id) ON DELETE SET NULL
);

CREATE TABLE network_cluster (
    network_id uuid    NOT NULL,
    cluster_id uuid    NOT NULL,
    status     integer NOT NULL DEFAULT 0,
    CONSTRAINT pk_network_cluster PRIMARY KEY (network_id, cluster_id),
    CONSTRAINT fk_network_cluster_network FOREIGN KEY (network_id) REFERENCES network (id) ON DELETE CASCADE,
    CONSTRAINT fk_network_cluster_vds_groups FOREIGN KEY (cluster_id) REFERENCES vds_groups (vds_group_id) ON DELETE CASCADE
);

-- network_name, not an id, ties an interface to a network
CREATE TABLE vds_interface (
    id           uuid        NOT NULL,
    name         varchar(50) NOT NULL,
    network_name varchar(50),
    vds_id       uuid,
    mac_addr     varchar(59),
    CONSTRAINT pk_vds_interface PRIMARY KEY (id),
    CONSTRAINT fk_vds_interface_vds_interface FOREIGN KEY (vds_id) REFERENCES vds_static (vds_id) ON DELETE CASCADE
);

CREATE TABLE vds_interface_statistics (
    id     uuid NOT NULL,
    vds_id uuid,
    CONSTRAINT pk_vds_interface_statistics PRIMARY KEY (id),
    CONSTRAINT fk_vds_interface_statistics_vds_interface FOREIGN KEY (id) REFERENCES vds_interface (id) ON DELETE CASCADE,
    CONSTRAINT fk_vds_interface_statistics_vds_static FOREIGN KEY (vds_id) REFERENCES vds_static (vds_id) ON DELETE CASCADE
);

CREATE TABLE gluster_volume_bricks (
    id        uuid          NOT NULL,
    server_id uuid          NOT NULL,
    brick_dir varchar(4096) NOT NULL,
    CONSTRAINT pk_gluster_volume_bricks PRIMARY KEY (id),
    CONSTRAINT fk_gluster_volume_bricks_vds_static FOREIGN KEY (server_id) REFERENCES vds_static (vds_id) ON DELETE CASCADE
);

-- Who may do what. A row of permissions_view is one role given to one user or group on one object: object_type_id 1 = the
-- system, 3 = a host, 9 = a cluster, 14 = a data centre; role_type 1 = administrator, 2 = user.
CREATE TABLE roles (
    id                      uuid         NOT NULL,
    name                    varchar(126) NOT NULL,
    role_type               integer      NOT NULL,
    allows_viewing_children boolean      NOT NULL DEFAULT false,
    CONSTRAINT pk_roles PRIMARY KEY (id)
);
CREATE TABLE permissions (
    id             uuid    NOT NULL,
    role_id        uuid    NOT NULL,
    ad_element_id  uuid    NOT NULL,
    object_id      uuid    NOT NULL,
    object_type_id integer NOT NULL,
    CONSTRAINT pk_permissions_id PRIMARY KEY (id),
    CONSTRAINT fk_permissions_roles FOREIGN KEY (role_id) REFERENCES roles (id)
);
-- A user is granted what he and each of his groups is granted.
CREATE TABLE user_groups (
    user_id  uuid NOT NULL,
    group_id uuid NOT NULL,
    CONSTRAINT pk_user_groups PRIMARY KEY (user_id, group_id)
);

-- What happened, and what an administrator must look at: severity 0 normal, 1 warning, 2 error, 10 alert. Quiet time after
-- a power operation is computed from log_type_name.
CREATE SEQUENCE audit_log_seq;
CREATE TABLE audit_log (
    audit_log_id        bigint       NOT NULL DEFAULT nextval('audit_log_seq'),
    user_id             uuid,
    user_name           varchar(255),
    vm_id               uuid,
    vm_name             varchar(255),
    vm_template_id      uuid,
    vm_template_name    varchar(40),
    vds_id              uuid,
    vds_name            varchar(255),
    log_time            timestamptz  NOT NULL,
    log_type_name       varchar(100)          DEFAULT '',
    log_type            integer      NOT NULL,
    severity            integer      NOT NULL,
    message             text         NOT NULL,
    processed           boolean      NOT NULL DEFAULT false,
    storage_pool_id     uuid,
    storage_pool_name   varchar(40),
    storage_domain_id   uuid,
    storage_domain_name varchar(250),
    vds_group_id        uuid,
    vds_group_name      varchar(255),
    correlation_id      varchar(50),
    job_id              uuid,
    quota_id            uuid,
    quota_name          varchar(60),
    gluster_volume_id   uuid,
    gluster_volume_name varchar(1000),
    CONSTRAINT pk_audit_log PRIMARY KEY (audit_log_id)
);
CREATE INDEX idx_audit_log_vds_id ON audit_log (vds_id);
CREATE INDEX idx_audit_log_log_time ON audit_log (log_time);
