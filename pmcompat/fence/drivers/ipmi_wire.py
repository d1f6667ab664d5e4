"""What the driver and its workers say to each other over a socket pair.

What lives here: the messages and their encoding. One JSON object per packet (``SOCK_SEQPACKET`` keeps them apart). The
password crosses here and nowhere else: no argv, no environment, no file.
"""

from __future__ import annotations

import json
from typing import TypedDict

from pmcompat.fence.drivers.ipmi_door import Door
from pmcompat.model import Secret

#: bytes of the longest packet
LONGEST = 65_536

SPAWN = b"spawn"
REAP = b"reap "
BROKEN = b"broken "

#: host, port, username, password, kg in hexadecimal digits, suite, privilege
WireDoor = tuple[str, int, str, str, str | None, int | None, int | None]


class Order(TypedDict, total=False):
    """What a worker is asked. ``do`` is ``on``, ``off``, ``status``, ``resolve``; ``close`` and ``quit`` are not answered."""

    id: int
    do: str
    #: ``host`` is numeric, but for ``resolve``
    door: WireDoor
    #: seconds of ``time.monotonic()``, the same clock in every process of one machine
    deadline: float
    #: seconds the session stays open after the answer, for the next command through the same door
    linger: float
    #: seconds without a reply after which a packet is sent again
    patience: float
    #: seconds without any answer at all after which the device counts as silent
    connect: float


class Report(TypedDict, total=False):
    """What a worker says. ``id`` is the order's; a report without one tells of the worker itself."""

    id: int
    #: first words of a worker
    pid: int
    #: the next packet is the ``on`` or ``off`` itself: from here on it may act
    sending: bool
    power: str
    accepted: bool
    #: a :class:`~pmcompat.model.FaultKind`
    fault: str
    message: str
    sent: bool
    #: the device has no free session: worth another try after a while
    full: bool
    addresses: list[str]
    #: whether the session is still open
    open: bool
    #: nobody came; the session was closed
    closed: bool


def on_the_wire(door: Door, host: str) -> WireDoor:
    """Return *door* as an order carries it, with the numeric address *host*."""
    kg = door.kg.reveal() if door.kg else None
    return host, door.port, door.username, door.password.reveal(), kg, door.suite, door.privilege


def from_the_wire(fields: WireDoor) -> Door:
    """Return the door an order carries."""
    host, port, username, password, kg, suite, privilege = fields
    return Door(
        host=host,
        port=port,
        username=username,
        password=Secret(password),
        kg=Secret(kg) if kg else None,
        suite=suite,
        privilege=privilege,
    )


def encode(message: Order | Report) -> bytes:
    """Return one packet."""
    return json.dumps(message).encode()


def decode_order(packet: bytes) -> Order:
    """Return the order in a packet."""
    order: Order = json.loads(packet)
    return order


def decode_report(packet: bytes) -> Report:
    """Return the report in a packet."""
    report: Report = json.loads(packet)
    return report
