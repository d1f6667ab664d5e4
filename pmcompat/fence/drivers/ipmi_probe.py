"""Does anybody answer there? Asked by the driver itself before a worker is spent on a device.

What lives here: one sessionless packet, Get Channel Authentication Capabilities (IPMI 2.0 §22.13), sent from a connected UDP
socket, so that a closed port is known at once and a silent one after ``connect_timeout``: pyghmi alone needs 4 to 29 s
(fencing facts §9.2). Any number of silent devices costs no worker and no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pmcompat.model import AgentFault, FaultKind

_RMCP = bytes.fromhex("0600ff07")
_HELLO = _RMCP + bytes.fromhex("00 00000000 00000000 09 20 18 c8 81 00 38 8e 04 b5")
#: seconds between the copies that are sent while nobody answers
_GAPS = (0.1, 0.15, 0.2)
#: offsets in the answer: completion code, authentication types, extended capabilities
_CODE, _TYPES, _EXTENDED = 20, 22, 24


@dataclass(frozen=True, slots=True)
class Answered:
    """Somebody answered."""

    #: numeric address
    host: str
    #: seconds from the first packet to the answer
    seconds: float


async def reach(hosts: Sequence[str], port: int, *, within: float) -> Answered | AgentFault:
    """Ask all numeric addresses *hosts* at once and return the first that answers, within so many seconds."""
    loop = asyncio.get_running_loop()
    knock = _Knock(loop, port)
    try:
        for host in hosts:
            knock.at(host)
        knock.settle_if_refused()
        knock.again(0)
        return await asyncio.wait_for(knock.answer, within)
    except TimeoutError:
        return AgentFault(kind=FaultKind.UNREACHABLE, message=f"the device did not answer within {within:.2g} s")
    finally:
        knock.close()


class _Knock:
    """The sockets of one question."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.loop = loop
        self.port = port
        self.answer: asyncio.Future[Answered | AgentFault] = loop.create_future()
        self.sockets: dict[socket.socket, str] = {}
        self.why = "the address cannot be reached"
        self.started = time.monotonic()
        self.timer: asyncio.TimerHandle | None = None

    def at(self, host: str) -> None:
        """Send the first packet to one address."""
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                host, self.port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
            )[0]
            link = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError):
            return
        link.setblocking(False)
        self.sockets[link] = host
        self.loop.add_reader(link, self.read, link)
        try:
            link.connect(where)
            link.send(_HELLO)
        except OSError as error:
            self.drop(link, error)

    def again(self, number: int) -> None:
        """Send a copy after a while: packets get lost."""
        gap = _GAPS[min(number, len(_GAPS) - 1)]
        self.timer = self.loop.call_later(gap, self.resend, number + 1)

    def resend(self, number: int) -> None:
        for link in list(self.sockets):
            try:
                link.send(_HELLO)
            except OSError as error:
                self.drop(link, error)
        self.settle_if_refused()
        self.again(number)

    def read(self, link: socket.socket) -> None:
        try:
            packet = link.recv(512)
        except BlockingIOError:
            return
        except OSError as error:
            self.drop(link, error)
            self.settle_if_refused()
            return
        if not packet.startswith(_RMCP) or self.answer.done():
            return
        self.answer.set_result(_read(packet) or Answered(self.sockets[link], time.monotonic() - self.started))

    def drop(self, link: socket.socket, error: OSError) -> None:
        if error.errno in {errno.EAGAIN, errno.ENOBUFS}:
            return
        if error.errno == errno.ECONNREFUSED:
            self.why = f"nothing listens on UDP port {self.port} there"
        self.loop.remove_reader(link)
        self.sockets.pop(link, None)
        link.close()

    def settle_if_refused(self) -> None:
        if not self.sockets and not self.answer.done():
            self.answer.set_result(AgentFault(kind=FaultKind.UNREACHABLE, message=self.why))

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        for link in list(self.sockets):
            self.loop.remove_reader(link)
            with contextlib.suppress(OSError):
                link.close()


def _read(packet: bytes) -> AgentFault | None:
    """Return a fault where the device says that it cannot speak IPMI 2.0."""
    if len(packet) <= _EXTENDED or packet[_CODE] != 0:
        return None  # alive, and busy or odd: the login will tell
    if packet[_TYPES] & 0x80 and packet[_EXTENDED] & 0x02:
        return None
    return AgentFault(
        kind=FaultKind.UNSUPPORTED, message="the device does not speak IPMI 2.0; try driver=fence_agents without lanplus"
    )
