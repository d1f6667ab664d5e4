-- What everything else stands on: ids, data centres, tags, options, the record of the engine's own upgrades.

-- The engine of 3.1 took this from the extension uuid-ossp, later from a function of the same name. It only has to be unique.
CREATE FUNCTION uuid_generate_v1() RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    RETURN gen_random_uuid();
END;
$$;

-- Data centres. spm_vds_id has no foreign key; status 1 = up, 5 = contending.
CREATE TABLE storage_pool (
    id                       uuid          NOT NULL,
    name                     varchar(40)   NOT NULL,
    description              varchar(4000) NOT NULL,
    storage_pool_type        integer       NOT NULL,
    storage_pool_format_type varchar(50),
    status                   integer       NOT NULL,
    master_domain_version    integer       NOT NULL,
    spm_vds_id               uuid,
    compatibility_version    varchar(40)   NOT NULL DEFAULT '2.2',
    _create_date             timestamptz            DEFAULT LOCALTIMESTAMP,
    _update_date             timestamptz,
    quota_enforcement_type   integer,
    CONSTRAINT pk_storage_pool PRIMARY KEY (id)
);

CREATE TABLE tags (
    tag_id       uuid        NOT NULL,
    tag_name     varchar(50) NOT NULL DEFAULT '',
    description  varchar(4000),
    parent_id    uuid,
    readonly     boolean,
    type         integer     NOT NULL DEFAULT 0,
    _create_date timestamptz          DEFAULT LOCALTIMESTAMP,
    _update_date timestamptz,
    CONSTRAINT pk_tags_id PRIMARY KEY (tag_id)
);

-- Configuration of the engine. The index is not unique: nothing forbids two rows for one option and version.
CREATE SEQUENCE vdc_options_seq;
CREATE TABLE vdc_options (
    option_id    integer       NOT NULL DEFAULT nextval('vdc_options_seq'),
    option_name  varchar(100)  NOT NULL,
    option_value varchar(4000) NOT NULL,
    version      varchar(40)   NOT NULL DEFAULT 'general',
    CONSTRAINT pk_vdc_options PRIMARY KEY (option_id)
);
CREATE INDEX ix_vdc_options ON vdc_options (option_name);

-- The engine's record of its own upgrade scripts. Only the engine's upgrade writes here.
CREATE SEQUENCE schema_version_seq;
CREATE TABLE schema_version (
    id           integer      NOT NULL DEFAULT nextval('schema_version_seq'),
    version      varchar(10)  NOT NULL,
    script       varchar(255) NOT NULL,
    checksum     varchar(128),
    installed_by varchar(30)  NOT NULL,
    started_at   timestamp             DEFAULT now(),
    ended_at     timestamp,
    state        varchar(15)  NOT NULL,
    current      boolean      NOT NULL,
    comment      text                  DEFAULT '',
    CONSTRAINT schema_version_primary_key PRIMARY KEY (id)
);

-- Columns a user without administrator rights may see, and the SQL text made of them (see fn_db_mask_object).
CREATE TABLE object_column_white_list (
    object_name varchar(128) NOT NULL,
    column_name varchar(128) NOT NULL,
    CONSTRAINT pk_object_column_white_list PRIMARY KEY (object_name, column_name)
);
CREATE TABLE object_column_white_list_sql (
    object_name varchar(128) NOT NULL,
    sql         text         NOT NULL,
    CONSTRAINT pk_object_column_white_list_sql PRIMARY KEY (object_name)
);

-- How far the data warehouse has read.
CREATE TABLE dwh_history_timekeeping (
    var_name     varchar(50) NOT NULL,
    var_value    varchar(255),
    var_datetime timestamptz
);

-- Storage domains, as far as vds_with_tags looks at them.
CREATE TABLE storage_domain_static (
    id           uuid         NOT NULL,
    storage      varchar(250) NOT NULL,
    storage_name varchar(250) NOT NULL,
    CONSTRAINT pk_storage PRIMARY KEY (id)
);
CREATE TABLE storage_pool_iso_map (
    storage_id      uuid NOT NULL,
    storage_pool_id uuid NOT NULL,
    status          integer,
    owner           integer,
    CONSTRAINT pk_storage_domain_pool_map PRIMARY KEY (storage_id, storage_pool_id),
    CONSTRAINT fk_storage_domain_pool_map_storage_domain_static FOREIGN KEY (storage_id)
        REFERENCES storage_domain_static (id) ON DELETE CASCADE,
    CONSTRAINT fk_storage_domain_pool_map_storage_pool FOREIGN KEY (storage_pool_id)
        REFERENCES storage_pool (id) ON DELETE CASCADE
);
