"""Decide which fence defaults change (law D3).

What lives here: the rule about pairs, and what the report says about it. Pure.

Delay and retries multiply, so they are decided together: an admin who raised one of them has chosen the product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pmcompat.db.catalog import FENCE_PAIRS, Catalog, FenceDefault, Option

GENERAL = "general"


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionChange:
    """One row of ``vdc_options`` to change, or to make where *id* is None."""

    id: int | None
    name: str
    old: str | None
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PairDecision:
    """What happens to the delay and the retries of one operation."""

    operation: str
    changes: tuple[OptionChange, ...]
    #: one sentence, with both products in seconds
    reason: str
    #: further sentences: duplicates, other spellings, other versions
    remarks: tuple[str, ...] = ()


def decide(catalog: Catalog, *, force: bool = False) -> tuple[PairDecision, ...]:
    """Return the decision for each pair; none where the options cannot be read.

    :param force: change values an admin chose as well (``--force-defaults``).
    """
    if catalog.options is None:
        return ()
    return tuple(_pair(operation, pair, catalog.options, force=force) for operation, pair in FENCE_PAIRS.items())


def _pair(operation: str, pair: tuple[FenceDefault, FenceDefault], options: tuple[Option, ...], *, force: bool) -> PairDecision:
    rows = {default: tuple(_rows(options, default)) for default in pair}
    remarks = tuple(remark for default in pair for remark in _remarks(options, default))
    old, new = (f"{pair[0].old} s x {pair[1].old}", f"{pair[0].new} s x {pair[1].new}")
    wanted = f"{new} = {int(pair[0].new) * int(pair[1].new)} s"
    untouched = all(row.value == default.old for default in pair for row in rows[default])
    arrived = all(rows[default] and all(row.value == default.new for row in rows[default]) for default in pair)
    now = _product(rows[pair[0]], rows[pair[1]])
    if arrived:
        return PairDecision(operation=operation, changes=(), reason=f"already {wanted}", remarks=remarks)
    if not untouched and not force:
        reason = f"left as an admin chose it: {now}; the new default would be {wanted}"
        return PairDecision(operation=operation, changes=(), reason=reason, remarks=remarks)
    how = "forced" if not untouched else f"old default {old} = {int(pair[0].old) * int(pair[1].old)} s"
    changes = tuple(change for default in pair for change in _changes(default, rows[default]))
    return PairDecision(operation=operation, changes=changes, reason=f"{now} becomes {wanted} ({how})", remarks=remarks)


def _changes(default: FenceDefault, rows: Iterable[Option]) -> list[OptionChange]:
    if not rows:
        return [OptionChange(id=None, name=default.name, old=None, new=default.new)]
    return [OptionChange(id=row.id, name=row.name, old=row.value, new=default.new) for row in rows if row.value != default.new]


def _rows(options: Iterable[Option], default: FenceDefault) -> Iterator[Option]:
    """Yield the rows of this option: version ``general``, the name in any case, since the table forbids neither."""
    for option in options:
        if option.name.lower() == default.name.lower() and option.version == GENERAL:
            yield option


def _product(delays: tuple[Option, ...], retries: tuple[Option, ...]) -> str:
    def shown(rows: tuple[Option, ...]) -> str:
        return " or ".join(dict.fromkeys(row.value for row in rows)) or "absent"

    text = f"{shown(delays)} s x {shown(retries)}"
    single = {row.value for row in delays}, {row.value for row in retries}
    numbers = [next(iter(found)) for found in single if len(found) == 1]
    if len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers):
        return f"{text} = {int(numbers[0]) * int(numbers[1])} s"
    return text


def _remarks(options: Iterable[Option], default: FenceDefault) -> Iterator[str]:
    rows = list(_rows(options, default))
    if len(rows) > 1:
        found = ", ".join(f"{row.name}={row.value!r} (option_id {row.id})" for row in rows)
        yield f"{default.name} has {len(rows)} rows: {found}"
    for option in options:
        if option.name.lower() == default.name.lower() and option.version != GENERAL:
            yield f"{option.name} has a row of version {option.version} ({option.value!r}): left"
