"""Translate one ``power_management`` by cutting and inserting bytes; what is not part of the form keeps every byte.

The rules are those of api facts §5 to §8; the golden pair of DESIGN §3 fixes where white space goes: *a child and the white
space and comments before it move together; the wrapper's own tags bring no white space*. The fragment is UTF-8, well-formed
and valid in its profile when it comes here. Nothing is dropped in silence: what the target cannot hold is a loss, what an
engine would read differently a warning (:mod:`~pmcompat.documents.remarks`).

Agents win over flat fields, field by field, ``options`` as a whole; with ``precedence="flat"`` it is the other way round.
``agents`` removes the flat fields, ``flat`` the agents, ``dual`` keeps both and makes them equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pmcompat.documents.edits import Edits
from pmcompat.documents.meaning import AGENT_SEQUENCE, FIELDS, SEQUENCE, Role, roles
from pmcompat.documents.pieces import Piece, markup, take_apart, value_of
from pmcompat.documents.values import Form

#: an ``<agents/>`` that was there before its agent came keeps its spelling in the white space of the end tag, so that
#: the way back gives the same bytes (law X1): one blank where it was ``<agents/>``, two more where it had an end tag
_WAS_EMPTY_TAG, _WAS_PAIR = b" ", b"  "
_BLANK = b" \t\r\n"


@dataclass(slots=True)
class Device:
    """What the document says about the primary: each field as it stands in the flat form and in the agents."""

    flat: dict[str, Piece]
    agent: dict[str, Piece]
    #: attribute literals, with their quotes
    flat_type: bytes | None
    agent_type: bytes | None

    def differ(self, name: str) -> bool:
        """Tell whether both say something about a field, and not the same."""
        flat, agent = self.flat.get(name), self.agent.get(name)
        return flat is not None and agent is not None and _value(flat) != _value(agent)

    @property
    def differ_in_type(self) -> bool:
        """Tell whether both have a type, and not the same."""
        if self.flat_type is None or self.agent_type is None:
            return False
        return value_of(self.flat_type) != value_of(self.agent_type)


class Fragment:
    """One ``power_management`` taken apart, and the edits that bring it into a form. Used for one translation."""

    def __init__(self, raw: bytes, profile: str, precedence: str) -> None:
        """Take *raw* apart."""
        self.profile = profile
        self.agents_win = precedence == Form.AGENTS
        self.power = take_apart(raw)
        self.wrapper = self.power.child("agents")
        self.agents = [child for child in self.wrapper.children if child.name == "agent"] if self.wrapper else []
        self.orders = [order_of(agent) for agent in self.agents]
        self.roles = roles(self.orders, profile)
        self.primaries = [agent for agent, role in zip(self.agents, self.roles, strict=True) if role is Role.PRIMARY]
        self.device = self._device()
        self._edits = Edits(raw)
        self._gifts: list[bytes] = []

    def _device(self) -> Device:
        """Lay the primaries over each other: of several, the last one that says something counts (api facts §6)."""
        flat = {child.name: child for child in self.power.children if child.name in FIELDS}
        agent = {child.name: child for primary in self.primaries for child in primary.children if child.name in FIELDS}
        types = [literal for primary in self.primaries if (literal := primary.literal("type")) is not None]
        return Device(flat, agent, self.power.literal("type"), types[-1] if types else None)

    def translated(self, form: Form) -> bytes:
        """Return the bytes of the fragment in *form*; what that loses is dropped."""
        if form is Form.FLAT:
            if self.agents:
                self._to_flat()
        elif not self.primaries:
            self._new_primary(keep=form is Form.DUAL)
        elif form is Form.AGENTS:
            self._into_primary()
        else:
            self._make_equal()
        return self._edits.apply()

    # ------------------------------------------------------------------ to agents, to dual

    def _new_primary(self, *, keep: bool) -> None:
        """Make the flat fields an agent of order 1; *keep* them where they are as well."""
        flat = list(self.device.flat.values())
        if not flat:
            return  # a type alone or enabled alone is no device (api facts §5)
        kind = b"" if self.device.flat_type is None else b" type=" + self.device.flat_type
        fields = b"".join(_copied(child) if keep else child.moving for child in flat)
        agent = b"<agent" + kind + b">" + fields + b"<order>1</order></agent>"
        if not keep:
            self._cut(flat)
        if self.wrapper is None:
            self._edits.insert(self._place("agents"), b"<agents>" + agent + b"</agents>")
        elif self.agents:
            self._edits.insert(self.agents[0].before, agent)
        elif self.wrapper.empty:
            end = self.wrapper.end
            self._edits.replace(end - 2, end, b">" + agent + b"</agents" + _WAS_EMPTY_TAG + b">")
        else:
            self._edits.insert(self.wrapper.close, agent)
            self._edits.insert(self.wrapper.end - 1, _WAS_PAIR)

    def _into_primary(self) -> None:
        """Give the primary agent what it does not say itself, and remove the flat fields."""
        flat = self.device.flat
        if not flat:
            return
        for name, piece in flat.items():
            self._give(name, piece, piece.moving)
        self._hand_over()
        self._type_of_agent()
        self._cut(list(flat.values()))

    def _make_equal(self) -> None:
        """Let the flat fields and the primary agent say the same."""
        flat, agent = self.device.flat, self.device.agent
        for name in FIELDS:
            if name in agent and name not in flat:
                self._edits.insert(self._place(name), _copied(agent[name]))
            elif name in flat and self.device.differ(name) and self.agents_win:
                self._edits.replace(flat[name].start, flat[name].end, agent[name].raw)
            elif name in flat:
                self._give(name, flat[name], _copied(flat[name]))
        self._hand_over()
        self._type_of_agent()
        self._type_of_power()

    def _give(self, name: str, flat: Piece, raw: bytes) -> None:
        """Put a flat field into the primary agent: where it is missing, or where flat wins."""
        own = self.device.agent.get(name)
        if own is not None:
            if self.device.differ(name) and not self.agents_win:
                self._edits.replace(own.start, own.end, flat.raw)
        elif self.primaries[0].empty:
            self._gifts.append(raw)
        else:
            self._edits.insert(_place(self.primaries[0], name, AGENT_SEQUENCE), raw)

    def _hand_over(self) -> None:
        """Give an ``<agent/>`` its first children, and with them an end tag."""
        if self._gifts:
            end = self.primaries[0].end
            self._edits.replace(end - 2, end, b">" + b"".join(self._gifts) + b"</agent>")

    def _type_of_agent(self) -> None:
        """Give the primary agent the type of the flat form: where it has none, or where flat wins."""
        wanted = self.device.flat_type
        if wanted is None or (self.device.agent_type is not None and self.agents_win):
            return
        typed = [agent for agent in self.primaries if agent.literal("type") is not None]
        self._set_type(typed[-1] if typed else self.primaries[0], wanted)

    def _type_of_power(self) -> None:
        """Give ``power_management`` the type of the primary agent: where it has none, or where agents win."""
        wanted = self.device.agent_type
        if wanted is not None and (self.device.flat_type is None or self.agents_win):
            self._set_type(self.power, wanted)

    def _set_type(self, piece: Piece, literal: bytes) -> None:
        place = piece.literal_place("type")
        if place is None:
            self._edits.insert(piece.start + 1 + len(piece.name), b" type=" + literal)
        elif piece.attribute("type") != value_of(literal):
            self._edits.replace(*place, literal)

    # ------------------------------------------------------------------ to flat

    def _to_flat(self) -> None:
        """Bring the primary agent's fields out, and remove the agents."""
        wrapper = self.wrapper
        if wrapper is None:
            return
        flat = self.device.flat
        taken: list[tuple[int, int]] = []
        for name in FIELDS:
            own = self.device.agent.get(name)
            if own is None:
                continue
            if name not in flat:
                self._edits.insert(self._place(name), own.moving)
                taken.append((own.before, own.end))
            elif self.device.differ(name) and self.agents_win:
                self._edits.replace(flat[name].start, flat[name].end, own.raw)
        self._type_of_power()
        self._edits.replace(wrapper.before, wrapper.end, self._restored(wrapper) or self._remarks_in(wrapper, taken))

    def _restored(self, wrapper: Piece) -> bytes:
        """Return the ``<agents/>`` that was there before its agent came, b"" if the agent brought it."""
        closing = wrapper.source[wrapper.close : wrapper.end]
        blanks = closing[len("</agents") : -1]
        agent = self.agents[0]
        if len(self.agents) > 1 or agent.end != wrapper.close or not blanks.endswith(_WAS_EMPTY_TAG):
            return b""
        if blanks.endswith(_WAS_PAIR):
            return wrapper.source[wrapper.before : agent.start] + b"</agents" + blanks.removesuffix(_WAS_PAIR) + b">"
        if blanks != _WAS_EMPTY_TAG or agent.start != wrapper.inner:
            return b""
        return wrapper.source[wrapper.before : wrapper.inner - 1] + b"/>"

    def _remarks_in(self, wrapper: Piece, taken: Sequence[tuple[int, int]]) -> bytes:
        """Return the comments and instructions of the wrapper that moved with no field, and the blanks before them."""
        fields = [child for agent in self.primaries for child in agent.children if child.name in FIELDS]
        others = [agent for agent in self.agents if agent not in self.primaries]
        gone = [*taken, *((piece.start, piece.end) for piece in (*fields, *others))]
        source = wrapper.source
        parts = []
        for match in markup(source, wrapper.before, wrapper.end):
            start = match.start()
            if match[0].startswith((b"<!--", b"<?")) and not any(a <= start < b for a, b in gone):
                before = source[wrapper.before : start]
                parts.append(before[len(before.rstrip(_BLANK)) :] + match[0])
        return b"".join(parts)

    # ------------------------------------------------------------------ both ways

    def _cut(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self._edits.replace(piece.before, piece.end)

    def _place(self, name: str) -> int:
        return _place(self.power, name, SEQUENCE)


def _place(parent: Piece, name: str, sequence: Sequence[str]) -> int:
    """Return where a child of this name goes: after the last one that the profile puts before it."""
    rank = sequence.index(name)
    before = [child.end for child in parent.children if sequence.index(child.name) < rank]
    return before[-1] if before else parent.inner


def order_of(agent: Piece) -> int | None:
    """Return an agent's order, None where it has none."""
    order = agent.child("order")
    return None if order is None else int(order.text)


def options_of(element: Piece) -> Iterator[Piece]:
    """Yield the options of an agent, or of the flat form."""
    options = element.child("options")
    yield from options.children if options else ()


def _value(piece: Piece) -> object:
    """Return what a field says, whatever its spelling."""
    if piece.name != "options":
        return piece.text
    return [tuple(option.attribute(name) for name in ("name", "value", "type")) for option in piece.children]


def _copied(piece: Piece) -> bytes:
    """Return an element and the white space before it; comments are moved, never copied."""
    before = piece.source[piece.before : piece.start]
    return before[len(before.rstrip(_BLANK)) :] + piece.raw
