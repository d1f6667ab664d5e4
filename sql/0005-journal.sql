-- The journal of what hosts were asked and what became of it. Nothing in it is a secret; nothing in the engine's schema knows of it.
-- It names hosts by id without a foreign key: history outlives a host, and the engine must be able to delete one.
-- scope: pmcompat
CREATE TABLE IF NOT EXISTS pmcompat.operations (
    operation_id uuid PRIMARY KEY,
    host_id uuid NOT NULL,
    host_name text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('start', 'stop', 'restart', 'status')),
    -- how the host's agents stand to each other: single, sequential, concurrent, levels
    mode text NOT NULL,
    -- who asked, on which machine, in which process; false where no person asked
    asked_by text NOT NULL,
    machine text NOT NULL,
    pid integer NOT NULL,
    by_person boolean NOT NULL,
    -- the operation that this one completes
    resumes uuid,
    -- committed before the first packet leaves
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- NULL while it runs, or where its process died
    finished_at timestamptz,
    -- died: closed by the operation that took over; confirmed: closed by a person
    outcome text CHECK (outcome IN ('succeeded', 'failed', 'uncertain', 'died', 'confirmed')),
    power text CHECK (power IN ('on', 'off', 'unknown')),
    degraded boolean NOT NULL DEFAULT false,
    -- how far a restart got
    stage text NOT NULL DEFAULT 'not touched',
    seconds double precision,
    ended_by text,
    notes text[] NOT NULL DEFAULT '{}',
    taken_over_by uuid,
    confirmed_at timestamptz,
    confirmed_by text,
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
);
-- One open operation per host, whatever process or machine it runs on.
CREATE UNIQUE INDEX IF NOT EXISTS operations_open ON pmcompat.operations (host_id) WHERE finished_at IS NULL;
CREATE INDEX IF NOT EXISTS operations_of_host ON pmcompat.operations (host_id, started_at DESC);
CREATE TABLE IF NOT EXISTS pmcompat.operation_agents (
    operation_id uuid NOT NULL REFERENCES pmcompat.operations ON DELETE CASCADE,
    position integer NOT NULL,
    -- rank, type and address, for people
    agent text NOT NULL,
    -- last action that was sent to it; NULL if none was
    asked text,
    reached boolean,
    power text,
    error text,
    -- true where a sent command's effect was not settled by any later status read
    unsettled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (operation_id, position)
);
CREATE TABLE IF NOT EXISTS pmcompat.operation_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation_id uuid NOT NULL REFERENCES pmcompat.operations ON DELETE CASCADE,
    -- seconds since the executor took the operation up
    at double precision NOT NULL,
    kind text NOT NULL,
    agent text NOT NULL DEFAULT '',
    action text NOT NULL DEFAULT '',
    what text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS operation_events_of_operation ON pmcompat.operation_events (operation_id, id);
