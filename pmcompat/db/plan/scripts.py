"""The upgrade scripts: found in ``sql/``, checked, and rendered with the plan's values.

What lives here: reading the files, their headers and their rules, and Jinja2. No connection; nothing is executed.

A script is ``NNNN-what.sql``, or ``NNNN-what.sql.j2`` where its text depends on the live catalog. Beside it may lie
``NNNN-what.rollback.sql(.j2)`` and ``verify/NNNN-what.sql(.j2)``. Leading comments, a licence included, may hold headers::

    -- scope: engine       it changes the engine's schema; a rollback undoes it (default)
    -- scope: pmcompat     it only makes what is pmcompat's own: run as the owner of vds_static, kept by a rollback
    -- depends: 0001-secondary-columns
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from pmcompat.db.plan import quote as plan_quote
from pmcompat.db.plan.tokens import Unreadable, tokens
from pmcompat.errors import ConfigurationError
from pmcompat.resources import data

Scope = Literal["engine", "pmcompat"]

_NAME = re.compile(r"(\d{4}-[a-z0-9-]+)\.sql(\.j2)?")
_HEADER = re.compile(r"^\s*--\s*(\w+)\s*:\s*(.+?)\s*$")
_COMMENT = re.compile(r"\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\{#.*?#\}", re.DOTALL)
#: statements that would end or split the one transaction (law D1)
_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "END", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE", "START")
#: what Jinja2 replaces; a template's line breaks stay, so that line numbers hold
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}")
#: marks a source line's end while a template is rendered; no SQL holds these characters
_LINE = re.compile("\x01(\\d+)\x02")


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """SQL text ready to run, and where each of its lines was written."""

    sql: str
    #: path below ``sql/`` as messages name it
    file: str
    #: for each line of *sql*, from 0, the line of the file, from 1
    lines: tuple[int, ...]

    def place(self, position: int) -> str:
        """Return ``file:line`` for a character of the text, counted from 1 as the server does."""
        line = self.sql.count("\n", 0, position - 1)
        return f"{self.file}:{self.lines[min(line, len(self.lines) - 1)]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One upgrade script as it lies in ``sql/``."""

    id: str
    file: str
    scope: Scope
    depends: tuple[str, ...]
    #: of the file's bytes
    sha256: str
    rollback: str | None
    verify: str | None
    #: the ``sql/`` it lies in
    home: Path


def load(directory: Path | None = None) -> tuple[Script, ...]:
    """Return the scripts in the order of their names.

    :param directory: another ``sql/``, for tests and for those who add scripts of their own.
    :raises ConfigurationError: a script breaks a rule: an unknown scope, a missing dependency, BEGIN or COMMIT.
    """
    home = directory or data("sql")
    scripts = [_script(home, path) for path in sorted(home.iterdir()) if _NAME.fullmatch(path.name)]
    known = [script.id for script in scripts]
    for script in scripts:
        for other in script.depends:
            if other not in known:
                raise _broken(script.file, f"it depends on {other}, which is not there")
        if known.count(script.id) > 1:
            raise _broken(script.file, "two files bear this id")
    return tuple(scripts)


def _script(home: Path, path: Path) -> Script:
    source = path.read_text(encoding="utf-8")
    id_ = path.name.split(".", 1)[0]
    headers = dict(_headers(source))
    scope = headers.get("scope", "engine")
    if scope not in {"engine", "pmcompat"}:
        raise _broken(path.name, f"its scope is {scope!r}, not engine or pmcompat")
    if headers.get("transactional", "true") != "true":
        raise _broken(path.name, "it wants no transaction, and the upgrade is one transaction")
    rollback, verify = _beside(home, f"{id_}.rollback.sql"), _beside(home, f"verify/{id_}.sql")
    for file in (path.name, rollback, verify):
        if file:
            _require_no_transaction(file, (home / file).read_text(encoding="utf-8"))
    return Script(
        id=id_,
        file=path.name,
        scope="pmcompat" if scope == "pmcompat" else "engine",
        depends=tuple(headers.get("depends", "").split()),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        home=home,
        rollback=rollback,
        verify=verify,
    )


def _beside(home: Path, name: str) -> str | None:
    return next((found for found in (name, f"{name}.j2") if (home / found).is_file()), None)


def _headers(source: str) -> Iterator[tuple[str, str]]:
    """Yield the headers in the leading comments; a licence in front of them, of either kind of comment, does not hide them."""
    at = 0
    while match := _COMMENT.match(source, at):
        at = match.end()
    for line in source[:at].splitlines():
        if match := _HEADER.match(line):
            yield match[1].lower(), match[2]


def _broken(file: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the upgrade script {file} cannot be used", why=why, state="nothing was done", fix="mend the file, or install again"
    )


class _Numbered(FileSystemLoader):
    """Loads templates with every line's end marked by its number, so that errors can name the line of the file."""

    def get_source(self, environment: Environment, template: str) -> Any:
        source, filename, uptodate = super().get_source(environment, template)
        if template.startswith(("parts/", "verify/calls")):
            return source, filename, uptodate
        return "".join(_marked(environment, source)), filename, uptodate


def _marked(environment: Environment, source: str) -> Iterator[str]:
    for line, kind, text in environment.lex(source, None):
        number = line
        if kind != "data":
            yield text
            continue
        *rows, last = text.split("\n")
        for row in rows:
            yield f"{row}\x01{number}\x02\n"
            number += 1
        yield last


@cache
def _environment(home: Path) -> Environment:
    environment = Environment(  # noqa: S701 - SQL, not HTML; values pass the filters below
        loader=_Numbered(home), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    for name in ("ident", "role", "literal", "dollar"):
        environment.filters[name] = getattr(plan_quote, name)
    return environment


def render(file: str, values: Mapping[str, Any], directory: Path | None = None) -> Text:
    """Return the file *file* of ``sql/`` with *values* filled in.

    :raises ConfigurationError: the template is broken, wants a value the plan does not have, or would end the transaction.
    """
    home = directory or data("sql")
    if not file.endswith(".j2"):
        sql = (home / file).read_text(encoding="utf-8")
        text = Text(sql=sql, file=f"sql/{file}", lines=tuple(range(1, sql.count("\n") + 2)))
    else:
        try:
            marked = _environment(home).get_template(file).render(values)
        except TemplateError as error:
            raise _broken(f"{file}:{getattr(error, 'lineno', '?')}", str(error)) from error
        text = _numbered(marked, f"sql/{file}")
    return text


def _numbered(marked: str, file: str) -> Text:
    rows = marked.split("\n")
    marks = [[int(found) for found in _LINE.findall(row)] for row in rows]
    last = max((number for found in marks for number in found), default=0) + 1
    lines: list[int] = []
    for found in reversed(marks):
        # a value of several lines has the mark behind its last one
        last = found[-1] if found else last
        lines.append(last)
    return Text(sql=_LINE.sub("", marked), file=file, lines=tuple(reversed(lines)))


def _require_no_transaction(file: str, source: str) -> None:
    """Refuse transaction statements in a file's own text; what templates are filled with is watched when it runs."""
    try:
        found = tokens(_TEMPLATE.sub(lambda found: " " * len(found[0]), source))
    except Unreadable as error:
        raise _broken(file, str(error)) from None
    for before, token in zip((None, *found), found, strict=False):
        starts = before is None or (before.depth == 0 and before.says(";"))
        if starts and token.says(*_TRANSACTION):
            why = f"{token.text.upper()} would break the one transaction of the upgrade"
            raise _broken(f"{file}:{source.count(chr(10), 0, token.start) + 1}", why)


def checksum(text: str) -> str:
    """Return the sha256 of *text*."""
    return hashlib.sha256(text.encode()).hexdigest()
