"""Values → host documents, as a stream; what comes out is valid in its profile and holds no password (law X9).

Which agents there are is decided by the caller; here they are only brought into a form, in the words of a release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pmcompat.documents.meaning import Role, concurrent_pair, is_resource, roles
from pmcompat.documents.schema import known
from pmcompat.documents.values import AgentElement, Form, HostElement, OptionElements, PowerManagementElement
from pmcompat.errors import ConfigurationError, LossRefused, ModelError

#: (profile number from which the release has it, name of the field)
_NEWER = ((2, "pm_proxies"), (4, "automatic_pm_enabled"), (5, "kdump_detection"))
_STEP = "  "
#: characters XML 1.0 cannot hold, not even as a reference
_UNWRITABLE = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def write_hosts(hosts: Iterable[HostElement], *, form: Form | str, profile: str, single: bool) -> Iterator[bytes]:
    """Yield a document of *hosts*: one ``<host>`` if *single*, else ``<hosts>``; UTF-8, indented by two spaces.

    A password is never written: ``AgentElement.password`` is ignored. Options are written as they are given.
    ``None`` is left out, an empty value is written as an empty element.

    :raises LossRefused: the form or the profile cannot hold what a host has; the losses name it.
    :raises ModelError: a value that no XML document can hold, or *single* and not exactly one host.
    :raises ConfigurationError: there is no such profile, or it has no such form.
    """
    wanted = writable(form, profile)
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n'
    if single:
        written = 0
        for host in hosts:
            written += 1
            _only_one(written)
            yield _host(host, wanted, profile, "")
        _only_one(written)
        return
    yield b"<hosts>\n"
    for host in hosts:
        yield _host(host, wanted, profile, _STEP)
    yield b"</hosts>\n"


def writable(form: Form | str, profile: str) -> Form:
    """Return the form if the profile has it.

    :raises ConfigurationError: there is no such form or profile, or the profile has no such form.
    """
    if form not in set(Form):
        raise ConfigurationError(f"there is no form {form!r}", fix=f"one of {', '.join(Form)}")
    if known(profile) == "3.1" and form != Form.FLAT:
        raise ConfigurationError(
            f"profile 3.1 has no {form} form", why="agents came with 3.2", fix="use profile 3.2, or form flat"
        )
    return Form(form)


def _only_one(count: int) -> None:
    if count != 1:
        raise ModelError("a <host> document holds exactly one host", field="hosts", fix="write a <hosts> document")


def _host(host: HostElement, form: Form, profile: str, indent: str) -> bytes:
    try:
        return _written(host, form, profile, indent)
    except ModelError as error:
        error.what = f"host {host.name!r}: {error.what}"
        raise


def _written(host: HostElement, form: Form, profile: str, indent: str) -> bytes:
    inner = indent + _STEP
    lines = [f"{indent}<host{_attribute('id', host.id)}>"]
    lines += _scalar("name", host.name, inner)
    lines += _scalar("address", host.address, inner)
    if host.cluster_id is not None or host.cluster_name is not None:
        named = _scalar("name", host.cluster_name, inner + _STEP)
        lines += _element("cluster", _attribute("id", host.cluster_id), named, inner)
    lines += _scalar("port", host.port, inner)
    if host.spm_priority is not None:
        lines.append(f'{inner}<storage_manager priority="{host.spm_priority}">false</storage_manager>')
    if host.power_management is not None:
        where = host.path or f"host {host.name or host.id or '?'}"
        lines += _power_management(reform(host.power_management, form, profile, path=where), profile, inner)
    lines.append(f"{indent}</host>\n")
    return "\n".join(lines).encode()


# ---------------------------------------------------------------------- bringing values into a form


def reform(power: PowerManagementElement, form: Form, profile: str, *, path: str = "") -> PowerManagementElement:
    """Return *power* in *form*, as an engine of *profile* would answer it.

    Agents win over flat fields, field by field, options as a whole (law X5).

    :raises LossRefused: the form or the profile cannot hold it.
    """
    agents = power.agents or ()
    found = roles([agent.order for agent in agents], profile)
    if power.flat.describes_device() and Role.PRIMARY not in found:
        agents = (_new_primary(power.flat), *agents)
        found = [Role.PRIMARY, *found]
    merged = [agent.over(power.flat) if role is Role.PRIMARY else agent for agent, role in zip(agents, found, strict=True)]
    primary = next((agent for agent, role in zip(merged, found, strict=True) if role is Role.PRIMARY), None)
    losses = _beyond(power, profile, path)
    if form is Form.FLAT:
        losses += _beyond_flat(merged, found, path)
    if losses:
        raise LossRefused(
            f"the {form} form of profile {profile} cannot hold all of {path}", losses=losses, state="the host was not written"
        )
    flat = AgentElement(type=power.flat.type if primary is None or primary.type is None else primary.type)
    if primary is not None and form is not Form.AGENTS:
        flat = flat._replace(address=primary.address, username=primary.username, options=primary.options)
    if is_resource(profile) and power.enabled is False:
        flat = flat._replace(type=None)  # 3.6 hides the type of what is switched off (field failure B-95)
    listed = None if power.agents is None and not merged else tuple(_in_profile(merged, profile))
    return power._replace(flat=flat, agents=None if form is Form.FLAT else listed)


def _new_primary(flat: AgentElement) -> AgentElement:
    return flat._replace(order=1)


def _beyond(power: PowerManagementElement, profile: str, path: str) -> list[str]:
    """Return what the profile has no element for."""
    number = int(profile.partition(".")[2])
    values = {
        "pm_proxies": power.pm_proxies or None,
        "automatic_pm_enabled": power.automatic_pm_enabled,
        "kdump_detection": power.kdump_detection,
    }
    lost = [
        f"{path}: {name} (since profile 3.{since})" for since, name in _NEWER if number < since and values[name] is not None
    ]
    if not is_resource(profile):
        for agent in power.agents or ():
            names = [name for name in ("port", "encrypt_options") if getattr(agent, name) is not None]
            lost += [f"{path}: {name} of agent {agent.order or '?'} (since profile 3.6)" for name in names]
    return lost


def _beyond_flat(agents: Sequence[AgentElement], found: Sequence[Role], path: str) -> list[str]:
    """Return what the flat form has no place for: everything but one primary agent."""
    lost = [
        f"{path}: agent {agent.order or index} ({agent.type or 'no type'} at {agent.address or 'no address'})"
        for index, (agent, role) in enumerate(zip(agents, found, strict=True), start=1)
        if role is not Role.PRIMARY
    ]
    for agent, role in zip(agents, found, strict=True):
        if role is Role.PRIMARY:
            names = ("port", "encrypt_options")
            lost += [f"{path}: {name} of the primary agent" for name in names if getattr(agent, name) is not None]
            if agent.order not in {None, 1}:
                lost.append(f"{path}: order {agent.order} of the primary agent")
    return lost


def _in_profile(agents: Sequence[AgentElement], profile: str) -> Iterator[AgentElement]:
    """Yield agents with ``order`` and ``concurrent`` as the profile writes them (api facts §6, field failure B-92).

    3.2 to 3.4: the flag on the second agent only; from 3.5 the same flag on both of two and on none of one; 3.6: equal
    orders and the flag that follows from them.
    """
    orders = [agent.order for agent in agents]
    together = concurrent_pair(orders, [agent.concurrent for agent in agents], profile)
    if is_resource(profile):
        flagged = any(agent.concurrent and agent.order == 2 for agent in agents) and set(orders) == {1, 2}
        together = together or flagged
    found = roles(orders, profile)
    for index, (agent, role) in enumerate(zip(agents, found, strict=True), start=1):
        flag = together if len(agents) > 1 and role is not Role.UNREAD else None
        order = agent.order if agent.order is not None else index
        if is_resource(profile):
            order = min(order, 1) if flag and together else order
        elif profile != "3.5" and role is not Role.SECONDARY:
            flag = None
        yield agent._replace(concurrent=flag, order=order)


# ---------------------------------------------------------------------- bringing values into bytes


def _power_management(power: PowerManagementElement, profile: str, indent: str) -> list[str]:
    inner = indent + _STEP
    children = _scalar("enabled", power.enabled, inner) + _device(power.flat, inner)
    if power.pm_proxies:
        proxies = [f"{inner}{_STEP}<pm_proxy><type>{_text(kind)}</type></pm_proxy>" for kind in power.pm_proxies]
        children += _element("pm_proxies", "", proxies, inner)
    if power.agents is not None:
        agents = [line for agent in power.agents for line in _agent(agent, profile, inner + _STEP)]
        children += _element("agents", "", agents, inner)
    children += _scalar("automatic_pm_enabled", power.automatic_pm_enabled, inner)
    children += _scalar("kdump_detection", power.kdump_detection, inner)
    return _element("power_management", _attribute("type", power.flat.type), children, indent)


def _agent(agent: AgentElement, profile: str, indent: str) -> list[str]:
    inner = indent + _STEP
    children = _device(agent, inner)
    if is_resource(profile):
        children += _scalar("encrypt_options", agent.encrypt_options, inner)
    children += _scalar("concurrent", agent.concurrent, inner) + _scalar("order", agent.order, inner)
    if is_resource(profile):
        children += _scalar("port", agent.port, inner)
    return _element("agent", _attribute("type", agent.type), children, indent)


def _device(agent: AgentElement, indent: str) -> list[str]:
    """Return address, user name and options; the password stays where it is (law X9)."""
    lines = _scalar("address", agent.address, indent) + _scalar("username", agent.username, indent)
    return lines if agent.options is None else lines + _element("options", "", _options(agent.options, indent + _STEP), indent)


def _options(options: OptionElements, indent: str) -> list[str]:
    return [f"{indent}<option{_attribute('name', name)}{_attribute('value', value)}/>" for name, value in options]


def _element(name: str, attributes: str, children: Sequence[str], indent: str) -> list[str]:
    if not children:
        return [f"{indent}<{name}{attributes}/>"]
    return [f"{indent}<{name}{attributes}>", *children, f"{indent}</{name}>"]


def _scalar(name: str, value: str | bool | int | None, indent: str) -> list[str]:
    if value is None:
        return []
    text = str(value).lower() if isinstance(value, bool) else _text(str(value))
    return [f"{indent}<{name}>{text}</{name}>" if text else f"{indent}<{name}/>"]


def _attribute(name: str, value: str | None) -> str:
    if value is None:
        return ""
    text = _text(value).replace('"', "&quot;").replace("\t", "&#9;").replace("\n", "&#10;")
    return f' {name}="{text}"'


def _text(value: str) -> str:
    if _UNWRITABLE.search(value):
        raise ModelError("a value holds a character that XML cannot hold", field="document")
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
