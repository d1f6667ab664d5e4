"""What an installed fence program says of itself: its options and its actions (fencing facts §8.5).

What lives here: reading ``fence_x -o metadata`` into a value. Pure; the driver runs the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from xml.etree import ElementTree as ET

from pmcompat.options import canonical

#: no program's metadata comes near this; bytes
LONGEST = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One ``<parameter>``."""

    name: str
    #: ``string``, ``boolean``, ``integer``, ``second`` or ``select``
    kind: str
    required: bool
    #: values a ``select`` allows; () for other kinds
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """What a program accepts and can do."""

    #: by canonical name, deprecated aliases included
    options: Mapping[str, Option]
    actions: frozenset[str]
    #: it cuts a host off from storage or network, not from power (``automatic`` or ``on_target`` unfencing)
    is_fabric: bool


def read_metadata(document: bytes) -> Metadata:
    """Return the metadata in *document*.

    :raises ValueError: it is not a fence program's metadata.
    """
    if len(document) > LONGEST:
        raise ValueError("it is too long")
    try:
        root = ET.fromstring(document)  # noqa: S314 # printed by a program that is run as it is; its text is bounded above
    except (ET.ParseError, LookupError, ValueError) as error:  # LookupError: an encoding nobody knows
        raise ValueError("it is not XML") from error
    if root.tag != "resource-agent" or root.find("actions") is None:
        raise ValueError("it is no <resource-agent> with actions")
    options = {option.name: option for option in map(_option, root.iterfind("parameters/parameter"))}
    actions = root.findall("actions/action")
    return Metadata(
        options=MappingProxyType(options),
        actions=frozenset(action.get("name", "") for action in actions),
        is_fabric=any(action.get(mark) == "1" for action in actions for mark in ("automatic", "on_target")),
    )


def _option(element: ET.Element) -> Option:
    content = element.find("content")
    return Option(
        name=canonical(element.get("name", "")),
        kind="string" if content is None else content.get("type", "string"),
        required=element.get("required") == "1",
        choices=() if content is None else tuple(option.get("value", "") for option in content.iterfind("option")),
    )
