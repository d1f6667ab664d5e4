"""Devices for the tests of the drivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peers.udp_proxy import UdpProxy, udp_proxy

from pmcompat.testing.bmc import Bmc


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with Bmc.start() as device:
        yield device


@pytest.fixture
def proxied(bmc: Bmc) -> Iterator[UdpProxy]:
    with udp_proxy(bmc.port) as proxy:
        yield proxy
