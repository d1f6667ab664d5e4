"""One IPMI session: pyghmi's, made fit to be trusted. The only client file that imports pyghmi.

What lives here: what pyghmi 1.6.19 needs (fencing facts §9.1, by defect number), and sending and awaiting single packets. What
is asked in a session, and in what order, is :mod:`~pmcompat.fence.drivers.ipmi_worker`'s.

* #1 credentials are bytes. #10 :class:`Link` never shares a session: each one is made anew, with a port of its own.
* #2 lost wake-ups: pyghmi's I/O thread is never started; :func:`prepare` lets the caller itself wait for packets. Nothing else
  is patched, and only in a version known to have that shape.
* #6 the suite is chosen by the agent's option, and an answer in another suite than the one offered is seen.
* #7 pyghmi sends whatever is not answered again, chassis commands too: :meth:`Link.send` sends once.
* #8 every wait has an end.
"""

# ruff: noqa: SLF001 - pyghmi's wait loop and login steps have no public names; this file is where they are known

from __future__ import annotations

import contextlib
import hashlib
import hmac
import random
import select
import socket
import time
from importlib.metadata import version
from typing import Any, Self

from pyghmi.ipmi.private import session as library

from pmcompat.fence.drivers.ipmi_door import STANDARD_PORT, Door

#: pyghmi releases whose wait loop is the one replaced below
KNOWN = ("1.6.",)

#: the lowest level a login falls back to by itself
_USER = 2
#: RAKP status codes (IPMI 2.0 table 13-15): invalid role, unauthorized role
_NO_ROLE = (0x09, 0x0A)
#: what pyghmi says of a device that shares no cipher suite with it, by a part of its text
NO_SUITE = ("No Cipher suite", "Invalid authentication alg", "Invalid integrity alg", "No matching", "Invalid confidentiality")
#: seconds after which an unanswered packet of a login is sent again, at most
_LONGEST_PATIENCE = 2.5


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
    _warm_up()


def _warm_up() -> None:
    """Have the system's libraries set themselves up before there are workers.

    Name look-up, AES and the digests load and initialise at their first use: 7 of the 12 ms of a worker's first login, in every
    one of them. Nothing is sent.
    """
    for hash_name in ("sha1", "sha256"):
        hmac.digest(b"key", b"text", hash_name)
        hmac.new(b"key", b"text", getattr(hashlib, hash_name)).digest()
    cipher = library.Cipher(library.algorithms.AES(bytes(16)), library.modes.CBC(bytes(16)))
    encryptor, decryptor = cipher.encryptor(), cipher.decryptor()
    decryptor.update(encryptor.update(bytes(16)) + encryptor.finalize())
    decryptor.finalize()
    socket.getaddrinfo("127.0.0.1", STANDARD_PORT, type=socket.SOCK_DGRAM)


_NO_THREAD = object()


def _wait(timeout: float, _address: object = None, _events: object = None) -> None:
    """Wait for packets in the thread that wants them, and hand them to their sessions."""
    if select.select(library.iosockets, (), (), max(timeout, 0))[0]:
        library._io_graball(library.iosockets, {})


class Link(library.Session):  # type: ignore[misc] # pyghmi ships no types
    """One RMCP+ session to one BMC. Made anew for each login; never shared."""

    def __new__(cls, _door: Door, _patience: float) -> Self:
        """Return an object of our own: pyghmi would hand out somebody else's session (defect 10)."""
        return object.__new__(cls)

    def __init__(self, door: Door, patience: float) -> None:
        self.door = door
        self.forbidsock: list[socket.socket] = []
        self.up = False
        self.answered = False
        self.half_open = False
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
        self.half_open = self.sessioncontext == "EXPECTINGRAKP4"
        super()._timedout()

    def _late(self, data: bytearray) -> bool:
        """Tell whether *data* answers a request that another has already followed: then the device needs more time."""
        if data[0] == self.rmcptag:
            return False
        self.patience = min(self.patience * 1.6, _LONGEST_PATIENCE)
        return True

    def _get_channel_auth_cap(self) -> None:
        # The driver has asked this already, and whoever answered speaks IPMI 2.0: a round trip less in each attempt. Where the
        # last answer of a login was lost, the device believes in a session; pyghmi's own BMC forgets it when asked this.
        if self.half_open:
            super()._get_channel_auth_cap()
            return
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
                self.onlogon({"error": NO_SUITE[0]})
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
        # One session per process: nobody else waits. The next one gets a port of its own, where no packet can be late.
        library.Session.waiting_sessions.clear()
        library.Session.keepalive_sessions.clear()
        library.Session.bmc_handlers.clear()
        library.Session.socketpool.clear()
        library.sessionqueue.clear()
        while library.iosockets:
            library.iosockets.pop().close()
