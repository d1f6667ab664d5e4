-- Events that come from outside the engine (schema_version 03020210).
ALTER TABLE audit_log
    ADD COLUMN origin             varchar(255) DEFAULT 'oVirt',
    ADD COLUMN custom_event_id    integer      DEFAULT -1,
    ADD COLUMN event_flood_in_sec integer      DEFAULT 30,
    ADD COLUMN custom_data        text         DEFAULT '',
    ADD COLUMN deleted            boolean      DEFAULT false;
