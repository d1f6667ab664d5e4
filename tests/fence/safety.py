"""The safety checker: judges what the devices themselves wrote down, whatever the executor says of itself.

What lives here: the entries of the devices' log, one run of the command over them, and the laws that must hold for it. Pure.

* ``no_on_before_a_level_is_off`` (F1): in a restart, the first ``on`` comes after every plug of one level was read off, and
  read off again after the last of them was. A plug that read on in between begins that anew.
* ``the_level_was_dark`` (P2): when the first ``on`` comes, every plug of such a level really is off.
* ``nothing_twice``: a plug is told ``off`` and then ``on``, each once, but for resends of the same command.
* ``nothing_out_of_turn``: a stop never says on, a start or a resume never off, a status nothing; and nobody says anything else.
* ``not_left_dark`` (F8): after an ordinary stop signal no whole level is off, unless its plugs were all told ``on``.
* ``the_report_is_true`` (F2, F3): success means that it is so; on or off is claimed only where it is so.
* ``the_exit_code_fits`` (DESIGN §5).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_POWER = {"0": "off", "1": "on"}
#: error codes → exit codes (DESIGN §5)
_ERRORS = {
    "refused": 9,
    "locked": 9,
    "database-unreachable": 4,
    "uncertain": 7,
    "credential": 3,
    "schema": 3,
}


@dataclass(frozen=True)
class Entry:
    """One thing that happened to one plug."""

    at: float
    plug: str
    #: ``told``: commanded; ``became``: the power changed; ``read``: a status was answered; ``blind``: it was refused
    what: str
    power: str

    @classmethod
    def of(cls, line: str) -> Entry:
        at, plug, what, power = line.split()
        return cls(float(at), plug, what, _POWER.get(power, power))


@dataclass(frozen=True)
class Run:
    """One run of the command on one host, and the log of the host's plugs from their beginning."""

    verb: str
    levels: tuple[tuple[str, ...], ...]
    entries: tuple[Entry, ...]
    #: index of the first entry of this run, and of the first after it: what follows is what the devices did later
    began: int
    ended: int
    #: None for one of several hosts of a run: the process has one exit code for all
    code: int | None
    report: dict[str, Any] | None
    errors: str = ""
    #: the signal that was sent to it, or what else was done to it; '' if nothing was
    ended_by: str = ""

    @property
    def own(self) -> tuple[Entry, ...]:
        """What happened from the beginning of this run on."""
        return self.entries[self.began :]

    def told(self, *, plug: str | None = None, power: str | None = None) -> list[Entry]:
        """Return what was commanded in this run."""
        return [
            entry for entry in self.own if entry.what == "told" and plug in {None, entry.plug} and power in {None, entry.power}
        ]

    @property
    def succeeded(self) -> bool:
        return self.report is not None and bool(self.report["succeeded"])

    @property
    def notes(self) -> list[str]:
        return list(self.report.get("notes", [])) if self.report else []

    def power_at(self, end: int | None = None) -> dict[str, str]:
        """Return what each plug really was, before entry *end*; all were on when they were made."""
        power = {plug: "on" for level in self.levels for plug in level}
        power.update({entry.plug: entry.power for entry in self.entries[:end] if entry.what == "became"})
        return power

    def __str__(self) -> str:
        seen = [f"{entry.at:.2f} {entry.plug} {entry.what} {entry.power}" for entry in self.own]
        return "\n".join([f"{self.verb} → {self.code} {self.ended_by}", f"{self.report}", self.errors.strip(), *seen[-60:]])


class Unsafe(AssertionError):
    """A law was broken."""


def _demand(condition: object, law: str, run: Run) -> None:
    if not condition:
        raise Unsafe(f"{law}\n{run}")


def proven_dark(entries: Sequence[Entry], level: Sequence[str]) -> int | None:
    """Return the index after which the level was confirmed off: every plug read off, and again after the last of them was."""
    off: set[str] = set()
    again: set[str] = set()
    for i, entry in enumerate(entries):
        if entry.plug not in level:
            continue
        if entry.what == "read" and entry.power == "off":
            if off == set(level):
                again.add(entry.plug)
            off.add(entry.plug)
        elif entry.what == "read" or (entry.what == "told" and entry.power == "on"):
            off.discard(entry.plug)
            again.clear()
        if again == set(level):
            return i
    return None


def no_on_before_a_level_is_off(run: Run) -> None:
    """F1, from what the devices were asked and answered."""
    ons = [i for i, entry in enumerate(run.own) if entry.what == "told" and entry.power == "on"]
    if run.verb != "restart" or not ons:
        return
    before = run.own[: ons[0]]
    _demand(
        any(proven_dark(before, level) is not None for level in run.levels),
        f"F1: {run.own[ons[0]].plug} was told on before a whole level was confirmed off",
        run,
    )


def the_level_was_dark(run: Run) -> None:
    """P2: a level that was confirmed off is off, in truth, when the first ``on`` comes or a stop reports success."""
    ons = [i for i, entry in enumerate(run.own) if entry.what == "told" and entry.power == "on"]
    if run.verb == "restart" and ons:
        end = run.began + ons[0]
    elif run.verb == "stop" and run.succeeded:
        end = run.ended
    else:
        return
    power = run.power_at(end)
    _demand(any(all(power[plug] == "off" for plug in level) for level in run.levels), "P2: no whole level was really off", run)


def nothing_twice(run: Run, *, resends: int = 0) -> None:
    """Off, then on; each once, and *resends* times more. A start or a restart may send ``on`` twice where it was not seen."""
    for plug in itertools.chain(*run.levels):
        commands = [entry.power for entry in run.told(plug=plug)]
        order = [power for power, _ in itertools.groupby(commands)]
        _demand(order in ([], ["off"], ["on"], ["off", "on"]), f"{plug} was told {commands}", run)
        _demand(commands.count("off") <= 1 + resends, f"{plug} was told off {commands.count('off')} times", run)
        _demand(commands.count("on") <= 2 * (1 + resends), f"{plug} was told on {commands.count('on')} times", run)


def nothing_out_of_turn(run: Run) -> None:
    """Each verb says only what is its own to say."""
    allowed = {"stop": {"off"}, "start": {"on"}, "resume": {"on"}, "restart": {"off", "on"}}.get(run.verb, set())
    said = {entry.power for entry in run.told()}
    _demand(said <= allowed, f"a {run.verb} said {said - allowed}", run)


def not_left_dark(run: Run) -> None:
    """F8: an ordinary stop signal in the middle of a restart does not leave the host without power."""
    if run.verb != "restart" or run.ended_by not in {"SIGINT", "SIGTERM", "SIGHUP"}:
        return
    power = run.power_at()
    for level in run.levels:
        dark = all(power[plug] == "off" for plug in level)
        owed = [plug for plug in level if run.told(plug=plug, power="off") and not run.told(plug=plug, power="on")]
        _demand(not (dark and owed), f"F8: a {run.ended_by} left the host dark; {owed} were never given back", run)


def the_report_is_true(run: Run) -> None:
    """F2, F3: what is claimed is so."""
    if run.report is None or run.report.get("error"):
        return
    power = run.power_at()
    claimed, levels = run.report["power"], [[power[plug] for plug in level] for level in run.levels]
    if run.succeeded and run.verb in {"start", "resume", "restart"}:
        _demand("on" in power.values(), "success, and no plug is on", run)
        _demand(run.report["degraded"] or all("off" not in level for level in levels[:1]), "degraded, and not said", run)
    if run.succeeded and run.verb == "stop":
        _demand(any(set(level) == {"off"} for level in levels), "success, and no level is off", run)
    if run.succeeded and run.verb == "restart":
        _demand(run.told(power="off"), "a restart that switched nothing off", run)
    if claimed == "on":
        _demand("on" in power.values(), "it is said to be on", run)
    if claimed == "off":
        _demand(any(set(level) == {"off"} for level in levels), "it is said to be off", run)


def the_exit_code_fits(run: Run) -> None:
    """DESIGN §5, from the report; a run that was killed, or ended before it could say anything, has sent nothing to say."""
    if run.report is None:
        _demand(not run.told() or run.ended_by == "SIGKILL", f"exit {run.code}: it acted and reported nothing", run)
        return
    report, error = run.report, run.report.get("error")
    if run.code is None:
        return
    if run.code == -9 and run.ended_by == "SIGKILL":
        return
    if error:
        _demand(run.code == _ERRORS.get(error["code"], run.code), f"error {error['code']} has exit code {run.code}", run)
        _demand(not run.told() or run.code == 7, "an error instead of an outcome, and something was sent", run)
        return
    _demand((run.code == 0) == run.succeeded, f"succeeded is {run.succeeded} and the exit code {run.code}", run)
    if not run.succeeded:
        lost = report["ended_by"] == "lost lock"
        expected = {7} if lost else {5} if report["ended_by"] == "deadline" else {1, 4, 6}
        _demand(run.code in expected | {7}, f"exit code {run.code}, not {expected}", run)


LAWS = (
    no_on_before_a_level_is_off,
    the_level_was_dark,
    nothing_twice,
    nothing_out_of_turn,
    not_left_dark,
    the_report_is_true,
    the_exit_code_fits,
)


def check(runs: Run | Iterable[Run], *, resends: int = 0) -> None:
    """Judge runs of one host by every law.

    :param resends: copies of one command that a device may see because the network lost something.
    :raises Unsafe: with the law, the run and what the devices wrote.
    """
    for run in [runs] if isinstance(runs, Run) else runs:
        for law in LAWS:
            law(run, resends=resends) if law is nothing_twice else law(run)  # type: ignore[call-arg]  # one law has a setting
