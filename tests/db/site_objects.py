"""What the upgrade's tests share: a site's own objects in an engine database, dumps, and the vendor's own upgrade."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pmcompat.db import upgrade
from pmcompat.db.upgrade import UpgradeSettings

SHAPES = ("3.1.0", "3.2-snapshot")
SEVEN = [
    "pm_secondary_ip",
    "pm_secondary_type",
    "pm_secondary_user",
    "pm_secondary_password",
    "pm_secondary_port",
    "pm_secondary_options",
    "pm_secondary_concurrent",
]
#: tests that must not wait for anybody
QUICK = UpgradeSettings(lock_timeout=0.2, patience=1.0)

#: what a site may have in its engine database: every one must survive an upgrade, and come back from a rollback
LOCAL = """
CREATE VIEW site_rack AS SELECT vds_id, vds_name, pm_type FROM vds;
CREATE VIEW site_all AS SELECT * FROM vds_static;
CREATE VIEW site_every AS SELECT * FROM vds;
CREATE FUNCTION site_count() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM vds';
COMMENT ON VIEW vds IS 'ours, keep''s';
COMMENT ON COLUMN vds.pm_type IS 'a column''s comment';
COMMENT ON FUNCTION UpdateVdsStatic IS 'a procedure''s comment';
ALTER VIEW vds SET (security_barrier = true);
ALTER VIEW vds ALTER COLUMN pm_type SET DEFAULT 'ipmilan';
CREATE TABLE site_log (at timestamptz, what text);
CREATE FUNCTION site_trg() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO site_log VALUES (now(), tg_op); RETURN new; END $$;
CREATE TRIGGER site_t AFTER INSERT OR UPDATE ON vds_static FOR EACH ROW EXECUTE FUNCTION site_trg();
CREATE SCHEMA "Site Ext";
CREATE FUNCTION "Site Ext"."Up Hosts"() RETURNS SETOF public.vds LANGUAGE sql STABLE AS
    'SELECT v.* FROM public.vds v WHERE status = 3';
CREATE VIEW "Site Ext"."select" AS SELECT vds_id AS "Id", host_name FROM "Site Ext"."Up Hosts"();
CREATE FUNCTION "Site Ext".parsed() RETURNS bigint LANGUAGE sql
    BEGIN ATOMIC SELECT count(*) FROM public.vds WHERE pm_enabled; END;
CREATE MATERIALIZED VIEW site_stock AS SELECT vds_id, vds_name FROM vds_with_tags WITH DATA;
CREATE INDEX site_stock_key ON site_stock (vds_id, vds_name);
CREATE MATERIALIZED VIEW site_empty AS SELECT vds_id FROM site_rack WITH NO DATA;
CREATE FUNCTION site_instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER site_i INSTEAD OF UPDATE ON vds FOR EACH ROW EXECUTE FUNCTION site_instead();
COMMENT ON TRIGGER site_i ON vds IS 'a trigger''s comment';
CREATE RULE site_r AS ON DELETE TO site_rack DO INSTEAD NOTHING;
CREATE TABLE bak_vds_static AS SELECT * FROM vds_static LIMIT 3;
CREATE SCHEMA bak;
CREATE TABLE bak.vds_static (pm_secondary_ip text);
CREATE TABLE bak.vds (vds_id uuid);
"""
#: roles belong to the whole server, so they are made once; grants are the database's own
ROLES = """
DO $$ BEGIN CREATE ROLE site_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE "Site Writer"; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE site_owner; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
"""
GRANTS = """
GRANT SELECT ON vds TO site_reader;
GRANT SELECT (vds_name, pm_type) ON vds_with_tags TO site_reader;
GRANT SELECT, UPDATE ON vds TO "Site Writer" WITH GRANT OPTION;
GRANT SELECT ON vds_static TO site_owner;
SET ROLE "Site Writer"; GRANT SELECT ON vds TO site_owner; RESET ROLE;
REVOKE EXECUTE ON FUNCTION UpdateVdsStatic FROM PUBLIC;
GRANT EXECUTE ON FUNCTION UpdateVdsStatic TO "Site Writer";
ALTER FUNCTION InsertVds SECURITY DEFINER SET work_mem = '8MB';
GRANT CREATE ON SCHEMA public TO site_owner;
ALTER VIEW site_rack OWNER TO site_owner;
ALTER FUNCTION InsertVdsStatic OWNER TO site_owner;
"""


def plant(conn: psycopg.Connection[Any]) -> None:
    """Put a site's own objects, roles and grants into the database."""
    for text in (LOCAL, ROLES, GRANTS):
        conn.execute(text.encode())


def dump(dsn: str, *options: str) -> str:
    """Return what pg_dump prints of everything but schema pmcompat, without comments.

    The program must not be older than the server.
    """
    program = shutil.which("pg_dump", path=str(programs(dsn))) or shutil.which("pg_dump")
    if program is None:
        pytest.skip("needs pg_dump: apt-get install postgresql")
    done = subprocess.run([program, "-N", "pmcompat", *options, "-d", dsn], capture_output=True, text=True, check=False)
    if "server version mismatch" in done.stderr:
        pytest.skip("needs a pg_dump of the server's version")
    assert done.returncode == 0, done.stderr
    lines = (line for line in done.stdout.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict")))
    return "\n".join(_sorted_rows(lines))


def _sorted_rows(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines with the rows of each COPY sorted: a table has no order."""
    rows: list[str] | None = None
    for line in lines:
        if rows is None:
            yield line
            rows = [] if line.startswith("COPY ") else None
        elif line == "\\.":
            yield from [*sorted(rows), line]
            rows = None
        else:
            rows.append(line)


def programs(dsn: str) -> Path:
    """Return the directory of the server's own programs."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    return Path(row[0]) if row else Path()


def one(conn: psycopg.Connection[Any], query: str, *params: object) -> Any:
    """Return the only value of the only row."""
    row = conn.execute(query.encode(), params or None).fetchone()
    assert row is not None
    return row[0]


def column_names(conn: psycopg.Connection[Any], name: str, schema: str = "public") -> list[str]:
    """Return the columns of a table or view, in order."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [schema, name],
    )
    return [row[0] for row in rows]


def vendor_upgrade(conn: psycopg.Connection[Any], *, seven: bool = True) -> None:
    """Do what oVirt's own upgrade does: drop every view and function of public, add the columns if absent, make all anew.

    Only views and procedures of the change are made anew, in the form of 3.2.0 (database facts §2, §3.1).
    :param seven: the release knows the seven; otherwise it is a later 3.1 that makes the old forms again.
    """
    forms = [
        (name, one(conn, "SELECT pg_get_viewdef(%s::regclass)", name))
        for name in (
            "tags_vds_map_view",
            "vds",
            "vds_with_tags",
            "dwh_host_configuration_history_view",
            "dwh_host_configuration_full_check_view",
        )
    ]
    procedures = {
        name: conn.execute(
            "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid), prosrc FROM pg_proc "
            "WHERE proname = %s AND pronamespace = 'public'::regnamespace",
            [name],
        ).fetchone()
        for name in ("insertvdsstatic", "updatevdsstatic", "insertvds")
    }
    conn.execute(DROP_ALL.encode())
    for column, type_ in zip(
        SEVEN, ("varchar(255)", "varchar(20)", "varchar(50)", "text", "int", "varchar(4000)"), strict=False
    ):
        conn.execute(f"ALTER TABLE vds_static ADD COLUMN IF NOT EXISTS {column} {type_}".encode())
    conn.execute("ALTER TABLE vds_static ADD COLUMN IF NOT EXISTS pm_secondary_concurrent boolean DEFAULT false")
    for name, text in forms:
        conn.execute(f"CREATE VIEW {name} AS {_vendor_view(name, text, seven=seven)}".encode())
    for name, found in procedures.items():
        assert found is not None
        conn.execute(_vendor_procedure(name, *found, seven=seven).encode())
    if seven:
        conn.execute("DELETE FROM object_column_white_list WHERE column_name = 'pm_password'")
        conn.execute(
            "INSERT INTO object_column_white_list SELECT 'vds', name FROM unnest(%s::text[]) AS name ON CONFLICT DO NOTHING",
            [[column for column in SEVEN if "password" not in column]],
        )
    conn.execute(
        "INSERT INTO schema_version (version, script, installed_by, state, current) "
        "VALUES ('03020330', 'upgrade/03_02_0330_add_vds_event_notifications.sql', 'engine', 'INSTALLED', false)"
    )


DROP_ALL = """
DO $$ DECLARE item record; BEGIN
    FOR item IN SELECT format('DROP VIEW IF EXISTS %I.%I CASCADE', schemaname, viewname) AS text FROM pg_views
        WHERE schemaname = 'public' LOOP EXECUTE item.text; END LOOP;
    FOR item IN SELECT 'DROP ROUTINE IF EXISTS ' || oid::regprocedure || ' CASCADE' AS text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proname NOT LIKE 'uuid%' LOOP EXECUTE item.text; END LOOP;
END $$;
"""


def _vendor_view(name: str, text: str, *, seven: bool) -> str:
    for column in SEVEN:
        text = text.replace(f",\n    vds_static.{column}", "")
    if not seven or name.startswith("dwh"):
        return text
    order = ("ip", "options", "port", "password", "user", "type", "concurrent")
    middle = "".join(f",\n    vds_static.pm_secondary_{part}" for part in order)
    return text.replace(",\n    vds_static.pm_enabled", ",\n    vds_static.pm_enabled" + middle)


def _vendor_procedure(name: str, arguments: str, result: str, body: str, *, seven: bool) -> str:
    arguments = re.sub(r", v_pm_secondary_.*", "", arguments)
    body = re.sub(r"/\* pmcompat: \*/.*?/\* :pmcompat \*/", "", body, flags=re.DOTALL)
    if seven:
        types = ("varchar", "varchar", "varchar", "text", "integer", "varchar", "boolean")
        added = ", ".join(f"v_{column} {type_}" for column, type_ in zip(SEVEN, types, strict=True))
        arguments = arguments.replace("v_pm_enabled boolean", f"v_pm_enabled boolean, {added}")
        if name == "updatevdsstatic":
            pairs = ", ".join(f"{column} = v_{column}" for column in SEVEN)
            body = body.replace("pm_enabled = v_pm_enabled", f"pm_enabled = v_pm_enabled, {pairs}")
        else:
            # as released: InsertVds names the columns where it means the parameters
            prefix = "" if name == "insertvds" else "v_"
            body = body.replace(" pm_enabled,", " pm_enabled, " + ", ".join(SEVEN) + ",")
            body = body.replace("v_pm_enabled,", "v_pm_enabled, " + ", ".join(prefix + column for column in SEVEN) + ",")
    return f"CREATE FUNCTION {name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS $body${body}$body$"


def upgraded(conn: psycopg.Connection[Any], **chosen: Any) -> upgrade.UpgradeReport:
    """Upgrade, without patience."""
    return upgrade.upgrade(conn, UpgradeSettings(lock_timeout=1.0, patience=5.0, **chosen))
