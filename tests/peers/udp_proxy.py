"""A bad network between a client and one UDP port of 127.0.0.1: it drops, duplicates, delays and reorders.

Its dice are seeded; what it did is counted. Runs in a thread of the test's process.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Weather:
    """How bad it is. Shares are between 0 and 1, per packet and direction; may be changed while it runs."""

    drop: float = 0.0
    duplicate: float = 0.0
    #: share of packets that are held back for 20 to 80 ms, so that later ones overtake them
    reorder: float = 0.0
    #: share of packets that are held back for ``delay_by`` seconds
    delay: float = 0.0
    delay_by: float = 0.3
    #: this many next replies are lost for sure
    lose_replies: int = 0
    #: this many next requests are lost for sure
    lose_requests: int = 0


@dataclass
class UdpProxy:
    """A running proxy."""

    target: int
    weather: Weather
    seed: int = 0
    port: int = 0
    #: requests and replies that came in, whatever became of them
    requests: int = 0
    replies: int = 0
    lost: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, front: socket.socket) -> None:
        dice = random.Random(self.seed)
        number = itertools.count()
        held: list[tuple[float, int, socket.socket, bytes, tuple[str, int] | None]] = []
        backs: dict[tuple[str, int], socket.socket] = {}
        try:
            while not self._stop.is_set():
                wait = min(max(held[0][0] - time.monotonic(), 0), 0.05) if held else 0.05
                for ready in select.select([front, *backs.values()], [], [], wait)[0]:
                    try:
                        packet, sender = ready.recvfrom(4096)
                    except OSError:
                        continue  # nobody listens behind us: an ICMP error we do not pass on
                    if ready is front:
                        self.requests += 1
                        if sender not in backs:
                            backs[sender] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                            backs[sender].connect(("127.0.0.1", self.target))
                        out = backs[sender]
                        to: tuple[str, int] | None = None
                        lose, self.weather.lose_requests = self.weather.lose_requests, max(self.weather.lose_requests - 1, 0)
                    else:
                        self.replies += 1
                        out, to = front, next(client for client, back in backs.items() if back is ready)
                        lose, self.weather.lose_replies = self.weather.lose_replies, max(self.weather.lose_replies - 1, 0)
                    if lose:
                        self.lost += 1
                        continue
                    for at in self.fate(dice):
                        heapq.heappush(held, (at, next(number), out, packet, to))
                while held and held[0][0] <= time.monotonic():
                    _, _, out, packet, to = heapq.heappop(held)
                    with contextlib.suppress(OSError):
                        out.send(packet) if to is None else out.sendto(packet, to)
        finally:
            for back in backs.values():
                back.close()

    def fate(self, dice: random.Random) -> list[float]:
        """Return when the copies of one packet leave."""
        now, weather = time.monotonic(), self.weather
        if dice.random() < weather.drop:
            self.lost += 1
            return []
        at = now
        if dice.random() < weather.reorder:
            at = now + dice.uniform(0.02, 0.08)
        if dice.random() < weather.delay:
            at = now + weather.delay_by
        return [at, at + dice.uniform(0, 0.02)] if dice.random() < weather.duplicate else [at]


@contextlib.contextmanager
def udp_proxy(target: int, weather: Weather | None = None, *, seed: int = 0) -> Iterator[UdpProxy]:
    """Run a proxy before port *target*; ``.port`` is where clients send to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front:
        front.bind(("127.0.0.1", 0))
        proxy = UdpProxy(target, weather or Weather(), seed, front.getsockname()[1])
        thread = threading.Thread(target=proxy.run, args=(front,), name="udp-proxy")
        thread.start()
        try:
            yield proxy
        finally:
            proxy._stop.set()
            thread.join()
