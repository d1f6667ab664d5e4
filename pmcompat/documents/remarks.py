"""What there is to say about one fragment: what an engine would read differently, and what a form cannot hold.

Paths are those below ``power_management``. No value of a password or an option is ever quoted.
"""

from __future__ import annotations

from collections.abc import Iterator

from pmcompat.documents.meaning import FIELDS, Role, is_resource, oddities
from pmcompat.documents.pieces import Piece
from pmcompat.documents.splicing import Fragment, options_of, order_of
from pmcompat.documents.values import Form

#: (path below ``power_management``, message)
Remark = tuple[str, str]

_TRUE = {"true", "1"}
#: profiles whose engines answer 500 to an agent without an order or an address (api facts §5)
_FRAGILE = {"3.3", "3.4", "3.5"}
#: what an agent of 3.6 has that the flat form has no place for
_RESOURCE_CHILDREN = (
    "actions",
    "name",
    "description",
    "comment",
    "creation_status",
    "link",
    "encrypt_options",
    "port",
    "host",
)


def warnings(fragment: Fragment, form: Form, *, answer: bool) -> Iterator[Remark]:
    """Yield what an engine would read differently from what is written, or may surprise the reader of the result.

    :param answer: the document looks like an answer of an engine, which never holds a password (api facts §7).
    """
    for message in oddities(fragment.orders, fragment.profile):
        yield "/agents", message
    yield from _about_agents(fragment)
    yield from _about_both_forms(fragment, form)
    if any(element.attribute("type") == "ipmi" for element in (fragment.power, *fragment.agents)):
        yield "/@type", "ipmi is no device type, the name is ipmilan"
    if answer and any(element.child("password") for element in (fragment.power, *fragment.agents)):
        yield "", "an answer of an engine holds a password; it stays as it is"
    for element in (fragment.power, *fragment.agents):
        if any(option.literal("name") is None or option.literal("value") is None for option in options_of(element)):
            yield "/options", "an option without a name or a value: the engine skips it"


def _about_agents(fragment: Fragment) -> Iterator[Remark]:
    profile = fragment.profile
    if not is_resource(profile):
        flags = {flag.text.strip() in _TRUE for agent in fragment.agents if (flag := agent.child("concurrent"))}
        if len(flags) > 1:
            yield "/agents", "concurrent differs between the agents: the secondary's counts"
        if len(fragment.agents) > 2:
            yield "/agents", f"{len(fragment.agents)} agents: an engine of this profile reads two"
    if profile in _FRAGILE:
        if None in fragment.orders:
            yield "/agents", "an agent without an order: engines of this profile answer 500"
        device = fragment.device
        if (fragment.primaries or device.flat) and not ("address" in device.agent or "address" in device.flat):
            yield "", "a device without an address: engines of this profile answer 500"


def _about_both_forms(fragment: Fragment, form: Form) -> Iterator[Remark]:
    device = fragment.device
    differing = [name for name in FIELDS if device.differ(name)]
    winner = "the agent counts" if fragment.agents_win else "the flat form counts"
    if differing:
        yield "", f"{', '.join(differing)}: the flat form and the primary agent differ, {winner}"
    if device.differ_in_type:
        yield "/@type", f"the type of the flat form and of the primary agent differ, {winner}"
    if form is Form.DUAL and fragment.agents and not fragment.primaries and not device.flat:
        yield "/agents", "there is no primary agent to copy into the flat form"


def losses(fragment: Fragment) -> Iterator[Remark]:
    """Yield everything the agents say that the flat form has no place for (api facts §8.1)."""
    if not fragment.agents or fragment.wrapper is None:
        return
    for child in fragment.wrapper.children:
        if child.name != "agent":
            yield f"/agents/{child.name}", "what only a list of agents has"
    first = fragment.primaries[:1]
    for index, (agent, role) in enumerate(zip(fragment.agents, fragment.roles, strict=True), start=1):
        path = f"/agents/agent[{index}]"
        if role is not Role.PRIMARY:
            yield path, f"an agent that is not the primary{_order(agent)}"
            continue
        if agent not in first:
            yield path, f"a second agent of the same order{_order(agent)}; its fields are laid over the first"
        yield from _losses_of(agent, path)


def _losses_of(agent: Piece, path: str) -> Iterator[Remark]:
    if order_of(agent) not in {None, 1}:
        yield f"{path}/order", f"the order {order_of(agent)}"
    for child in agent.children:
        if child.name == "concurrent" and child.text.strip() in _TRUE:
            yield f"{path}/concurrent", "the flag concurrent"
        if child.name in _RESOURCE_CHILDREN:
            yield f"{path}/{child.name}", f"the agent's {child.name}"
    for name in agent.attributes():
        if name != "type":
            yield f"{path}/@{name}", f"the agent's {name}"


def _order(agent: Piece) -> str:
    order = order_of(agent)
    return " (no order)" if order is None else f" (order {order})"
