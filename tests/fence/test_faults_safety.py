"""The safety checker itself: what it must call unsafe, and an executor that is, on real devices."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safety
import stage
from rig import Rig, agent_of, needs_ipmi_sim
from safety import Entry, Run, Unsafe

from pmcompat.fence.drivers.ipmi import IpmiDriver
from pmcompat.fence.executor import FenceExecutor
from pmcompat.fence.flow import operations
from pmcompat.fence.flow.notebook import Notebook, Tracks
from pmcompat.fence.flow.steps import switch_off, together
from pmcompat.fence.flow.timing import Patience, Timing
from pmcompat.model import PowerStatus

GOOD = "a told off|b told off|a became off|b became off|a read off|b read off|a read off|b read off"
LIT = "a told on|b told on|a became on|b became on|a read on|b read on"


def entries(text: str) -> tuple[Entry, ...]:
    return tuple(Entry(float(i), *line.split()) for i, line in enumerate(filter(None, text.split("|"))))


def report(**more: Any) -> dict[str, Any]:
    return {"succeeded": True, "power": "on", "degraded": False, "ended_by": None, "notes": [], "agents": [], **more}


def run_of(text: str, *, verb: str = "restart", code: int = 0, said: dict[str, Any] | None = None, ended_by: str = "") -> Run:
    log = entries(text)
    return Run(verb, (("a", "b"),), log, 0, len(log), code, report() if said is None else said, ended_by=ended_by)


FAILED = report(succeeded=False, power="unknown")

UNSAFE = {
    "on after a single read": run_of("a told off|b told off|a became off|b became off|a read off|b read off|" + LIT),
    "on before the second plug was read off": run_of(
        "a told off|b told off|a became off|b became off|a read off|a read off|b read off|a told on", code=7, said=FAILED
    ),
    "on although a plug read on in between": run_of(
        "a told off|b told off|a became off|b became off|a read off|b read off|a read off|a read on|b read off|a told on",
        code=7,
        said=FAILED,
    ),
    "each agent on its own": run_of("a told off|a became off|a read off|a read off|a told on|a became on|b told off|b told on"),
    "dark by the reads, not in truth": run_of(GOOD.replace("b became off|", "") + "|" + LIT),
    "off twice": run_of("a told off|" + GOOD + "|" + LIT),
    "off after on": run_of(GOOD + "|" + LIT + "|a told off", code=7, said=FAILED),
    "on three times": run_of(GOOD + "|a told on|a told on|" + LIT),
    "a stop that says on": run_of(GOOD + "|a told on", verb="stop", said=report(power="off")),
    "a status that says off": run_of("a told off", verb="status"),
    "a resume that says off": run_of("a told off|a told on", verb="resume"),
    "left dark by a signal": run_of(GOOD, code=1, said=report(succeeded=False, power="off"), ended_by="SIGTERM"),
    "success and dark": run_of(GOOD + "|a told on|b told on"),
    "degraded and not said": run_of(GOOD + "|a told on|b told on|a became on|a read on"),
    "a stop that left one on": run_of("a told off|b told off|a became off", verb="stop", said=report(power="off")),
    "said to be on and off": run_of(GOOD, code=1, said=report(succeeded=False)),
    "success with an exit code": run_of(GOOD + "|" + LIT, code=1),
    "failure without one": run_of(GOOD, code=0, said=FAILED),
    "a lost lock with the state known": run_of(GOOD, code=1, said=report(succeeded=False, power="off", ended_by="lost lock")),
    "a deadline called failure": run_of(GOOD, code=1, said=report(succeeded=False, power="off", ended_by="deadline")),
    "refused after it acted": run_of(GOOD, code=9, said=report(succeeded=False, error={"code": "refused"})),
    "silence after it acted": dataclasses.replace(run_of(GOOD, code=1), report=None),
}

SAFE = {
    "a restart": run_of(GOOD + "|" + LIT),
    "a restart of one slow plug": run_of(
        "a told off|b told off|a became off|a read off|b read on|b became off|b read off|b read off|a read off|" + LIT
    ),
    "an interrupted restart that gives back": run_of(GOOD + "|" + LIT, said=report(ended_by="SIGINT"), ended_by="SIGINT"),
    "a signal before both were dark": run_of(
        "a told off|b told off|a became off", code=1, said=report(succeeded=False), ended_by="SIGINT"
    ),
    "a stop": run_of(GOOD, verb="stop", said=report(power="off")),
    "killed": dataclasses.replace(run_of(GOOD, code=-9, ended_by="SIGKILL"), report=None),
    "a second on": run_of(GOOD + "|a told on|a told on|b told on|a became on|b became on"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_the_checker_calls_this_unsafe(name: str) -> None:
    with pytest.raises(Unsafe):
        safety.check(UNSAFE[name])


@pytest.mark.parametrize("name", SAFE)
def test_the_checker_calls_this_safe(name: str) -> None:
    safety.check(SAFE[name])


def _each_on_its_own(book: Notebook, level: Tracks, patience: Patience) -> Any:
    """A level is dark as soon as one of its plugs is."""
    yield from together([switch_off(book, track, patience) for track in level[:1]])
    return level[0].reads(PowerStatus.OFF)


def _no_second_read(book: Notebook, level: Tracks, patience: Patience) -> Any:
    return all((yield from together([switch_off(book, track, patience) for track in level])))


def _believes(book: Notebook, level: Tracks, patience: Patience) -> Any:
    """Trusts the command instead of a status read."""
    yield from together([operations.ask(book, track, operations.Action.OFF) for track in level])
    return True


@pytest.mark.needs_ipmi_sim
@needs_ipmi_sim
@pytest.mark.parametrize("mutant", [None, _each_on_its_own, _no_second_read, _believes])
def test_an_executor_that_cuts_corners_is_found_out_by_the_devices(
    mutant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants that must die, on real devices; without one the same run is safe."""
    if mutant is not None:
        monkeypatch.setattr(operations, "_darken", mutant)
    with Rig(tmp_path) as rig:
        host = rig.dual("h0", settle=0.1)
        agents = [agent_of(supply, order) for order, supply in enumerate(host.supplies, 1)]
        outcome = asyncio.run(_restart(stage.host(*agents, concurrent=True)))
        log = tuple(rig.witness.entries())
        found = report(succeeded=outcome.succeeded, power=outcome.power.value, degraded=outcome.degraded)
        run = Run("restart", host.plan, log, 0, len(log), 0 if outcome.succeeded else 1, found)
    if mutant is None:
        safety.check(run)
    else:
        with pytest.raises(Unsafe):
            safety.check(run)


async def _restart(host: Any) -> Any:
    quick = Timing(delay=0.2, retries=6)
    async with FenceExecutor({"ipmi": IpmiDriver()}, patience=stage.patience(start=quick, stop=quick)) as executor:
        return await executor.arestart(host)


def test_every_law_is_broken_by_something() -> None:
    """A law that no unsafe run breaks is decoration."""

    def breaks(law: Any, runs: Sequence[Run]) -> bool:
        for run in runs:
            try:
                law(run)
            except Unsafe:
                return True
        return False

    assert all(breaks(law, list(UNSAFE.values())) for law in safety.LAWS)
