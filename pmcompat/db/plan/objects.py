"""Take objects down and put them back: the SQL statements, from the values the catalog read.

What lives here: statements for views, materialised views and functions with everything that hangs on them (owner, grants,
column grants, comments, options, triggers, rules, indexes), and the order in which dependants go and come. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import groupby

from pmcompat.db.catalog import Catalog, Column, Grant, Part, Relation, Routine, Server
from pmcompat.db.plan.quote import ident, literal, qualified, role

#: relation kind → the words for it
_KINDS = {"v": "VIEW", "m": "MATERIALIZED VIEW", "r": "TABLE", "p": "TABLE"}
_ROUTINES = {"f": "FUNCTION", "p": "PROCEDURE"}
#: the server's letter → ALTER TABLE's words for a trigger or rule that is not simply on
_ENABLED = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Detour:
    """Dependants that must go while what they need is replaced, as statements, and what stands in the way."""

    down: tuple[str, ...] = ()
    up: tuple[str, ...] = ()
    #: all of them, outermost first
    things: tuple[Relation | Routine, ...] = ()
    #: those among them that stay away, innermost first
    gone: tuple[Relation | Routine, ...] = ()
    #: sentences about dependants that cannot be put back
    problems: tuple[str, ...] = ()

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Return the relations among them, to lock, outermost first."""
        return tuple(thing for thing in self.things if isinstance(thing, Relation))


def detour(catalog: Catalog, roots: Collection[int], made: Mapping[int, Iterable[str]], gone: Collection[int] = ()) -> Detour:
    """Return the way around the objects *roots* and whatever depends on them.

    :param roots: oids that are dropped.
    :param made: oid → the statements that make it anew, for those roots that come back here.
    :param gone: oids that are dropped and stay away, with everything that needs them.
    """
    needs = _needs(catalog, roots)
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        return Detour(problems=("some of the dependants need each other, so no order brings them back",))
    if problems := tuple(dict.fromkeys(_problems(catalog, needs))):
        return Detour(problems=problems)
    gone = _spread(needs, gone)
    known = {oid: thing for oid in order if (thing := catalog.thing(oid))}
    up: list[str] = []
    for oid in order:
        thing = known.get(oid)
        if oid in made:
            up += made[oid]
        elif oid not in roots and oid not in gone and thing is not None:
            up += remade(thing, catalog.server)
    return Detour(
        down=tuple(dropped(known[oid]) for oid in reversed(order) if oid in known),
        up=tuple(up),
        things=tuple(known[oid] for oid in reversed(order) if oid in known),
        gone=tuple(known[oid] for oid in order if oid in gone),
    )


def _needs(catalog: Catalog, roots: Collection[int]) -> dict[int, set[int]]:
    """Return the graph below *roots*: object → the objects it needs; parts of relations left out."""
    needs: dict[int, set[int]] = {oid: set() for oid in roots}
    grown = True
    while grown:
        grown = False
        for edge in catalog.dependants:
            if edge.on in needs and edge.within is None and edge.catalog in {"pg_class", "pg_proc"}:
                grown |= edge.oid not in needs or edge.on not in needs[edge.oid]
                needs.setdefault(edge.oid, set()).add(edge.on)
    for edge in catalog.dependants:
        # a view's trigger or rule that needs something: the view comes back with it, so the view needs it
        if edge.within in needs and edge.on in needs and edge.within != edge.on:
            needs[edge.within].add(edge.on)
    return needs


def _spread(needs: Mapping[int, set[int]], gone: Collection[int]) -> set[int]:
    """Return *gone* with everything that needs one of them."""
    away = set(gone)
    while more := {oid for oid, wanted in needs.items() if oid not in away and wanted & away}:
        away |= more
    return away


def _problems(catalog: Catalog, within: Collection[int]) -> Iterator[str]:
    for edge in catalog.dependants:
        if edge.on not in within:
            continue
        if edge.within is not None:
            if edge.within not in within:
                yield f"{edge.description}: it cannot be taken down and put back"
            continue
        thing = catalog.thing(edge.oid)
        if thing is None or thing.kind not in (_ROUTINES if isinstance(thing, Routine) else {"v", "m"}):
            yield f"{edge.description}: it cannot be taken down and put back"
    for oid in within:
        thing = catalog.thing(oid)
        if thing is not None:
            yield from (f"{describe(thing)}: {reason}" for reason in thing.peculiar)


def describe(thing: Relation | Routine) -> str:
    """Return *view public.vds* or *function public.insertvds(uuid)*."""
    if isinstance(thing, Routine):
        return f"{_ROUTINES.get(thing.kind, 'ROUTINE').lower()} {thing.signature}"
    return f"{_KINDS.get(thing.kind, 'relation').lower()} {qualified(thing.schema, thing.name)}"


def dropped(thing: Relation | Routine) -> str:
    """Return the statement that drops *thing* and nothing else."""
    if isinstance(thing, Routine):
        return f"DROP {_ROUTINES[thing.kind]} {thing.signature}"
    return f"DROP {_KINDS[thing.kind]} {qualified(thing.schema, thing.name)}"


def remade(thing: Relation | Routine, server: Server) -> Iterator[str]:
    """Yield the statements that make *thing* as it was."""
    if isinstance(thing, Routine):
        yield from remade_routine(thing, thing.definition.strip(), thing.signature, server)
    else:
        yield from remade_relation(thing, thing.definition, server)


def remade_routine(routine: Routine, definition: str, signature: str, server: Server) -> Iterator[str]:
    """Yield the statements that make *routine* with another definition; owner, grants and comment carried over."""
    kind = _ROUTINES[routine.kind]
    yield definition
    yield f"ALTER {kind} {signature} OWNER TO {role(routine.owner)}"
    yield from _granted(f"{kind} {signature}", routine, server)
    if routine.comment is not None:
        yield f"COMMENT ON {kind} {signature} IS {literal(routine.comment)}"


def options(relation: Relation) -> str:
    """Return `` WITH (…)`` with the relation's storage options, '' where it has none."""
    pairs = (option.partition("=") for option in relation.options)
    text = ", ".join(f"{name} = {literal(value)}" for name, _, value in pairs)
    return f" WITH ({text})" if text else ""


def remade_relation(view: Relation, definition: str, server: Server) -> Iterator[str]:
    """Yield the statements that make *view* with another definition; everything that hung on it carried over."""
    name, kind = qualified(view.schema, view.name), _KINDS[view.kind]
    data = "" if view.kind == "v" else "\nWITH DATA" if view.populated else "\nWITH NO DATA"
    yield f"CREATE {kind} {name}{options(view)} AS\n{definition.strip().rstrip(';')}{data}"
    yield f"ALTER {kind} {name} OWNER TO {role(view.owner)}"
    yield from _granted(name, view, server)
    for column in view.columns:
        yield from _column(kind, name, column, view.owner)
    if view.comment is not None:
        yield f"COMMENT ON {kind} {name} IS {literal(view.comment)}"
    for word, parts in (("INDEX", view.indexes), ("RULE", view.rules), ("TRIGGER", view.triggers)):
        for part in parts:
            yield from _part(word, name, part)


def _column(kind: str, name: str, column: Column, owner: str) -> Iterator[str]:
    yield from _grants(column.grants, name, owner, column=column.name)
    if column.default is not None:
        yield f"ALTER {kind} {name} ALTER COLUMN {ident(column.name)} SET DEFAULT {column.default}"
    if column.comment is not None:
        yield f"COMMENT ON COLUMN {name}.{ident(column.name)} IS {literal(column.comment)}"


def _part(word: str, name: str, part: Part) -> Iterator[str]:
    yield part.definition.rstrip(";")
    if part.enabled in _ENABLED:
        yield f"ALTER TABLE {name} {_ENABLED[part.enabled]} {word} {ident(part.name)}"
    if part.comment is not None:
        target = part.name if word == "INDEX" else f"{ident(part.name)} ON {name}"
        yield f"COMMENT ON {word} {target} IS {literal(part.comment)}"


def _granted(target: str, thing: Relation | Routine, server: Server) -> Iterator[str]:
    """Yield what gives a new object exactly the privileges of the old one, in the same order."""
    if thing.default_grants and not server.has_default_grants:
        return
    holders = dict.fromkeys(["", thing.owner, *server.default_grantees])
    yield f"REVOKE ALL ON {target} FROM {', '.join(role(name) for name in holders)}"
    yield from _grants(thing.grants, target, thing.owner)


def _grants(grants: Iterable[Grant], target: str, owner: str, column: str = "") -> Iterator[str]:
    for (grantor, grantee, grantable), group in groupby(grants, key=lambda g: (g.grantor, g.grantee, g.grantable)):
        suffix = f" ({ident(column)})" if column else ""
        privileges = ", ".join(grant.privilege + suffix for grant in group)
        option = " WITH GRANT OPTION" if grantable else ""
        if grantor != owner:
            yield f"SET LOCAL ROLE {role(grantor)}"
        yield f"GRANT {privileges} ON {target} TO {role(grantee)}{option}"
        if grantor != owner:
            yield "RESET ROLE"


def actors(things: Iterable[Relation | Routine]) -> set[str]:
    """Return the roles the session must be able to act as to drop and make *things*."""
    grants = [g for t in things for g in (*t.grants, *(g for c in getattr(t, "columns", ()) for g in c.grants))]
    return {thing.owner for thing in things} | {grant.grantor for grant in grants}


def without_columns(view: Relation, columns: Collection[str]) -> Relation:
    """Return *view* as if it never had *columns*."""
    return replace(view, columns=tuple(column for column in view.columns if column.name not in columns))
