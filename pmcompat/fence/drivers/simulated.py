"""A rack of simulated fence devices and the driver that reaches them: tests, the demo and ``--simulate`` stand on it.

What lives here: :class:`Device` and :class:`Faults` (frozen: what a device is, what is wrong with it), :class:`Rack` (all that
changes: power, faults, and a log of everything that was asked) and :class:`SimulatedDriver`. No socket, no process, no
randomness: the same questions at the same times get the same answers. The clock is the event loop's, so a loop with virtual
time makes a day pass in a millisecond.

A rack keeps the contract of real devices: a command is taken on arrival and answered ``answer_after`` seconds later; power
changes ``settle_off`` or ``settle_on`` seconds after an accepted command and reads as before until then; a later command
overrides one that has not settled. ``Rack.log`` is the ground truth: what reached which outlet when, and what it did.

A rack in a file (TOML, or JSON with the same names)::

    [[device]]
    address = "pdu1.lab"             # "pdu1.lab:2300" to tell devices on one address apart by network port
    plugs = ["1", "7"]               # left out: a device with one unnamed outlet, a BMC
    users = { admin = "secret" }     # left out: anybody may ask
    power = "on"
    settle_off = 0.5
    [device.faults]
    ignores = { off = 1 }            # takes one off and does nothing; -1: always

Not safe between threads: one rack belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import json
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pmcompat.errors import ConfigurationError, CredentialError, ModelError
from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.model import Action, Agent, AgentFault, FaultKind, PowerStatus, Secret
from pmcompat.options import Parameters, parameters

#: the outlet of a device that has only one
ONLY_PLUG = ""
#: a fault that never wears off
ALWAYS = -1
# Answer this much before the deadline where the deadline is all there is to wait for, seconds.
_MARGIN = 0.005

_NONE: Mapping[Action, int] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """What is wrong with a device. Counts are used up one by one; ``ALWAYS`` (-1) never is."""

    #: nobody answers there; said at once
    unreachable: bool = False
    #: takes no connection and never answers: the deadline ends it
    silent: bool = False
    #: refuses every login
    refuses_login: bool = False
    #: action → how many are accepted without doing anything
    ignores: Mapping[Action, int] = field(default_factory=lambda: _NONE)
    #: action → how many get lost after login: not executed, no answer
    loses: Mapping[Action, int] = field(default_factory=lambda: _NONE)
    #: action → how many are executed without an answer
    loses_reply: Mapping[Action, int] = field(default_factory=lambda: _NONE)
    #: action → how many are refused by the device with an error of its own
    fails: Mapping[Action, int] = field(default_factory=lambda: _NONE)
    #: status reads that say ``unknown``
    unknown_reads: int = 0
    #: every second status read says the opposite of the truth
    flaps: bool = False
    #: what status reads say, whatever the truth
    lies: PowerStatus | None = None
    #: seconds after which an outlet that went off switches itself on again (field failure B-46)
    on_again_after: float | None = None
    #: seconds the device cannot be reached after it executed an ``off``: it restarts with the host (B-25)
    gone_after_off: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What a device is. Times are seconds."""

    #: ``address`` or ``address:network port``; the longer one is looked for first
    address: str
    plugs: tuple[str, ...] = (ONLY_PLUG,)
    #: user → password; empty: anybody may ask
    users: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    #: users who may only read the status
    readers: frozenset[str] = frozenset()
    #: power of every outlet at the start
    power: PowerStatus = PowerStatus.ON
    #: from question to answer
    answer_after: float = 0.0
    #: from an accepted ``off`` to dark
    settle_off: float = 0.0
    #: from an accepted ``on`` to powered
    settle_on: float = 0.0
    #: address of a device and its plug that feed this one: while that outlet is off, this device cannot be reached
    fed_by: tuple[str, str] | None = None
    faults: Faults = field(default_factory=Faults, hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One question that reached a device, and what became of it."""

    #: seconds on the rack's clock
    at: float
    address: str
    plug: str
    action: Action
    #: an ``on`` or ``off`` that the outlet obeys, or a status that was read
    executed: bool
    #: what was answered; None: no answer
    answer: PowerStatus | FaultKind | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """What comes back for one question."""

    #: None: no answer will come
    answer: Answer | None
    #: seconds until the answer comes
    after: float = 0.0
    #: the device took the question in
    heard: bool = True


@dataclass(slots=True)
class _Live:
    """The changing side of one device."""

    device: Device
    faults: Faults
    #: plug → (when, power) ascending; the first is the power at the start
    changes: dict[str, list[tuple[float, PowerStatus]]]
    gone_until: float = float("-inf")
    reads: int = 0


class Rack:
    """Simulated devices by address; see the module's docstring.

    :param clock: seconds; default: the running event loop's time, else ``time.monotonic()``.
    """

    def __init__(self, devices: Iterable[Device] = (), *, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._log: list[Entry] = []
        for device in devices:
            self.add(device)

    @classmethod
    def serving(cls, agents: Iterable[Agent], **settings: Any) -> Rack:
        """Return a rack in which every one of *agents* finds its device, its plug and its credentials; all are on.

        :param settings: fields of every :class:`Device`, e.g. ``settle_off=2.0``.
        """
        plugs: dict[str, list[str]] = {}
        users: dict[str, dict[str, Secret]] = {}
        for agent in agents:
            needs = parameters(agent)
            where = _address(needs, with_port=needs.ip_port is not None)
            plugs.setdefault(where, []).append(needs.plug or ONLY_PLUG)
            if needs.username:
                users.setdefault(where, {})[needs.username] = needs.password or Secret("")
        return cls(
            Device(address=where, plugs=tuple(dict.fromkeys(names)), users=MappingProxyType(users.get(where, {})), **settings)
            for where, names in plugs.items()
        )

    @classmethod
    def from_file(cls, path: Path) -> Rack:
        """Read a rack from a TOML or (by its suffix) JSON file.

        :raises ConfigurationError: it cannot be read or says what no rack has.
        """
        try:
            text = path.read_text(encoding="utf-8")
            data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the rack {path} cannot be read", why=type(error).__name__) from None
        return cls.from_mapping(data)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Rack:
        """Make a rack of plain values: ``{"device": [{"address": …}, …]}``.

        :raises ConfigurationError: an unknown name, a value of the wrong kind, an address twice.
        """
        return cls(_device(position, given) for position, given in enumerate(_list(data), start=1))

    def add(self, device: Device) -> None:
        """Put one more device into the rack.

        :raises ConfigurationError: its address is taken.
        """
        if device.address in self._live:
            raise ConfigurationError(f"the rack has two devices at {device.address}")
        start = {plug: [(float("-inf"), device.power)] for plug in device.plugs}
        self._live[device.address] = _Live(device=device, faults=device.faults, changes=start)

    def break_device(self, address: str, **faults: Any) -> None:
        """Change fields of a device's :class:`Faults` from now on; counts start afresh."""
        live = self._live[address]
        live.faults = replace(live.faults, **faults)

    def mend_device(self, address: str) -> None:
        """Take every fault from a device."""
        self._live[address].faults = Faults()

    def switch(self, address: str, power: PowerStatus, plug: str = ONLY_PLUG) -> None:
        """Change the truth at once, as somebody at the rack would; nothing is logged."""
        self._change(self._live[address], plug, [(self.now(), power)])

    def power(self, address: str, plug: str = ONLY_PLUG, *, at: float | None = None) -> PowerStatus:
        """Return the true power of an outlet now, or *at* a time on the rack's clock."""
        moment = self.now() if at is None else at
        return next(power for when, power in reversed(self._live[address].changes[plug]) if when <= moment)

    def changes(self, address: str, plug: str = ONLY_PLUG) -> tuple[tuple[float, PowerStatus], ...]:
        """Return (when, power) of an outlet, ascending, those still to come included; the first is the start."""
        return tuple(self._live[address].changes[plug])

    @property
    def log(self) -> tuple[Entry, ...]:
        """Everything that reached a device, in order."""
        return tuple(self._log)

    def commands(self) -> tuple[Entry, ...]:
        """Return the ``on`` and ``off`` commands that were executed, in order."""
        return tuple(entry for entry in self._log if entry.executed and entry.action is not Action.STATUS)

    def now(self) -> float:
        """Return the rack's time, seconds."""
        if self._clock is not None:
            return self._clock()
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    def arrive(self, needs: Parameters, action: Action) -> Arrival:
        """Take one question as it arrives: what it does to the device is done when this returns."""
        live = self._live.get(_address(needs, with_port=True)) or self._live.get(_address(needs, with_port=False))
        if live is None or live.faults.unreachable or self._is_gone(live):
            return Arrival(answer=_fault(FaultKind.UNREACHABLE, "the device does not answer"))
        if live.faults.silent:
            return Arrival(answer=None, heard=False)
        plug = needs.plug if needs.plug is not None and live.device.plugs != (ONLY_PLUG,) else ONLY_PLUG
        answer = _refusal(live, needs, plug, action) or self._obey(live, plug, action)
        if action is Action.STATUS:
            executed = isinstance(answer, PowerStatus)
        else:
            executed = answer is ACCEPTED and self._execute(live, plug, action)
        self._record(live, plug, action, executed=executed, answer=answer)
        if self._uses_up(live, "loses_reply", action):
            answer = None
        return Arrival(answer=answer, after=live.device.answer_after)

    def _is_gone(self, live: _Live) -> bool:
        fed_by = live.device.fed_by
        dark = fed_by is not None and self.power(*fed_by) is PowerStatus.OFF
        return dark or self.now() < live.gone_until

    def _obey(self, live: _Live, plug: str, action: Action) -> Answer | None:
        if self._uses_up(live, "loses", action):
            return None
        if self._uses_up(live, "fails", action):
            return _fault(FaultKind.FAILED, f"the device reports an error for {action}", sent=action is not Action.STATUS)
        return self._read(live, plug) if action is Action.STATUS else ACCEPTED

    def _read(self, live: _Live, plug: str) -> PowerStatus:
        faults, truth = live.faults, self.power(live.device.address, plug)
        live.reads += 1
        if faults.unknown_reads:
            if faults.unknown_reads > 0:
                live.faults = replace(faults, unknown_reads=faults.unknown_reads - 1)
            return PowerStatus.UNKNOWN
        if faults.lies is not None:
            return faults.lies
        if faults.flaps and live.reads % 2:
            return PowerStatus.OFF if truth is PowerStatus.ON else PowerStatus.ON
        return truth

    def _execute(self, live: _Live, plug: str, action: Action) -> bool:
        """Let the outlet obey; return False where a fault makes it ignore the command."""
        if self._uses_up(live, "ignores", action):
            return False
        now, device, faults = self.now(), live.device, live.faults
        if action is Action.ON:
            self._change(live, plug, [(now + device.settle_on, PowerStatus.ON)])
            return True
        dark = now + device.settle_off
        again = [] if faults.on_again_after is None else [(dark + faults.on_again_after, PowerStatus.ON)]
        self._change(live, plug, [(dark, PowerStatus.OFF), *again])
        if faults.gone_after_off:
            live.gone_until = dark + faults.gone_after_off
        return True

    def _change(self, live: _Live, plug: str, coming: list[tuple[float, PowerStatus]]) -> None:
        now = self.now()
        live.changes[plug] = [change for change in live.changes[plug] if change[0] <= now] + coming

    @staticmethod
    def _uses_up(live: _Live, name: str, action: Action) -> bool:
        """Tell whether a counted fault applies, and count it down."""
        counts: Mapping[Action, int] = getattr(live.faults, name)
        left = counts.get(action, 0)
        if left > 0:
            change: dict[str, Any] = {name: MappingProxyType({**counts, action: left - 1})}
            live.faults = replace(live.faults, **change)
        return left != 0

    def _record(self, live: _Live, plug: str, action: Action, *, executed: bool, answer: Answer | None) -> None:
        said = answer.kind if isinstance(answer, AgentFault) else answer if isinstance(answer, PowerStatus) else None
        entry = Entry(at=self.now(), address=live.device.address, plug=plug, action=action, executed=executed, answer=said)
        self._log.append(entry)


class SimulatedDriver:
    """The driver contract over a :class:`Rack`."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack
        self._closed = False

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        """Ask *agent*'s device in the rack; see :class:`pmcompat.fence.drivers.Driver`."""
        await asyncio.sleep(0)  # a cancellation that is already there comes before anything is sent
        arrival = self._ask(agent, action, deadline)
        left = deadline - self.rack.now() - _MARGIN
        if arrival.answer is not None and (arrival.after <= left or not arrival.after):
            await asyncio.sleep(arrival.after)
            return arrival.answer
        await asyncio.sleep(max(0.0, left))
        if not arrival.heard:
            return _fault(FaultKind.UNREACHABLE, "the device does not answer")
        return _fault(FaultKind.TIMEOUT, f"no answer to {action} in time", sent=action is not Action.STATUS)

    def _ask(self, agent: Agent, action: Action, deadline: float) -> Arrival:
        if self._closed:
            return Arrival(answer=_fault(FaultKind.UNSUPPORTED, "the driver is closed"))
        if self.rack.now() >= deadline:
            return Arrival(answer=_fault(FaultKind.TIMEOUT, "no time left to ask"))
        try:
            needs = parameters(agent)
            if needs.password:
                needs.password.reveal()  # like every driver that sends it: a locked password never reaches a device
            return self.rack.arrive(needs, action)
        except ModelError as error:
            return Arrival(answer=_fault(FaultKind.UNSUPPORTED, error.what))
        except CredentialError as error:  # a stored password that cannot be decrypted
            return Arrival(answer=_fault(FaultKind.REFUSED, error.what))

    async def close(self) -> None:
        """Refuse everything from now on; the rack stays as it is."""
        self._closed = True


def _address(needs: Parameters, *, with_port: bool) -> str:
    return f"{needs.address}:{needs.ip_port}" if with_port else needs.address or ""


def _fault(kind: FaultKind, message: str, *, sent: bool = False) -> AgentFault:
    return AgentFault(kind=kind, message=message, sent=sent)


def _refusal(live: _Live, needs: Parameters, plug: str, action: Action) -> AgentFault | None:
    """Return why the device does not even try: login, privilege, outlet."""
    device = live.device
    if live.faults.refuses_login or (device.users and device.users.get(needs.username or "") != (needs.password or Secret(""))):
        return _fault(FaultKind.REFUSED, "the device refused user or password")
    if action is not Action.STATUS and needs.username in device.readers:
        return _fault(FaultKind.REFUSED, f"the user may not ask for {action}")
    if plug not in live.changes:
        return _fault(FaultKind.FAILED, "the device has no such outlet" if plug else "the device needs the name of an outlet")
    return None


def _list(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    devices = data.get("device")
    if set(data) != {"device"} or not isinstance(devices, list) or not all(isinstance(item, dict) for item in devices):
        raise ConfigurationError("a rack is a list of devices", fix="write one [[device]] section for each")
    return devices


def _device(position: int, given: Mapping[str, Any]) -> Device:
    """Make a device of plain values, each checked by the kind its field has."""
    try:
        return Device(**{name: _DEVICE_VALUES[name](value) for name, value in given.items()})
    except KeyError as error:
        raise ConfigurationError(f"device {position} of the rack is wrong", why=f"a device has no {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"device {position} of the rack is wrong", why=str(error)) from None


def _counts(value: Mapping[str, int]) -> Mapping[Action, int]:
    return MappingProxyType({Action(action): int(count) for action, count in value.items()})


def _faults(given: Mapping[str, Any]) -> Faults:
    return Faults(**{name: _FAULT_VALUES[name](value) for name, value in given.items()})


def _users(given: Mapping[str, str]) -> Mapping[str, Secret]:
    return MappingProxyType({user: Secret(str(password)) for user, password in given.items()})


def _pair(given: Iterable[str]) -> tuple[str, str]:
    address, plug = given
    return address, plug


_FAULT_VALUES: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("ignores", "loses", "loses_reply", "fails"), _counts),
    **dict.fromkeys(("unreachable", "silent", "refuses_login", "flaps"), bool),
    "lies": PowerStatus,
    "unknown_reads": int,
    "on_again_after": float,
    "gone_after_off": float,
}
_DEVICE_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "address": str,
    "plugs": lambda names: tuple(map(str, names)),
    "users": _users,
    "readers": frozenset,
    "power": PowerStatus,
    "answer_after": float,
    "settle_off": float,
    "settle_on": float,
    "fed_by": _pair,
    "faults": _faults,
}
