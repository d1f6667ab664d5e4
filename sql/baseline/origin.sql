-- The mark of "pmcompat db init": this database was made for trying things out. It lies in schema pmcompat, outside of what is
-- an engine's. The table's number tells a vds_static that was made here from one that was put in its place later.
CREATE SCHEMA IF NOT EXISTS pmcompat;
CREATE TABLE IF NOT EXISTS pmcompat.origin (
    vds_static oid         NOT NULL PRIMARY KEY,
    shape      text        NOT NULL,
    hosts      integer     NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pmcompat.origin IS 'engine tables made by "pmcompat db init"; only with them a password may be stored plainly';
