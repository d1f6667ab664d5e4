"""One worker: one IPMI session at a time, one order at a time.

What lives here: logging in, reading the status, sending ``on`` and ``off``, and the words for what went wrong. Single packets
are :mod:`~pmcompat.fence.drivers.ipmi_worker_link`'s; who works when, and for how long, is decided by the driver at the other
end of the socket.

Only ``on`` and ``off`` are ever sent: never reset, cycle, diag or boot. They leave once; only after a status read in the same
session was answered and shows that nothing happened do they leave again (:func:`_control`). A session lives for one command
and a short linger (fencing facts §9.1 #7, #9).
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any

from pmcompat.fence.drivers.ipmi_door import Door
from pmcompat.fence.drivers.ipmi_wire import LONGEST, Order, Report, decode_order, encode, from_the_wire
from pmcompat.fence.drivers.ipmi_worker_link import NO_SUITE, Link
from pmcompat.model import FaultKind

# NetFn and command numbers (IPMI 2.0 appendix G)
_CHASSIS, _APPLICATION = 0, 6
_CHASSIS_STATUS, _CHASSIS_CONTROL, _SET_PRIVILEGE = 1, 2, 0x3B
_CONTROL = {"off": 0, "on": 1}
_USER = 2
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

#: seconds before the deadline at which the worker gives up by itself: the session is closed and no process is killed
_MARGIN = 0.03
#: seconds a login may take once the device answers at all
_LOGIN = 8.0
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


def _log_in(door: Door, *, connect: float, patience: float, until: float) -> Link:
    """Return an open session at the privilege asked for; *connect* seconds without any answer are enough."""
    link = Link(door, patience)
    patient = time.monotonic() + connect
    silent = min(patient, until)
    try:
        while link.is_trying and time.monotonic() < (until if link.answered else silent):
            link.advance(until if link.answered else silent)
        _check_login(link, cut_short=patient > until)
        _take_privilege(link, patience=patience, until=until)
    except BaseException:
        link.end()
        raise
    return link


def _check_login(link: Link, *, cut_short: bool) -> None:
    """Raise what a login failed of; one that was *cut_short* by the deadline does not make its device a silent one."""
    if link.error:
        raise _refusal(link.error, link.door)
    if cut_short and not link.answered:
        raise _Failed(FaultKind.TIMEOUT, "the deadline passed before the device answered the login")
    if not link.up:
        raise _unfinished(link)


def _refusal(text: str, door: Door) -> _Failed:
    if _FULL in text:
        return _Failed(FaultKind.FAILED, "the device has no free session", full=True)
    if any(part in text for part in NO_SUITE):
        return _Failed(FaultKind.UNSUPPORTED, f"the device refuses cipher suite {door.suites}; set the option cipher")
    for part, kind, message in _LOGIN_ERRORS:
        if part in text:
            return _Failed(kind, message)
    return _Failed(FaultKind.FAILED, f"login failed: {text[:200]}")


def _unfinished(link: Link) -> _Failed:
    offered = f"cipher suite {link.door.suites} was offered"
    if not link.answered:
        return _Failed(FaultKind.UNREACHABLE, f"the device answers no login ({offered})")
    return _Failed(FaultKind.TIMEOUT, f"the device answers but the login did not come to an end ({offered})")


def _take_privilege(link: Link, *, patience: float, until: float) -> None:
    """Ask for the level the login was made with: a session starts as USER whatever the user may."""
    reply = link.ask(_APPLICATION, _SET_PRIVILEGE, (link.privlevel,), patience=patience, until=until)
    while reply is not None and reply["code"] and link.autopriv and link.privlevel > _USER:
        link.privlevel -= 1
        reply = link.ask(_APPLICATION, _SET_PRIVILEGE, (link.privlevel,), patience=patience, until=until)
    if reply is None:
        raise _unfinished(link)
    if reply["code"]:
        raise _Failed(FaultKind.REFUSED, f"the user may not have privilege level {link.privlevel}")


def _status(link: Link, *, patience: float, until: float) -> str:
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


def _control(link: Link, action: str, *, patience: float, until: float) -> None:
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
                raise _completion(reply["code"], control=True, copied=number > 1)
            link.suspect |= number > 1 or time.monotonic() - now >= _CONTROL_REPLY
            return
        if time.monotonic() >= until:
            break
    raise _Failed(FaultKind.TIMEOUT, f"no answer to {action}: it may have acted", sent=True, lost=True)


def _look(link: Link, action: str, replies: list[dict[str, Any]], *, patience: float, until: float) -> dict[str, Any] | None:
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


def _completion(code: int, *, control: bool = False, copied: bool = False) -> _Failed:
    """Return what a completion code means; of a command that left before, unanswered, it says only what became of the copy."""
    if code in _NOT_DONE:
        kind, message = _NOT_DONE[code]
        return _Failed(kind, f"{message} (completion code 0x{code:02X})", sent=copied)
    message = "the device is busy" if code == _NODE_BUSY else "the device reports a failure"
    return _Failed(FaultKind.FAILED, f"{message} (completion code 0x{code:02X})", sent=control)


class _Worker:
    """Obeys orders from one socket until it closes."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.link: Link | None = None
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
                if failed.lost or (self.link is not None and self.link.suspect):
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
        try:
            _control(link, order["do"], patience=order["patience"], until=until)
        except _Failed as failed:
            if failed.kind is not FaultKind.REFUSED:
                raise
            # A copied packet of the login can set a session back to the level of a USER. Refused is not done: ask again.
            link.suspect = True
            try:
                _take_privilege(link, patience=order["patience"], until=until)
                _control(link, order["do"], patience=order["patience"], until=until)
            except _Failed as again:
                again.sent |= failed.sent
                raise
        if link.suspect:
            self.hang_up()
        return {"accepted": True}

    def enter(self, door: Door, order: Order, until: float) -> tuple[Link, bool]:
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
