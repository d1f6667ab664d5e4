"""``pmcompat xml`` as a user runs it: a filter with exit codes, an atomic -o, and errors an editor understands."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FLAT = (
    b"<?xml version='1.0'?>\r\n<host id='1'>\n<power_management type='apc'><address>a</address></power_management>\n</host>\r\n"
)
AGENTS = FLAT.replace(
    b"<address>a</address>", b"<agents><agent type='apc'><address>a</address><order>1</order></agent></agents>"
)
BAD = b"<host>\n<power_management>\n<ip>1</ip></power_management></host>"
TWO = b"<host><power_management><agents><agent/><agent/></agents></power_management></host>"


def xml(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = "from pmcompat.cli import main; main()"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PMCOMPAT_")}
    return subprocess.run(
        [sys.executable, "-c", program, "xml", *map(str, arguments)],
        check=False,
        input=stdin,
        capture_output=True,
        env=environment,
        timeout=60,
    )


def test_translate_is_a_filter():
    there = xml("translate", "--to", "agents", stdin=FLAT)
    assert (there.returncode, there.stdout, there.stderr) == (0, AGENTS, b"")
    back = xml("translate", "--to", "flat", "-", stdin=AGENTS)
    assert (back.returncode, back.stdout) == (0, FLAT)


def test_output_appears_whole_or_not_at_all(tmp_path):
    source, target = tmp_path / "in.xml", tmp_path / "out.xml"
    source.write_bytes(FLAT)
    target.write_bytes(b"before")
    target.chmod(0o640)
    assert xml("translate", "--to", "agents", source, "-o", target).returncode == 0
    assert target.read_bytes() == AGENTS
    assert target.stat().st_mode & 0o777 == 0o640
    source.write_bytes(BAD)
    assert xml("translate", "--to", "agents", source, "-o", target).returncode == 3
    assert target.read_bytes() == AGENTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.xml", "out.xml"]


def test_a_file_may_be_translated_in_place_and_a_device_is_not_replaced(tmp_path):
    source = tmp_path / "in.xml"
    source.write_bytes(FLAT)
    assert xml("translate", "--to", "agents", source, "-o", source).returncode == 0
    assert source.read_bytes() == AGENTS
    assert xml("translate", "--to", "agents", source, "-o", "/dev/null").returncode == 0
    assert not os.path.isfile("/dev/null")  # noqa: PTH113  # a device, not a path of ours


def test_a_fault_is_told_with_file_line_and_path(tmp_path):
    source = tmp_path / "bad.xml"
    source.write_bytes(BAD)
    done = xml("translate", "--to", "agents", source)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(f"{source}:3: /host/power_management/ip: <ip> is not expected here".encode())
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "document", [b"<!DOCTYPE h><h/>", b"<?xml version='1.0' encoding='UTF-7'?><host/>", b"<host><power_management>", b""]
)
def test_what_is_hostile_or_broken_ends_with_3_and_no_output(document):
    done = xml("translate", "--to", "flat", stdin=document)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"Traceback" not in done.stderr


def test_a_loss_ends_with_9_and_lossy_reports_it(tmp_path):
    done = xml("translate", "--to", "flat", stdin=TWO)
    assert (done.returncode, done.stdout) == (9, b"")
    assert b"/host/power_management/agents/agent[2]" in done.stderr
    target = tmp_path / "out.xml"
    done = xml("translate", "--to", "flat", "--lossy", "--json", "-o", target, stdin=TWO)
    report = json.loads(done.stdout)
    assert done.stdout.count(b"\n") == 1
    assert (done.returncode, report["found"], report["changed"], len(report["losses"])) == (0, 1, 1, 1)


def test_output_that_began_to_stream_is_said_to_be_incomplete():
    """Held back up to 8 MiB; what was sent is the beginning of the right output."""
    host = b"<host><name>" + b"n" * 1000 + b"</name></host>\n"
    document = b"<hosts>" + host * 12_000
    done = xml("translate", "--to", "agents", stdin=document + b"<broken")
    assert done.returncode == 3
    assert 8 << 20 < len(done.stdout) < len(document)
    assert document.startswith(done.stdout)
    assert f"output incomplete after byte {len(done.stdout)}".encode() in done.stderr
    small = xml("translate", "--to", "agents", stdin=b"<hosts>" + host * 100 + b"<broken")
    assert (small.returncode, small.stdout) == (3, b"")


def test_limits_are_options():
    assert xml("translate", "--to", "agents", "--max-depth", "8", stdin=b"<a>" * 9 + b"</a>" * 9).returncode == 3
    assert xml("translate", "--to", "agents", "--max-size", "10", stdin=FLAT).returncode == 3


def test_wrong_use_and_unreadable_files_have_their_codes(tmp_path):
    assert xml("translate").returncode == 2
    assert xml("translate", "--to", "agents", tmp_path / "none.xml").returncode == 3
    assert xml("translate", "--to", "tree", stdin=FLAT).returncode == 3
    assert xml("translate", "--to", "agents", "-o", tmp_path / "no" / "out.xml", stdin=FLAT).returncode == 3


def test_validate_lists_every_problem_and_explains(tmp_path):
    source = tmp_path / "bad.xml"
    source.write_bytes(b"<hosts>" + BAD * 3 + b"</hosts>")
    done = xml("validate", source)
    assert done.returncode == 3
    assert done.stderr.count(str(source).encode()) == 3
    report = xml("validate", "--json", source)
    assert [problem["line"] for problem in json.loads(report.stdout)["problems"]] == [3, 5, 7]
    assert b"(xmlschema)" in xml("validate", "--explain", source).stderr
    assert xml("validate", stdin=FLAT).returncode == 0
    assert json.loads(xml("validate", "--json", stdin=b"<host>").stdout)["valid"] is False


def test_diff_tells_meaning_not_form(tmp_path):
    one, two, three = (tmp_path / name for name in "abc")
    one.write_bytes(FLAT)
    two.write_bytes(AGENTS)
    three.write_bytes(AGENTS.replace(b">a<", b">b<"))
    same = xml("diff", "--exit-code", one, two)
    assert (same.returncode, same.stdout) == (0, b"")
    other = xml("diff", one, three)
    assert (other.returncode, other.stdout) == (0, b"1: primary.address: 'a' | 'b'\n")
    assert xml("diff", "--exit-code", one, three).returncode == 8
    assert json.loads(xml("diff", "--json", one, three).stdout)["fact"] == "primary.address"
