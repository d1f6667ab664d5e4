"""Small real ``fence_*`` programs for the fence_agents driver to run: every way to end, and ground truth of what they did.

``fence_x`` keeps one outlet's power in a file and logs how it was started; its option ``mode`` makes it misbehave.
``fence_watched`` is Debian's fence_dummy with a log before it. Both are run by the system's interpreter, as installed ones are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pmcompat.model import Agent, Options, Secret

needs_fence_agents = pytest.mark.skipif(
    not Path("/usr/sbin/fence_dummy").exists(), reason="needs Debian's fence-agents: apt-get install fence-agents"
)


FENCE_X = r'''#!/usr/bin/python3
import json, os, signal, subprocess, sys, time
METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_x"><parameters>
<parameter name="action" required="1"><content type="string" default="reboot"/></parameter>
<parameter name="ip" required="1" obsoletes="ipaddr"><content type="string"/></parameter>
<parameter name="ipaddr" required="1" deprecated="1"><content type="string"/></parameter>
<parameter name="login" required="0" deprecated="1"><content type="string"/></parameter>
<parameter name="passwd" required="0" deprecated="1"><content type="string"/></parameter>
<parameter name="plug" required="0" obsoletes="port"><content type="string"/></parameter>
<parameter name="ipport" required="0"><content type="integer" default="23"/></parameter>
<parameter name="where" required="1"><content type="string"/></parameter>
<parameter name="mode" required="0"><content type="string"/></parameter>
<parameter name="kg" required="0"><content type="string"/></parameter>
<parameter name="snmp_priv_passwd" required="0"><content type="string"/></parameter>
<parameter name="ssl" required="0"><content type="boolean"/></parameter>
<parameter name="level" required="0"><content type="select"><option value="user"/><option value="operator"/></content>
</parameter>
<parameter name="delay" required="0"><content type="second" default="0"/></parameter>
<parameter name="method" required="0"><content type="select"><option value="onoff"/><option value="cycle"/></content>
</parameter>
<parameter name="power_wait" required="0"><content type="second" default="0"/></parameter>
<parameter name="power_timeout" required="0"><content type="second" default="20"/></parameter>
<parameter name="retry_on" required="0"><content type="integer" default="3"/></parameter>
<parameter name="tool_path" required="0"><content type="string"/></parameter>
<parameter name="debug_file" required="0"><content type="string"/></parameter>
</parameters><actions><action name="on" automatic="0"/><action name="off"/><action name="status"/><action name="metadata"/>
</actions></resource-agent>"""
if sys.argv[1:] == ["-o", "metadata"]:
    sys.stderr.write("/usr/bin/x:3: DeprecationWarning: 'pipes' is deprecated\n  import pipes\n")
    sys.exit(print(METADATA))
given = dict(line.rstrip("\n").split("=", 1) for line in sys.stdin)
where, mode, action = given["where"], given.get("mode", ""), given.get("action", "reboot")
entry = dict(argv=sys.argv[1:], environ=dict(os.environ), cwd=os.getcwd(), given=given, pid=os.getpid(), sid=os.getsid(0),
             descriptors=sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)))
with open(where + "/log", "a") as log:
    log.write(json.dumps(entry) + "\n")
def fail(text, code=1):
    stamp = "2024-01-01 00:00:00,000 ERROR: "
    sys.stderr.write(stamp + text + "\n\n" + stamp + "Please use '-h' for usage\n")
    sys.exit(code)
if mode == "hang" or (mode == "silent" and given["ip"] == "silent"):
    time.sleep(1000)
if mode == "children":
    subprocess.Popen(["sh", "-c", "sleep 1000; :", where])
    subprocess.Popen(["sh", "-c", "sleep 1000; :", where], start_new_session=True)
    time.sleep(1000)
if mode == "leaves":
    subprocess.Popen(["sh", "-c", "sleep 1000; :", where])
if mode == "noise":
    sys.stderr.write("x.py:1: DeprecationWarning: 'pipes' is deprecated and slated for removal\n  import pipes\n")
    sys.stderr.buffer.write(b"\xff\xfe garbage\n")
if mode == "partial":
    print("Status: O", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "flood":
    sys.stdout.write("on the way\n" * 1000000 if action != "status" else "")
if mode == "usage":
    fail("usage: fence_x [-h]\nfence_x: error: unrecognized arguments", 2)
if mode == "leak":
    fail("cannot log in with " + given["passwd"])
if mode == "leak-option":
    fail("trap: " + given["snmp_priv_passwd"].upper())
if mode.startswith("exit"):
    sys.exit(int(mode[4:]))
if mode.startswith("says "):
    fail(mode[5:])
if given["ip"] == "nowhere":
    fail("[Errno 111] Connection refused")
if given.get("passwd", "") != "pw":
    fail("Login failed: invalid username or password")
power = open(where + "/power").read()
if action == "status":
    print("Status: " + power.upper())
    sys.exit(0 if power == "on" else 2)
if action in ("on", "off") and power != action and mode != "ignores":
    open(where + "/power", "w").write(action)
if mode == "ignores":
    fail("Failed: Timed out waiting to power " + action.upper())
if mode == "warns":
    sys.stderr.write("WARNING: Parse error: Ignoring unknown option 'passwd=" + given["passwd"] + "'\n")
print("Success: Powered " + action.upper())
'''

FENCE_WATCHED = r"""#!/bin/sh
if [ $# -gt 0 ]; then exec /usr/sbin/fence_dummy "$@"; fi
given=$(cat)
case "$given" in *action=on*) what=on;; *action=off*) what=off;; *) what=;; esac
if [ -n "$what" ]; then echo $what >> "$(printf '%s\n' "$given" | sed -n 's/^status_file=//p').log"; fi
printf '%s\n' "$given" | /usr/sbin/fence_dummy
"""


class Program:
    """A fence program in a directory of its own, and the outlets it keeps there."""

    def __init__(self, directory: Path, name: str, text: str) -> None:
        self.directory = directory
        self.path = directory / name
        self.path.write_text(text)
        self.path.chmod(0o755)


class FenceX(Program):
    """``fence_x``: options ``where`` (an outlet's directory) and ``mode``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "fence_x", FENCE_X)

    def outlet(self, name: str = "outlet", power: str = "on") -> Path:
        """Make one more outlet and return what its option ``where`` must be."""
        where = self.directory / name
        where.mkdir()
        (where / "power").write_text(power)
        return where


def starts(where: Path) -> list[dict[str, Any]]:
    """Return how fence_x was started for this outlet: argv, environ, cwd, given, descriptors, in order."""
    log = where / "log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def x_agent(where: Path, mode: str = "", more: str = "", **fields: Any) -> Agent:
    """Return an agent for an outlet of fence_x."""
    given = {"address": "device", "username": "admin", "password": Secret("pw"), **fields}
    options = f"where={where}" + (f",mode={mode}" if mode else "") + (f",{more}" if more else "")
    return Agent(type="x", options=Options(options), **given)
