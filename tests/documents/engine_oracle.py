"""What an engine stores from a power_management: a small model of the documented mappings, independent of the translator.

Written from api facts §5 and §6 alone; nothing of :mod:`pmcompat` is used here.
"""

from __future__ import annotations

from lxml import etree

KEEP = "keep"
DATA = ("address", "username", "password", "options")


def _text(element):
    return "".join(part for part in (element.text, *(child.tail for child in element)) if part)


def _read(element):
    """The agent data an element mentions."""
    found = {}
    if element.get("type") is not None:
        found["type"] = element.get("type")
    for name in DATA:
        child = element.find(name)
        if child is not None and name == "options":
            found[name] = tuple((o.get("name"), o.get("value"), o.get("type")) for o in child.iterfind("option"))
        elif child is not None:
            found[name] = _text(child)
    return found


def engine_3_2(raw: bytes) -> dict[str, object]:
    """What 3.2 stores: the flat fields first, then the agents over them, field by field, in the order of the document."""
    power = etree.fromstring(raw)
    primary, secondary, concurrent = _read(power), {}, KEEP
    counter = 1
    for agent in power.iterfind("agents/agent"):
        if (order := agent.find("order")) is not None:
            counter = int(_text(order))
        if counter == 1:
            primary |= _read(agent)
            counter = 2
        elif counter == 2:
            secondary |= _read(agent)
            if (flag := agent.find("concurrent")) is not None:
                concurrent = _text(flag).strip() in {"true", "1"}
    host = {
        name: _text(found).strip()
        for name in ("enabled", "automatic_pm_enabled", "kdump_detection")
        if (found := power.find(name)) is not None
    }
    proxies = power.find("pm_proxies")
    host["pm_proxies"] = None if proxies is None else [proxy.findtext("type") for proxy in proxies.iterfind("pm_proxy")]
    return {"primary": primary, "secondary": secondary, "concurrent": concurrent, "host": host}


def flat_wins(raw: bytes) -> dict[str, object]:
    """The primary under the other rule (3.6's host body): what the flat form says counts over the agent."""
    power = etree.fromstring(raw)
    both = engine_3_2(raw)
    both["primary"] = {**both["primary"], **_read(power)}
    return both
