"""What a host document says, as values; ``None`` means *not mentioned* (keep), an empty value means *set to empty* (clear).

These are the words between the XML of :mod:`pmcompat.documents` and the rows of :mod:`pmcompat.db`; :mod:`pmcompat.mapping`
turns one into the other. Frozen values only, as tuples: thousands of them are made for one document. No parsing here.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from pmcompat.model import Secret


class Form(enum.StrEnum):
    """The XML forms of power management."""

    #: one device, its fields directly under ``power_management``
    FLAT = "flat"
    #: each device an ``agent`` under ``power_management/agents``
    AGENTS = "agents"
    #: agents, and a flat copy equal to the primary: means the same under either rule of precedence
    DUAL = "dual"


#: profiles with a schema of their own (api facts §1); ``3.3`` is 3.2 that also allows ``comment``
PROFILES = ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6")

#: ``<option name= value=/>`` elements in document order; name or value is None where the attribute is absent
OptionElements = tuple[tuple[str | None, str | None], ...]


class AgentElement(NamedTuple):
    """One ``<agent>``, or the flat fields of a ``<power_management>`` read as one."""

    type: str | None = None
    address: str | None = None
    username: str | None = None
    password: Secret | None = None
    options: OptionElements | None = None
    concurrent: bool | None = None
    order: int | None = None
    #: profile 3.6 only
    port: int | None = None
    #: profile 3.6 only
    encrypt_options: bool | None = None

    def describes_device(self) -> bool:
        """Tell whether it says more than a type: a type alone is no device (api facts §5)."""
        return not (self.address is None and self.username is None and self.password is None and self.options is None)

    def over(self, flat: AgentElement) -> AgentElement:
        """Return this agent with what it does not say taken from the flat fields, options as a whole (law X5)."""
        if self.type is not None and not flat.describes_device():
            return self
        return self._replace(
            type=flat.type if self.type is None else self.type,
            address=flat.address if self.address is None else self.address,
            username=flat.username if self.username is None else self.username,
            password=flat.password if self.password is None else self.password,
            options=flat.options if self.options is None else self.options,
        )


class PowerManagementElement(NamedTuple):
    """One ``<power_management>``: the flat fields as they stand, and the agents if there is an ``<agents>`` element."""

    enabled: bool | None = None
    #: ``type``, ``address``, ``username``, ``password``, ``options`` of the flat form; all None where none is present
    flat: AgentElement = AgentElement()
    #: None where ``<agents>`` is absent, () where it is empty
    agents: tuple[AgentElement, ...] | None = None
    pm_proxies: tuple[str, ...] | None = None
    automatic_pm_enabled: bool | None = None
    kdump_detection: bool | None = None


class HostElement(NamedTuple):
    """One ``<host>``: what identifies it and what pmcompat stores of it."""

    id: str | None = None
    name: str | None = None
    address: str | None = None
    port: int | None = None
    cluster_id: str | None = None
    cluster_name: str | None = None
    #: ``storage_manager/@priority``
    spm_priority: int | None = None
    power_management: PowerManagementElement | None = None
    path: str = ""
    line: int = 0
