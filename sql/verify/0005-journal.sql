-- The three tables are there, and one host cannot have two open operations.
DO $verify$
BEGIN
    IF to_regclass('pmcompat.operations') IS NULL OR to_regclass('pmcompat.operation_agents') IS NULL
        OR to_regclass('pmcompat.operation_events') IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the journal is not complete';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i
        WHERE i.indexrelid = to_regclass('pmcompat.operations_open') AND i.indisunique AND i.indisvalid AND i.indpred IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'the journal has lost the index that keeps two operations of one host apart';
    END IF;
END
$verify$;
