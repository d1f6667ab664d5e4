"""One worker: one IPMI session at a time, one order at a time. The only client file that imports pyghmi.

What lives here: what pyghmi 1.6.19 needs to be trusted with somebody's power (fencing facts §9.1, by defect number), and the
exchange of packets inside a session. Who works when, and for how long, is decided by the driver at the other end of the socket.

* #1 credentials are bytes. #10 ``_Link`` never shares a session: each one is made anew.
* #2 lost wake-ups: pyghmi's I/O thread is never started; :func:`prepare` lets the caller itself wait for packets. Nothing else
  is patched, and only in a version known to have that shape.
* #6 the suite is chosen by the agent's option, and an answer in another suite than the one offered is seen.
* #7 pyghmi would send a chassis command again whenever a reply is late. Here ``on`` and ``off`` leave once; only after a status
  read in the same session was answered and shows that nothing happened do they leave again (see :func:`_control`).
* #8 every wait has an end. #9 a session lives for one command and a short linger.

Only ``on`` and ``off`` are ever sent: never reset, cycle, diag or boot.
"""

# ruff: noqa: SLF001 - pyghmi's wait loop and login steps have no public names; this file is where they are known

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import time
from importlib.metadata import version
from typing import Any, Self

from pyghmi.ipmi.private import session as library

from pmcompat.fence.drivers.ipmi_door import Door
from pmcompat.fence.drivers.ipmi_wire import LONGEST, Order, Report, decode_order, encode, from_the_wire
from pmcompat.model import FaultKind

#: pyghmi releases whose wait loop is the one replaced below
KNOWN = ("1.6.",)

# NetFn and command numbers (IPMI 2.0 appendix G)
_CHASSIS, _APPLICATION = 0, 6
_CHASSIS_STATUS, _CHASSIS_CONTROL, _SET_PRIVILEGE = 1, 2, 0x3B
_CONTROL = {"off": 0, "on": 1}
_USER = 2
#: RAKP status codes (IPMI 2.0 table 13-15): invalid role, unauthorized role
_NO_ROLE = (0x09, 0x0A)
_NODE_BUSY, _NO_PRIVILEGE = 0xC0, 0xD4
#: completion codes that say the command was not carried out; with any other it may have been
_NOT_DONE = {
    _NO_PRIVILEGE: (FaultKind.REFUSED, "the user's privilege is not enough for this command"),
    0xC1: (FaultKind.UNSUPPORTED, "the device does not know this command"),
    0xC9: (FaultKind.UNSUPPORTED, "the device does not know this command's value"),
    0xCC: (FaultKind.FAILED, "the device calls the command's data invalid: it cannot switch power"),
    0xD5: (FaultKind.FAILED, "the device cannot do this in its present state"),
    0xD6: (FaultKind.FAILED, "the command is switched off in the device"),
}
#: what pyghmi says when a login fails, by a part of its text
_LOGIN_ERRORS = (
    ("Incorrect password", FaultKind.REFUSED, "the password is wrong"),
    ("Unauthorized name", FaultKind.REFUSED, "the device does not know this user"),
    ("Unauthorized role", FaultKind.REFUSED, "the user may not have this privilege level"),
    ("Invalid role", FaultKind.REFUSED, "the user may not have this privilege level"),
    ("Invalid username", FaultKind.REFUSED, "the device does not accept this user name"),
    ("wrong Kg", FaultKind.REFUSED, "the key Kg is wrong"),
    ("Invalid integrity check", FaultKind.REFUSED, "the password or the key Kg is wrong"),
)
_FULL = "Insufficient resources"
_NO_SUITE = ("No Cipher suite", "Invalid authentication alg", "Invalid integrity alg", "No matching", "Invalid confidentiality")

#: seconds before the deadline at which the worker gives up by itself: the session is closed and no process is killed
_MARGIN = 0.03
#: seconds a login may take once the device answers at all
_LOGIN = 8.0
#: seconds after which an unanswered packet of a login is sent again, at most
_LONGEST_PATIENCE = 2.5
#: seconds without any reply after which a session counts as lost
_SILENCE = 3.0
#: seconds a device may take to answer an ``on`` or ``off`` before its status is looked at
_CONTROL_REPLY = 1.0
#: times one ``on`` or ``off`` leaves at most
_SENDINGS = 3
#: seconds a device may call itself busy
_BUSY = 5.0


class _Failed(Exception):
    """An order that ends in a fault."""

    def __init__(self, kind: FaultKind, message: str, *, sent: bool = False, full: bool = False, lost: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent
        self.full = full
        #: the session is of no use any more
        self.lost = lost


def prepare() -> None:
    """Make pyghmi work without its I/O thread (defect 2).

    :raises RuntimeError: a pyghmi of another shape.
    """
    found = version("pyghmi")
    if not found.startswith(KNOWN) or library._io_wait.__code__.co_varnames[:3] != ("timeout", "myaddr", "evq"):
        raise RuntimeError(f"pyghmi {found} is not a release this driver knows (1.6.x)")
    library.iothread = _NO_THREAD
    library.iothreadready = True
    library._io_wait = _wait
    library._monotonic_time = time.monotonic  # its own clock ticks every 10 ms


_NO_THREAD = object()


def _wait(timeout: float, _address: object = None, _events: object = None) -> None:
    """Wait for packets in the thread that wants them, and hand them to their sessions."""
    if select.select(library.iosockets, (), (), max(timeout, 0))[0]:
        library._io_graball(library.iosockets, {})


class _Link(library.Session):  # type: ignore[misc] # pyghmi ships no types
    """One RMCP+ session to one BMC. Made anew for each login; never shared."""

    def __new__(cls, _door: Door, _patience: float) -> Self:
        return object.__new__(cls)

    def __init__(self, door: Door, patience: float) -> None:
        self.door = door
        self.forbidsock: list[socket.socket] = []
        self.up = False
        self.answered = False
        self.error = ""
        self.offers = 0
        self.mismatch = False
        #: a command was slow to be answered: a copy of it may still be on its way
        self.suspect = False
        self.patience = patience
        super().__init__(
            bmc=door.host,
            userid=door.username.encode(errors="surrogateescape"),
            password=door.password.reveal().encode(errors="surrogateescape"),
            port=door.port,
            kg=bytes.fromhex(door.kg.reveal()) if door.kg else None,
            onlogon=self._told,
            privlevel=door.privilege,
        )

    @property
    def is_trying(self) -> bool:
        """Whether the login has neither succeeded nor failed."""
        return not self.up and not self.error

    def _told(self, outcome: dict[str, Any]) -> None:
        self.error = self.error or str(outcome.get("error", ""))

    def _initsession(self) -> None:
        super()._initsession()
        self.timeout = self.patience
        self.offers = 0
        if self.door.suite == 3 or self.mismatch:
            self.attemptedhash = 1

    def _timedout(self) -> None:
        # pyghmi waits a whole second longer each time. A lost packet needs no longer wait; a slow device does: see `_late`.
        self.patience = min(self.patience * random.uniform(1.0, 1.2), _LONGEST_PATIENCE)  # noqa: S311 - spreads retries
        self.timeout = self.patience - 1
        super()._timedout()

    def _late(self, data: bytearray) -> bool:
        """Tell whether *data* answers a request that another has already followed: then the device needs more time."""
        if data[0] == self.rmcptag:
            return False
        self.patience = min(self.patience * 1.6, _LONGEST_PATIENCE)
        return True

    def _get_channel_auth_cap(self) -> None:
        # The driver has asked this already, and whoever answered speaks IPMI 2.0: a round trip less, in each new attempt.
        self.ipmiversion = 2.0
        self._open_rmcpplus_request()

    def _open_rmcpplus_request(self) -> None:
        # A device that is silent about suite 17, or answers in suite 3 whatever was offered (defect 6), gets suite 3.
        self.offers += 1
        if self.door.suite is None and self.offers > 2:
            self.attemptedhash = 1
        super()._open_rmcpplus_request()

    def _got_rmcp_response(self, data: bytearray) -> int | None:
        if self._late(data) or self.sessioncontext != "OPENSESSION":
            return None
        self.answered = True
        offered = 3 if self.attemptedhash == 256 else 1
        if data[1] == 0 and data[16:17] != bytes([offered]):
            self.mismatch = True
            if self.door.suite is None and offered == 3:
                self.attemptedhash = 1
                self._open_rmcpplus_request()
            else:
                self.onlogon({"error": _NO_SUITE[0]})
            return None
        if data[1] != 0 and self.door.suite is not None and self.attemptedhash == 256:
            self.attemptedhash = 0  # no falling back: the operator chose the suite
        answer: int | None = super()._got_rmcp_response(data)
        return answer

    def _got_rakp2(self, data: bytearray) -> int | None:
        # No level was asked for: take the highest this user may have. pyghmi knows one of the two refusals, and one step.
        if self._late(data):
            return None
        refused = self.sessioncontext == "EXPECTINGRAKP2" and data[1] in _NO_ROLE
        if refused and self.autopriv and self.privlevel > _USER:
            self.privlevel -= 1
            self.login()
            return None
        answer: int | None = super()._got_rakp2(data)
        return answer

    def _req_priv_level(self) -> None:
        # pyghmi would wait here, inside its own packet handler; the level is asked for by `_log_in`.
        self.logged = 1
        self.logging = False
        self.logoutexpiry = None
        self.up = True
        self.onlogon({"success": True})

    def advance(self, until: float) -> None:
        """Handle packets, and send unanswered ones of the login again, until *until* or until something happened."""
        self.logontries = 9  # the end is the deadline's business, not a count
        library.Session.wait_for_rsp(max(until - time.monotonic(), 0))

    def send(self, netfn: int, command: int, data: tuple[int, ...], replies: list[dict[str, Any]]) -> None:
        """Send one request once; its reply will be appended to *replies*."""
        self.seqlun: int = (self.seqlun + 1) & 0x3F
        self.incommand = False
        self.raw_command(netfn, command, data=data, retry=False, callback=replies.append)

    def reply(self, command: int, replies: list[dict[str, Any]], until: float) -> dict[str, Any] | None:
        """Return the reply to *command*, or None if none came before *until*."""
        while True:
            for reply in replies:
                if reply.get("command") == command:
                    return reply
            if time.monotonic() >= until:
                return None
            library.Session.wait_for_rsp(max(until - time.monotonic(), 0))

    def ask(self, netfn: int, command: int, data: tuple[int, ...], *, patience: float, until: float) -> dict[str, Any] | None:
        """Send a request that changes nothing, again and again, until it is answered; None if it was not."""
        self.request_entry.clear()  # a late reply to an older question is no answer to this one
        replies: list[dict[str, Any]] = []
        while time.monotonic() < until:
            self.send(netfn, command, data, replies)
            found = self.reply(command, replies, min(time.monotonic() + patience, until))
            if found is not None:
                return found
            patience = min(patience * 2, 1.0)
        return None

    def end(self) -> None:
        """Close the session, without waiting for the device's consent."""
        self.incommand = False
        with contextlib.suppress(Exception):
            self.logout(False) if self.up else self._mark_broken()
        library.Session.waiting_sessions.clear()  # one session per process: nobody else waits
        library.Session.keepalive_sessions.clear()
        library.Session.bmc_handlers.clear()


def _log_in(door: Door, *, connect: float, patience: float, until: float) -> _Link:
    """Return an open session at the privilege asked for; *connect* seconds without any answer are enough."""
    library._io_graball(library.iosockets, {})  # late packets of an earlier session are no sign of life
    link = _Link(door, patience)
    silent = min(time.monotonic() + connect, until)
    try:
        while link.is_trying and time.monotonic() < (until if link.answered else silent):
            link.advance(until if link.answered else silent)
        _check_login(link)
        _take_privilege(link, patience=patience, until=until)
    except BaseException:
        link.end()
        raise
    return link


def _check_login(link: _Link) -> None:
    """Raise what a login failed of."""
    if link.error:
        raise _refusal(link.error, link.door)
    if not link.up:
        raise _unfinished(link)


def _refusal(text: str, door: Door) -> _Failed:
    if _FULL in text:
        return _Failed(FaultKind.FAILED, "the device has no free session", full=True)
    if any(part in text for part in _NO_SUITE):
        return _Failed(FaultKind.UNSUPPORTED, f"the device refuses cipher suite {door.suites}; set the option cipher")
    for part, kind, message in _LOGIN_ERRORS:
        if part in text:
            return _Failed(kind, message)
    return _Failed(FaultKind.FAILED, f"login failed: {text[:200]}")


def _unfinished(link: _Link) -> _Failed:
    if not link.answered:
        return _Failed(FaultKind.UNREACHABLE, "the device does not answer")
    offered = f"cipher suite {link.door.suites} was offered"
    return _Failed(FaultKind.TIMEOUT, f"the device answers but the login did not come to an end ({offered})")


def _take_privilege(link: _Link, *, patience: float, until: float) -> None:
    """Ask for the level the login was made with: a session starts as USER whatever the user may."""
    reply = link.ask(_APPLICATION, _SET_PRIVILEGE, (link.privlevel,), patience=patience, until=until)
    while reply is not None and reply["code"] and link.autopriv and link.privlevel > _USER:
        link.privlevel -= 1
        reply = link.ask(_APPLICATION, _SET_PRIVILEGE, (link.privlevel,), patience=patience, until=until)
    if reply is None:
        raise _unfinished(link)
    if reply["code"]:
        raise _Failed(FaultKind.REFUSED, f"the user may not have privilege level {link.privlevel}")


def _status(link: _Link, *, patience: float, until: float) -> str:
    """Return ``on`` or ``off``. A busy device is asked again: a status read changes nothing."""
    busy_until = min(until, time.monotonic() + _BUSY)
    while True:
        reply = link.ask(_CHASSIS, _CHASSIS_STATUS, (), patience=patience, until=min(until, time.monotonic() + _SILENCE))
        if reply is None:
            raise _Failed(FaultKind.UNREACHABLE, "the device stopped answering in the middle of a session", lost=True)
        if reply["code"] != _NODE_BUSY or time.monotonic() + 0.1 >= busy_until:
            break
        time.sleep(0.1)
    if reply["code"]:
        raise _completion(reply["code"])
    if not reply["data"]:
        raise _Failed(FaultKind.FAILED, "the device's answer holds no power status")
    return "on" if reply["data"][0] & 1 else "off"


def _control(link: _Link, action: str, *, patience: float, until: float) -> None:
    """Send ``on`` or ``off`` and return when the device took it.

    No reply within a second: the status is read in the same session. A device that answers it has had the command, or the
    command was lost on the way; if the power is not as wanted and still no reply came, the command is sent again, at most
    three times in all. Both commands are idempotent; a session in which this happened is not used again, so that a copy
    that is late on the network finds it closed.
    """
    link.request_entry.clear()
    replies: list[dict[str, Any]] = []
    for number in range(1, _SENDINGS + 1):
        link.send(_CHASSIS, _CHASSIS_CONTROL, (_CONTROL[action],), replies)
        now = time.monotonic()
        reply = link.reply(_CHASSIS_CONTROL, replies, min(now + _CONTROL_REPLY, until))
        reply = reply or _look(link, action, replies, patience=patience, until=until)
        if reply is not None:
            if reply["code"]:
                raise _completion(reply["code"], control=True)
            link.suspect = number > 1 or time.monotonic() - now >= _CONTROL_REPLY
            return
        if time.monotonic() >= until:
            break
    raise _Failed(FaultKind.TIMEOUT, f"no answer to {action}: it may have acted", sent=True, lost=True)


def _look(link: _Link, action: str, replies: list[dict[str, Any]], *, patience: float, until: float) -> dict[str, Any] | None:
    """Return the late reply to a chassis command, or one of our own if the power is as wanted; None if neither."""
    quiet = min(until, time.monotonic() + _SILENCE)
    while time.monotonic() < quiet:
        link.send(_CHASSIS, _CHASSIS_STATUS, (), replies)
        link.reply(_CHASSIS_STATUS, replies, min(time.monotonic() + patience, quiet))
        late = link.reply(_CHASSIS_CONTROL, replies, time.monotonic())
        if late is not None:
            return late
        for reply in replies:
            if reply["command"] == _CHASSIS_STATUS and not reply["code"] and reply["data"]:
                if ("on" if reply["data"][0] & 1 else "off") == action:
                    return {"command": _CHASSIS_CONTROL, "code": 0}
                return link.reply(_CHASSIS_CONTROL, replies, min(until, time.monotonic() + _CONTROL_REPLY / 2))
    raise _Failed(FaultKind.TIMEOUT, f"the device fell silent after {action}: it may have acted", sent=True, lost=True)


def _completion(code: int, *, control: bool = False) -> _Failed:
    if code in _NOT_DONE:
        kind, message = _NOT_DONE[code]
        return _Failed(kind, f"{message} (completion code 0x{code:02X})")
    message = "the device is busy" if code == _NODE_BUSY else "the device reports a failure"
    return _Failed(FaultKind.FAILED, f"{message} (completion code 0x{code:02X})", sent=control)


class _Worker:
    """Obeys orders from one socket until it closes."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.link: _Link | None = None
        self.idle_until = 0.0
        self.sending = False

    def serve(self) -> None:
        self.tell({"pid": os.getpid()})
        while (order := self.next_order()) is not None and order["do"] != "quit":
            self.sending = False
            if order["do"] == "close":
                self.hang_up()
                continue
            try:
                report = self.obey(order)
            except _Failed as failed:
                if failed.lost:
                    self.hang_up()
                report = {"fault": failed.kind.value, "message": str(failed), "sent": failed.sent, "full": failed.full}
            except Exception as error:  # noqa: BLE001 - pyghmi raises what it likes; its text may quote what it was given
                self.hang_up()
                message = f"the IPMI library failed ({type(error).__name__})"
                report = {"fault": FaultKind.FAILED.value, "message": message, "sent": self.sending}
            self.idle_until = time.monotonic() + order["linger"]
            self.tell({**report, "id": order["id"], "open": self.link is not None})
        self.hang_up()

    def next_order(self) -> Order | None:
        """Return the next order, closing the session when nobody came in time; None when the driver is gone."""
        if self.link is not None and not self.heard(max(self.idle_until - time.monotonic(), 0)):
            self.hang_up()
            self.tell({"closed": True})
        packet = self.channel.recv(LONGEST)
        return decode_order(packet) if packet else None

    def obey(self, order: Order) -> Report:
        until = order["deadline"] - _MARGIN
        if order["do"] == "resolve":
            return self.resolve(order)
        door = from_the_wire(order["door"])
        link, fresh = self.enter(door, order, until)
        if order["do"] == "status":
            try:
                return {"power": _status(link, patience=order["patience"], until=until)}
            except _Failed as failed:
                if fresh or not failed.lost:
                    raise
            self.hang_up()  # the device forgot a session that lingered: a new one tells
            link, _ = self.enter(door, order, until)
            return {"power": _status(link, patience=order["patience"], until=until)}
        if time.monotonic() >= until or self.heard(0):  # heard: the driver is gone, and with it whoever wanted this
            raise _Failed(FaultKind.TIMEOUT, "the deadline passed before the command was sent")
        self.sending = True
        self.tell({"id": order["id"], "sending": True})
        _control(link, order["do"], patience=order["patience"], until=until)
        if link.suspect:
            self.hang_up()
        return {"accepted": True}

    def enter(self, door: Door, order: Order, until: float) -> tuple[_Link, bool]:
        """Return the open session through *door*, or a new one, and whether it is new."""
        if self.link is not None and self.link.door == door:
            return self.link, False
        self.hang_up()
        if time.monotonic() >= until:
            raise _Failed(FaultKind.TIMEOUT, "the deadline passed before the device was asked")
        until = min(until, time.monotonic() + _LOGIN)
        self.link = _log_in(door, connect=order["connect"], patience=order["patience"], until=until)
        return self.link, True

    def resolve(self, order: Order) -> Report:
        host, port = order["door"][:2]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            raise _Failed(FaultKind.UNREACHABLE, "the name is not known") from None
        return {"addresses": list(dict.fromkeys(str(entry[4][0]) for entry in found))}

    def hang_up(self) -> None:
        if self.link is not None:
            self.link.end()
            self.link = None

    def heard(self, seconds: float) -> bool:
        """Tell whether the driver said something, or is gone."""
        return bool(select.select([self.channel], (), (), seconds)[0])

    def tell(self, report: Report) -> None:
        self.channel.send(encode(report))


def serve(channel: socket.socket) -> None:
    """Work for the driver at the other end of *channel* until it closes it."""
    _Worker(channel).serve()
