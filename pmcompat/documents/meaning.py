"""What the agents of a document mean together: who is primary, what is odd, in which order the children stand.

Pure rules over plain values (api facts §5, §6), shared by everything that reads, writes, translates or compares.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence

#: agent data: what belongs to one device and moves between the forms, in the order of every profile
FIELDS = ("address", "username", "password", "options")
#: children of ``power_management`` in the order of the profiles; a profile without one of them refuses it by its schema
SEQUENCE = (
    "enabled",
    *FIELDS,
    "status",
    "pm_proxies",
    "agents",
    "automatic_pm_enabled",
    "kdump_detection",
)
#: children of ``agent`` in the order of profile 3.6, of which the earlier ones have a part
AGENT_SEQUENCE = (
    "actions",
    "name",
    "description",
    "comment",
    "creation_status",
    "link",
    *FIELDS,
    "encrypt_options",
    "concurrent",
    "order",
    "port",
    "host",
)


class Role(enum.Enum):
    """What an agent is to the engine of a profile."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    #: kept by the document, read by no engine of this profile (an order of 0, below or above 2)
    UNREAD = "unread"


def is_resource(profile: str) -> bool:
    """Tell whether agents are resources with any number of orders (3.6), not a primary and a secondary."""
    return profile == "3.6"


def roles(orders: Sequence[int | None], profile: str) -> list[Role]:
    """Return each agent's role from the orders as the document gives them, None where there is none.

    3.2 to 3.5 read with a running counter: an explicit order sets it, an agent that became the primary moves it on to 2.
    3.6 ranks: the smallest order is the primary, the next one the secondary; agents without an order come last.
    """
    return _ranked(orders) if is_resource(profile) else _counted(orders)


def _counted(orders: Sequence[int | None]) -> list[Role]:
    found = []
    counter = 1
    for order in orders:
        counter = counter if order is None else order
        found.append({1: Role.PRIMARY, 2: Role.SECONDARY}.get(counter, Role.UNREAD))
        counter = 2 if counter == 1 else counter
    return found


def _ranked(orders: Sequence[int | None]) -> list[Role]:
    found = [Role.UNREAD] * len(orders)
    ranking = sorted(range(len(orders)), key=lambda i: (orders[i] is None, orders[i] or 0, i))
    for index, role in zip(ranking, (Role.PRIMARY, Role.SECONDARY), strict=False):
        found[index] = role
    return found


def oddities(orders: Sequence[int | None], profile: str) -> list[str]:
    """Return what an engine of this profile would not read as written; [] where the orders are plain.

    In 3.6 only an order that is missing beside others is odd: equal orders mean concurrent there.
    """
    missing = orders.count(None)
    found = []
    if is_resource(profile):
        return ["an agent has no order beside others"] if missing and len(orders) > 1 else []
    found += [
        f"order {order} is neither 1 nor 2: the engine does not read this agent"
        for order in orders
        if order not in {None, 1, 2}
    ]
    twice = [order for order, count in Counter(orders).items() if order is not None and count > 1]
    found += [f"order {order} stands {orders.count(order)} times: the last one overrides the others" for order in twice]
    if missing and missing < len(orders):
        found.append("an agent has no order beside agents that have one")
    elif missing > 2:
        found.append(f"{missing} agents have no order: the last one overrides the second")
    return found


def concurrent_pair(orders: Sequence[int | None], flags: Sequence[bool | None], profile: str) -> bool:
    """Tell whether the two agents act together: the secondary's flag, in 3.6 equal orders (api facts §6)."""
    if len(orders) < 2:
        return False
    found = roles(orders, profile)
    if is_resource(profile):
        ranked = [order for order, role in zip(orders, found, strict=True) if role is not Role.UNREAD]
        return len(ranked) > 1 and ranked[0] is not None and ranked[0] == ranked[1]
    return any(bool(flag) for flag, role in zip(flags, found, strict=True) if role is Role.SECONDARY)
