"""Where and as whom a BMC is entered: an agent's settings as IPMI understands them.

What lives here: pure decisions from :class:`~pmcompat.model.Agent` to :class:`Door`. No sockets, no pyghmi.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pmcompat.errors import CredentialError, ModelError
from pmcompat.model import Agent, AgentFault, FaultKind, Secret
from pmcompat.options import parameters

STANDARD_PORT = 623
#: cipher suites the driver speaks: 3 = SHA-1, 17 = SHA-256, both with AES-128 (facts §9.4)
SUITES = (3, 17)
#: the limits of IPMI 2.0 (table 22-30): longer ones would be cut by some devices and refused by others
LONGEST_NAME, LONGEST_PASSWORD = 16, 20
#: ``privlvl`` as fence-agents spells it → the number on the wire
PRIVILEGES = {"callback": 1, "user": 2, "operator": 3, "administrator": 4, "admin": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """What a session belongs to: two commands through equal doors may share one."""

    #: name or address, as the operator wrote it
    host: str
    #: UDP port
    port: int = STANDARD_PORT
    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    #: key of the BMC itself, where it demands one (``hexadecimal_kg``)
    kg: Secret | None = None
    #: cipher suite; None: 17, and 3 if the device refuses it
    suite: int | None = None
    #: privilege level asked for; None: administrator, and operator if that is refused
    privilege: int | None = None
    #: seconds without any answer after which the device counts as silent; None: the driver's own
    connect_timeout: float | None = None

    def __repr__(self) -> str:
        return f"Door({self.name})"

    @property
    def name(self) -> str:
        """Host and port as an operator reads them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == STANDARD_PORT else f"{host}:{self.port}"

    @property
    def suites(self) -> str:
        """The cipher suites that are offered, as text for messages."""
        return str(self.suite) if self.suite else "17, then 3"


def door_of(agent: Agent) -> Door | AgentFault:
    """Return the door an agent's settings describe, or why there is none."""
    try:
        given = parameters(agent)
        if not given.address:
            raise ModelError("the agent has no address", field="address")  # noqa: TRY301 - one way out for all of them
        _refuse_bridging(given.settings)
        return Door(
            host=_host(given.address.strip()),
            port=given.ip_port or STANDARD_PORT,
            username=_fits(given.username or "", LONGEST_NAME, "username"),
            password=Secret(_fits(given.password.reveal() if given.password else "", LONGEST_PASSWORD, "password")),
            kg=_kg(given.settings.get("hexadecimal_kg")),
            suite=_suite(given.settings),
            privilege=_privilege(given.settings.get("privlvl")),
            connect_timeout=_seconds(given.settings.get("login_timeout"), "login_timeout"),
        )
    except CredentialError as error:  # a stored password that cannot be decrypted
        return AgentFault(kind=FaultKind.REFUSED, message=error.what)
    except ModelError as error:
        refused = error.field in {"username", "password"}
        return AgentFault(
            kind=FaultKind.REFUSED if refused else FaultKind.UNSUPPORTED,
            message="; ".join(part for part in (error.what, error.why, error.fix) if part),
        )


def _refuse_bridging(settings: Mapping[str, str | None]) -> None:
    """Refuse what names another controller behind the BMC: ignored, the command would reach the BMC itself."""
    if settings.get("target"):
        raise ModelError(
            "the option target is not spoken by this driver",
            field="options.target",
            why="it names another controller behind the BMC",
            fix="driver=fence_agents",
        )


def _host(address: str) -> str:
    """Return the address; one of IPv6 may stand in brackets, as in a URL."""
    if not address.isprintable():
        raise ModelError("the address holds control characters", field="address")
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


def _fits(text: str, longest: int, field: str) -> str:
    try:
        length = len(text.encode(errors="surrogateescape"))
    except UnicodeEncodeError:
        raise ModelError(f"the {field} holds characters that cannot be encoded", field=field) from None
    if length > longest:
        raise ModelError(f"the {field} is longer than the {longest} bytes IPMI 2.0 can carry", field=field)
    return text


def _suite(settings: Mapping[str, str | None]) -> int | None:
    text = (settings.get("cipher") or "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) in SUITES):
        raise ModelError(
            f"cipher suite {text[:10]} is not spoken by this driver",
            field="options.cipher",
            why="it speaks 3 and 17",
            fix="choose one of these, or driver=fence_agents",
        )
    return int(text)


def _privilege(text: str | None) -> int | None:
    name = (text or "").strip().lower()
    if name and name not in PRIVILEGES:
        raise ModelError("privlvl is none of CALLBACK, USER, OPERATOR, ADMINISTRATOR", field="options.privlvl")
    return PRIVILEGES[name] if name else None


def _kg(text: str | None) -> Secret | None:
    digits = (text or "").strip().lower().removeprefix("0x")
    try:
        bytes.fromhex(digits)
    except ValueError:
        raise ModelError("hexadecimal_kg is not a row of hexadecimal digits", field="options.hexadecimal_kg") from None
    return Secret(digits) if digits else None


def _seconds(text: str | None, name: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ModelError(f"{name} is not a number of seconds", field=f"options.{name}")
    return seconds
