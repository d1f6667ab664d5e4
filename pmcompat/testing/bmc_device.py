"""The device behind :class:`~pmcompat.testing.bmc.Bmc`: pyghmi's own BMC class, made to work.

What lives here: a process that is one BMC and the machine behind it. Added to pyghmi's class (fencing facts §10.2): a refusal
of suites other than 3, answers to unknown users, privileges, session slots, the end of a session, and dropping of duplicates
(IPMI 2.0 §6.12.13). Its log is ground truth: what the device itself executed.
"""

# ruff: noqa: SLF001 - pyghmi's session classes have no public seams

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from pyghmi.ipmi import bmc
from pyghmi.ipmi.private import constants, serversession
from pyghmi.ipmi.private import session as library

from pmcompat.fence.drivers.ipmi_worker_link import prepare

PRIVILEGES = {"callback": 1, "user": 2, "operator": 3, "admin": 4}
#: completion codes and RMCP+ status codes
_BUSY, _NO_PRIVILEGE = 0xC0, 0xD4
_FULL, _NO_ROLE, _NO_NAME, _NO_SUITE = 0x01, 0x0A, 0x0D, 0x11
_RAKP2: int = constants.payload_types["rakp2"]


@dataclass
class Machine:
    """The power of a machine, and how its BMC is told to behave."""

    settle: float
    slots: int
    #: user name → (password, privilege)
    users: dict[str, tuple[str, int]]
    power: str = "on"
    #: (when, power) of changes that were taken and have not happened yet
    coming: list[tuple[float, str]] = field(default_factory=list)
    log: list[tuple[float, str]] = field(default_factory=list)
    #: open sessions, and when each was last heard
    sessions: dict[Any, float] = field(default_factory=dict)
    ignore: frozenset[str] = frozenset()
    refuse: frozenset[str] = frozenset()
    code: int = 0xFF
    busy: int = 0
    mute: bool = False
    lame: bool = False

    def get(self, username: str) -> str | None:
        """Return a user's password: what pyghmi asks of its table of users."""
        return self.users[username][0] if username in self.users else None

    def settle_down(self) -> None:
        """Let what was taken long enough ago happen."""
        now = time.monotonic()
        while self.coming and self.coming[0][0] <= now:
            self.power = self.coming.pop(0)[1]

    def objection(self, command: str) -> int:
        """Return the completion code with which *command* is refused; 0 if it is not."""
        if self.busy:
            self.busy -= 1
            return _BUSY
        return self.code if command in self.refuse else 0

    def take(self, command: str) -> int:
        """Take a power command; return its completion code."""
        code = self.objection(command)
        if code:
            return code
        self.log.append((time.time(), command))
        if command in {"on", "off"} and command not in self.ignore:
            self.coming.append((time.monotonic() + self.settle, command))
            self.settle_down()
        return 0


class Device(bmc.Bmc):  # type: ignore[misc] # pyghmi ships no types
    """The BMC of a machine, listening on 127.0.0.1."""

    def __init__(self, machine: Machine, port: int) -> None:
        super().__init__(machine, port=port, address="127.0.0.1")
        self.machine = machine
        self.port: int = self.serversocket.getsockname()[1]

    def get_power_state(self) -> str:
        """Answer what pyghmi asks for a status."""
        self.machine.settle_down()
        return self.machine.power

    def power_off(self) -> int:
        """Take ``off``."""
        return self.machine.take("off")

    def power_on(self) -> int:
        """Take ``on``."""
        return self.machine.take("on")

    def power_cycle(self) -> int:
        """Log what nobody should send, and do nothing."""
        return self.machine.take("cycle")

    def power_reset(self) -> int:
        """Log what nobody should send, and do nothing."""
        return self.machine.take("reset")

    def pulse_diag(self) -> int:
        """Log what nobody should send, and do nothing."""
        return self.machine.take("diag")

    def power_shutdown(self) -> int:
        """Log what nobody should send, and do nothing."""
        return self.machine.take("softoff")

    def get_chassis_status(self, session: Any) -> None:
        """Answer a status read, unless told to refuse it."""
        code = self.machine.objection("status")
        if code:
            session.send_ipmi_response(code=code)
        else:
            super().get_chassis_status(session)

    def control_chassis(self, request: Any, session: Any) -> None:
        """Obey operators and above only."""
        if session.clientpriv < PRIVILEGES["operator"]:
            session.send_ipmi_response(code=_NO_PRIVILEGE)
        else:
            super().control_chassis(request, session)


class ServerSession(serversession.ServerSession):  # type: ignore[misc] # as above
    """One session of a client."""

    #: a session starts as USER
    clientpriv = PRIVILEGES["user"]

    def create_open_session_response(self, request: bytearray) -> bytearray:
        """Open the session, or say why not."""
        machine: Machine = self.bmc.machine
        if machine.lame:
            return bytearray()
        now = time.monotonic()
        machine.sessions = {one: heard for one, heard in machine.sessions.items() if now - heard < self.bmc.timeout}
        refusal = 0
        if not request[12] == request[20] == request[28] == 1:  # suite 3 proposes 1, 1, 1
            refusal = _NO_SUITE
        elif len(machine.sessions) >= machine.slots and self not in machine.sessions:
            refusal = _FULL
        if refusal:
            return bytearray([request[0], refusal, 0, 0]) + request[4:8]
        machine.sessions[self] = now
        self.executed: set[int] = set()
        return bytearray(super().create_open_session_response(request))

    def send_payload(self, payload: Any = (), *args: Any, **options: Any) -> None:
        """Send, unless there is nothing to say."""
        if payload:
            super().send_payload(payload, *args, **options)

    def _got_rmcp_openrequest(self, data: bytearray) -> None:
        # a client that starts anew speaks in clear again
        self.integrityalgo = self.confalgo = self.sequencenumber = self.sessionid = 0
        self.remseqnumber = None
        super()._got_rmcp_openrequest(data)

    def _got_rakp1(self, data: bytearray) -> None:
        name, role = bytes(data[28:]).decode(errors="replace"), data[24] & 0b111
        known = self.bmc.machine.users.get(name)
        if known is not None and role <= known[1]:
            super()._got_rakp1(data)
            return
        self.bmc.machine.sessions.pop(self, None)
        status = _NO_NAME if known is None else _NO_ROLE
        self.send_payload(bytearray([data[0], status, 0, 0]) + self.clientsessionid, _RAKP2, retry=False)

    def _handle_ipmi2_packet(self, data: bytearray) -> Any:
        if data[5] & 0b01000000:  # inside the session
            number = struct.unpack("<I", bytes(data[10:14]))[0]
            if number in self.executed:
                return None
            self.executed.add(number)
            self.bmc.machine.sessions[self] = time.monotonic()
        return super()._handle_ipmi2_packet(data)

    def close_server_session(self) -> None:
        """Forget the session: a late packet of it must find nobody."""
        self.bmc.machine.sessions.pop(self, None)
        library.Session.bmc_handlers.get(self.sockaddr, {}).pop(self.bmc.port, None)


def serve(machine: Machine, port: int, requests: int) -> None:
    """Be the device until the pipe *requests* ends; each of its lines is a JSON request, answered by a line on stdout."""
    prepare()
    serversession.ServerSession = ServerSession  # the name under which pyghmi's server makes its sessions
    device = Device(machine, port)
    _say(device.port)
    rest = b""
    while True:
        ready, _, _ = select.select([device.serversocket, requests], [], [])
        if requests in ready:
            said = os.read(requests, 65_536)
            if not said:
                return
            *lines, rest = (rest + said).split(b"\n")
            for line in lines:
                _say(_obey(machine, json.loads(line)))
        if device.serversocket in ready:
            _listen(device)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - this line is the interface


def _listen(device: Device) -> None:
    """Handle the packets that have come."""
    if device.machine.mute:
        with contextlib.suppress(BlockingIOError):
            device.serversocket.recv(4096, socket.MSG_DONTWAIT)
        return
    library._io_graball([device.serversocket], {})
    while library.sessionqueue:
        with contextlib.suppress(Exception):  # a packet that is no packet must not end the device
            library.sessionqueue.popleft().process_pktqueue()


def _obey(machine: Machine, request: dict[str, Any]) -> object:
    """Do what the other side of the pipe asks and return its answer."""
    machine.settle_down()
    match request["do"]:
        case "power":
            return machine.power
        case "log":
            return machine.log
        case "sessions":
            return len(machine.sessions)
        case "switch":
            machine.power = request["power"]
        case "user":
            machine.users[request["name"]] = (request["password"], PRIVILEGES[request["privilege"]])
        case "misbehave":
            machine.ignore, machine.refuse = frozenset(request["ignore"]), frozenset(request["refuse"])
            machine.code, machine.busy = request["code"], request["busy"]
            machine.mute, machine.lame = request["mute"], request["lame"]
    return None


def main(arguments: list[str] | None = None) -> None:
    """Run a BMC. The first line of standard input is the password, as a JSON string or plain; its end ends the BMC."""
    parser = argparse.ArgumentParser(prog="python -m pmcompat.testing.bmc", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="UDP port on 127.0.0.1; 0: any free one, printed")
    parser.add_argument("--username", default="admin")
    parser.add_argument("--settle", type=float, default=0.0, help="seconds from a command to its effect")
    parser.add_argument("--slots", type=int, default=16, help="sessions held at once")
    given = parser.parse_args(arguments)
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:  # unbuffered: select must see the rest
        line = stdin.readline().decode().rstrip("\n")
    password = json.loads(line) if line.startswith('"') else line
    users = {given.username: (password, PRIVILEGES["admin"])}
    serve(Machine(settle=given.settle, slots=given.slots, users=users), given.port, sys.stdin.fileno())
