"""``pmcompat host list|show|import|export`` and ``pmcompat credentials``: what is printed where, exit codes, no secret."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from pmcompat.cli.app import run

AGENTS = (
    "<agent type='ipmilan'><address>bmc{n}</address><username>adm</username><password>hush-{n}</password>"
    "<options><option name='snmp_priv_passwd' value='hush-option'/><option name='lanplus' value='1'/></options>"
    "<order>1</order></agent>"
    "<agent type='apc'><address>pdu{n}</address><password>hush-{n}</password><concurrent>true</concurrent>"
    "<order>2</order></agent>"
)
DOCUMENT = (
    "<hosts>"
    + "".join(
        f'<host><name>kv{n}</name><address>kv{n}.lab</address><power_management type="ipmilan"><enabled>true</enabled><agents>'
        f"{AGENTS.format(n=n)}"
        "</agents></power_management></host>"
        for n in (1, 2)
    )
    + "</hosts>"
)


@dataclass(frozen=True)
class Result:
    """What a command left."""

    stdout: str
    stderr: str


class Command:
    """The command line on one database, in this process."""

    def __init__(self, dsn: str, place: Path, capsys, monkeypatch) -> None:
        self.dsn, self.place, self._capsys, self._patch = dsn, place, capsys, monkeypatch
        monkeypatch.setenv("PMCOMPAT_DSN", dsn)
        monkeypatch.setenv("NO_COLOR", "1")

    def __call__(self, *args: object, exit_code: int = 0, input: str = "") -> Result:  # noqa: A002 - as in subprocess
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
        with pytest.raises(SystemExit) as ended:
            run([str(arg) for arg in args])
        done = self._capsys.readouterr()
        assert (ended.value.code or 0) == exit_code, done.out + done.err
        assert "hush" not in done.out + done.err
        return Result(stdout=done.out, stderr=done.err)

    def document(self, text: str = DOCUMENT) -> Path:
        path = self.place / "hosts.xml"
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def pmcompat(pm_database, tmp_path, capsys, monkeypatch) -> Command:
    return Command(pm_database("3.2-snapshot", hosts=0, upgraded=True).dsn, tmp_path, capsys, monkeypatch)


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_import_list_show_export(pmcompat):
    done = pmcompat("host", "import", pmcompat.document())
    assert done.stdout.splitlines() == ["created kv1", "created kv2"]
    assert "2 hosts: 2 created" in done.stderr
    listed = lines(pmcompat("host", "list", "--json").stdout)
    assert [(host["host"], host["status"], host["cluster"]) for host in listed] == [
        ("kv1", "maintenance", "Default"), ("kv2", "maintenance", "Default"),
    ]  # fmt: skip
    (shown,) = lines(pmcompat("host", "show", "kv1", "--json").stdout)
    pm = shown["power_management"]
    assert (pm["mode"], pm["concurrent"], [agent["password_set"] for agent in pm["agents"]]) == (
        "concurrent",
        True,
        [True, True],
    )
    assert pm["agents"][0]["options"] == "snmp_priv_passwd=***,lanplus=1"
    table = pmcompat("host", "list").stdout
    assert "kv2.lab" in table
    assert re.search(r"^secondary +apc +pdu2 ", pmcompat("host", "show", "kv2").stdout, re.MULTILINE)
    one, both = pmcompat("host", "export", "kv1"), pmcompat("host", "export", "kv1", "kv2")
    assert "<host id=" in one.stdout.splitlines()[1]
    assert both.stdout.splitlines()[1] == "<hosts>"
    assert pmcompat("host", "export", "--all", "--form", "dual").stdout.count("<agent ") == 4
    assert "snmp_priv_passwd (a secret)" in one.stderr


def test_an_export_imported_again_changes_nothing(pmcompat):
    pmcompat("host", "import", pmcompat.document())
    out = pmcompat.place / "out.xml"
    pmcompat("host", "export", "--all", "-o", out)
    done = pmcompat("host", "import", out)
    assert done.stdout == ""
    assert "2 unchanged" in done.stderr


def test_a_dry_run_prints_the_difference_and_changes_nothing(pmcompat):
    pmcompat("host", "import", pmcompat.document())
    changed = pmcompat.document(DOCUMENT.replace("hush-1", "hush-new").replace("<address>bmc2", "<address>else"))
    done = pmcompat("host", "import", "--dry-run", changed)
    assert done.stdout.splitlines() == [
        "would be updated kv1", "  primary.password: *** -> ***", "  secondary.password: *** -> ***",
        "would be updated kv2", "  primary.address: bmc2 -> else",
    ]  # fmt: skip
    assert "nothing was changed" in done.stderr
    assert lines(pmcompat("host", "import", "--dry-run", "--json", changed).stdout)[1]["changes"][0]["after"] == "else"
    assert pmcompat("host", "import", pmcompat.document()).stdout == ""


def test_import_reads_stdin(pmcompat):
    assert "created kv1" in pmcompat("host", "import", input=DOCUMENT).stdout
    assert pmcompat("host", "import", "-", input=DOCUMENT).stdout == ""


def test_what_a_release_clears_is_listed(pmcompat):
    pmcompat("host", "import", pmcompat.document())
    off = pmcompat.document("<host><name>kv1</name><power_management><enabled>false</enabled></power_management></host>")
    done = pmcompat("host", "import", "--profile", "3.5", "--semantics", "profile", off)
    assert "kv1: removes the primary and the secondary agent" in done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("host", "show", "absent"), 3),
        (("host", "export", "absent"), 3),
        (("host", "export"), 2),
        (("host", "export", "--all", "kv1"), 2),
        (("host", "import", "/does/not/exist.xml"), 3),
        (("host", "import", "--cluster", "absent", "-"), 3),
        (("host", "import", "--profile", "2.0", "-"), 3),
        (("host", "list", "--dsn", "postgresql://postgres@127.0.0.1:1/x"), 4),
        (("credentials", "check", "--cipher", "rot13"), 3),
        (("credentials", "rekey", "--cipher", "engine"), 3),
    ],
)
def test_errors_have_their_exit_codes(pmcompat, args, code):
    pmcompat(*args, input=DOCUMENT, exit_code=code)


@pytest.mark.parametrize(
    "address",
    ["postgresql://u:hush@hush@127.0.0.1:1/x", "postgresql://u:hush/hush@127.0.0.1:1/x", "postgres://u:1/hush@127.0.0.1/x?a=b"],
)
def test_a_password_that_breaks_the_address_is_not_shown_as_its_host(pmcompat, monkeypatch, address):
    monkeypatch.setenv("PMCOMPAT_DSN", address)
    assert "%40" in pmcompat("host", "list", exit_code=3).stderr


def test_a_bad_setting_of_the_connection_is_no_traceback(pmcompat, monkeypatch):
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "soon")
    assert "connect_timeout" in pmcompat("host", "list", exit_code=3).stderr


def test_a_malformed_document_is_named_with_its_line(pmcompat):
    bad = pmcompat.document("<hosts>\n" + DOCUMENT.removeprefix("<hosts>").replace("</host>", "</hosts>", 1))
    assert f"{bad}:2:" in pmcompat("host", "import", bad, exit_code=3).stderr


def test_two_agents_in_the_flat_form_are_a_loss_and_nothing_is_printed(pmcompat):
    pmcompat("host", "import", pmcompat.document())
    assert pmcompat("host", "export", "--all", "--form", "flat", exit_code=9).stdout == ""


def test_passwords_without_a_cipher_are_refused_in_a_foreign_database(pmcompat, pm_database):
    from pmcompat.db.connection import connect

    with connect(pmcompat.dsn) as conn:
        conn.execute("DROP TABLE pmcompat.origin")
    assert "--cipher" in pmcompat("host", "import", pmcompat.document(), exit_code=3).stderr
    pmcompat("host", "import", "--cipher", "plain", pmcompat.document())


def test_credentials_are_checked_and_encrypted_anew(pmcompat):
    pmcompat("host", "import", pmcompat.document())
    keys = pmcompat.place / "keys"
    keys.write_bytes(Fernet.generate_key())
    assert "4 passwords not encrypted" in pmcompat("credentials", "check").stdout
    assert "would be" in pmcompat("credentials", "rekey", "--key", keys, "--dry-run").stdout
    (report,) = lines(pmcompat("credentials", "rekey", "--key", keys, "--json").stdout)
    assert (report["rekeyed"], report["encrypted"], report["unreadable"]) == (4, 4, [])
    assert "4 passwords encrypted and readable" in pmcompat("credentials", "check", "--key", keys).stdout
    failed = pmcompat("credentials", "check", exit_code=3)
    assert "kv1, primary agent" in failed.stdout
    pmcompat("credentials", "rekey", "--cipher", "plain", "--from-key", keys)
    pmcompat("credentials", "check")
    # what --help says: the key they are stored with is --key where no --from-key is given
    pmcompat("credentials", "rekey", "--key", keys)
    pmcompat("credentials", "rekey", "--cipher", "plain", "--from-cipher", "fernet", "--key", keys)
    assert "4 passwords not encrypted" in pmcompat("credentials", "check").stdout


def test_an_import_of_the_encrypted_rows_again_changes_nothing(pmcompat):
    keys = pmcompat.place / "keys"
    keys.write_bytes(Fernet.generate_key())
    pmcompat("host", "import", "--key", keys, pmcompat.document())
    assert "2 unchanged" in pmcompat("host", "import", "--key", keys, pmcompat.document()).stderr
