"""How the noun ``db`` looks to a person: tables and lines from the reports of :mod:`pmcompat.db.upgrade`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pmcompat.cli.output import say

if TYPE_CHECKING:
    from rich.console import Console

    from pmcompat.db.plan.findings import Finding
    from pmcompat.db.upgrade import PlanReport, RollbackReport, Status, UpgradeReport, Verification


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False)


def _table(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    found = list(rows)
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        _line(console, f"{name:<{width}}  {value}".rstrip())


def _findings(console: Console, title: str, findings: Iterable[Finding]) -> None:
    found = list(findings)
    if not found:
        return
    _line(console, f"\n{title}")
    for finding in found:
        _line(console, f"  - {finding.text}" + (f"\n      → {finding.fix}" if finding.fix else ""))


def status(console: Console, found: Status) -> None:
    """Print what ``db status`` found."""
    from pmcompat.db.upgrade.status import SHOWN

    _table(
        console,
        [
            ("database", found.database),
            ("schema", found.schema),
            ("found", SHOWN[found.shape]),
            ("state", found.state),
            ("applied", ", ".join(found.applied) or "nothing"),
            ("pending", ", ".join(found.pending) or "nothing"),
            *([("edited since", "; ".join(found.drift))] if found.drift else []),
            *([("out of order", ", ".join(found.out_of_order))] if found.out_of_order else []),
            ("bookkeeping", found.bookkeeping),
            ("hosts", f"about {found.hosts}"),
        ],
    )
    _findings(console, "Worth knowing", found.findings)


def plan(console: Console, found: PlanReport) -> None:
    """Print what ``db plan`` found."""
    status(console, found.status)
    if found.locks:
        _line(console, f"\nLocks, all of them first, for about {found.estimate * 1000:.0f} ms whatever the number of hosts")
        for lock in found.locks:
            _line(console, f"  {lock}")
    if found.dependants:
        _line(console, f"\n{len(found.dependants)} dependants, all of which stay")
        for name in found.dependants:
            _line(console, f"  {name}")
    if found.remarks:
        _line(console, "\nAfterwards")
        for remark in found.remarks:
            _line(console, f"  - {remark}")
    _findings(console, "To be settled first: the upgrade would refuse", found.refusals)


def upgraded(console: Console, done: UpgradeReport) -> None:
    """Print what an upgrade or a rehearsal did."""
    if not done.applied:
        _line(console, f"{done.database}: nothing to do")
        return
    measured = done.measured
    what = "rehearsed and rolled back" if done.rehearsed else "upgraded"
    _line(console, f"{done.database}: {what}: {', '.join(done.applied)}")
    _line(
        console,
        f"exclusive locks held {measured.locked * 1000:.0f} ms, waited for {measured.waited * 1000:.0f} ms, "
        f"{measured.attempts} {'try' if measured.attempts == 1 else 'tries'}",
    )
    if done.rehearsed:
        _line(console, "\nLocks taken")
        _table(console, [(f"  {mode}", name) for name, mode in measured.locks])
        _line(console, "\nTimes")
        _table(console, [(f"  {seconds * 1000:8.1f} ms", step) for step, seconds in measured.steps])
    _findings(console, "Worth knowing", done.findings)


def verified(console: Console, found: Verification) -> None:
    """Print what ``db verify`` found."""
    _table(console, [("ok" if check.ok else "WRONG", f"{check.name}: {check.text}".rstrip(": ")) for check in found.checks])
    _findings(console, "Worth knowing", found.findings)
    say(f"{found.database}: " + ("everything is as it should be" if found.ok else "NOT as it should be"))


def repaired(console: Console, done: UpgradeReport) -> None:
    """Print what a repair settled."""
    if not done.findings:
        _line(console, f"{done.database}: nothing to repair")
    for finding in done.findings:
        _line(console, finding.text)


def rolled_back(console: Console, done: RollbackReport) -> None:
    """Print what a rollback did, and where the secondary agents are."""
    _line(console, f"{done.database}: rolled back: {', '.join(done.undone) or 'nothing'}")
    if done.purged:
        _line(console, "schema pmcompat is deleted, archive and journal with it")
    elif done.archived:
        _line(
            console, f"{done.archived} secondary agents are kept in pmcompat.archived_agents; the next upgrade puts them back"
        )
    if done.different:
        _line(console, f"changed by somebody since the upgrade, and left as they are now: {', '.join(done.different)}")
    if done.undone:
        _line(console, f"exclusive locks held {done.measured.locked * 1000:.0f} ms")
    _findings(console, "Worth knowing", done.findings)
