"""The text of an option string: ``slot=7,lanplus,power_wait=4`` as pairs and back.

What lives here: splitting, joining and editing, without loss. What an option *means* is :mod:`pmcompat.options.parameters`.

The text is a list of items between commas. An item is a key alone (a bare flag) or a key, ``=`` and a value; the value is
everything after the first ``=``. There is no quoting: a comma cannot be carried, nor ``=`` in a key. Blanks are characters like
any others and are kept, so a text survives every path byte for byte; only where a key is *looked up* do blanks around it not
count (``slot=7, lanplus`` has the flag ``lanplus``). An item without any character says nothing and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pmcompat.errors import ModelError
from pmcompat.model import Options

#: one option as it stands in the text: (key, value); the value is None for a bare flag and "" for ``key=``
Pair = tuple[str, str | None]
Pairs = tuple[Pair, ...]

# What may be named in a message: an operator who types a password with a comma makes its second half a key.
_NAMEABLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}\Z")

_SECRET = re.compile(
    r"pass(w(or)?d|phrase)|(^|_)pass$|community|hexadecimal_kg|secret|token|credential|(^|_)(api|access|private|priv)_?key$",
    re.IGNORECASE,
)
# Their names speak of a secret, their values do not hold one.
_NOT_SECRET = re.compile(r"_(script|file|path|prompt)$", re.IGNORECASE)


def parse(text: str) -> Pairs:
    """Return the pairs of *text* in order, duplicates and blanks kept; never raises.

    ``join(parse(text)).text == text`` for every text without empty items.
    """
    return tuple(_pair(item) for item in text.split(",") if item)


def _pair(item: str) -> Pair:
    key, equals, value = item.partition("=")
    return key, value if equals else None


def join(pairs: Iterable[Pair]) -> Options:
    """Return the option string of *pairs*; ``parse(join(pairs).text) == pairs``.

    :raises ModelError: a key or value that the text cannot carry: a comma, ``=`` in a key, a flag without a name. The
        field is named, its value never is.
    """
    items = []
    for position, (key, value) in enumerate(pairs, start=1):
        if "," in key or "=" in key or "\0" in key:
            raise ModelError(
                f"the name of option {position} holds a comma or '='",
                field=field_of(key, position),
                why="an option string has no quoting",
            )
        if not key and value is None:
            raise ModelError(f"option {position} has neither name nor value", field=field_of(key, position))
        if value is not None and ("," in value or "\0" in value):
            field = field_of(key, position)
            raise ModelError(
                f"the value of {field} holds a comma",
                field=field,
                why="options are stored as a comma-separated list without quoting",
                fix="choose a value without a comma; a passphrase has to be changed on the device too",
            )
        items.append(key if value is None else f"{key}={value}")
    return Options(",".join(items))


def field_of(key: str, position: int | None = None) -> str:
    """Return how a message names an option: ``options.slot``, or its position where the key could be part of a secret."""
    name = key.strip()
    return f"options.{name}" if _NAMEABLE.match(name) else f"options[{position if position is not None else '?'}]"


def canonical(key: str) -> str:
    """Return the name a key is looked up by: blanks around it do not count, ``-`` and ``_`` are one (fencing facts §8.1)."""
    return key.strip().replace("-", "_")


def get(options: Options | None, key: str) -> Pair | None:
    """Return the last pair of *key* (the last one wins on a device too), or None."""
    wanted = canonical(key)
    found = [pair for pair in parse(options.text if options else "") if canonical(pair[0]) == wanted]
    return found[-1] if found else None


def set_option(options: Options, key: str, value: str | None) -> Options:
    """Return *options* with exactly one pair of *key*, standing where the first one stood, else at the end."""
    wanted, pair, done = canonical(key), (key, value), False
    edited: list[Pair] = []
    for old in parse(options.text):
        if canonical(old[0]) != wanted:
            edited.append(old)
        elif not done:
            edited.append(pair)
            done = True
    return join(edited if done else [*edited, pair])


def with_default(options: Options, key: str, value: str | None) -> Options:
    """Return *options* with *key* added at the end, unless the operator set that very key, as a flag or empty included."""
    return options if get(options, key) is not None else set_option(options, key, value)


def remove(options: Options, *keys: str) -> Options:
    """Return *options* without any pair of *keys*; the text itself where there is none."""
    unwanted = {canonical(key) for key in keys}
    pairs = parse(options.text)
    kept = [pair for pair in pairs if canonical(pair[0]) not in unwanted]
    return options if len(kept) == len(pairs) else join(kept)


def is_secret_option(name: str) -> bool:
    """Tell whether the value of option *name* must not be seen (``snmp_priv_passwd``, ``community``, ``hexadecimal_kg``)."""
    name = canonical(name)
    return bool(_SECRET.search(name)) and not _NOT_SECRET.search(name)


def masked(options: Options | None) -> str:
    """Return the option string for a reader's eyes: values of secret options, and keys that may be one, are ``***``."""
    shown = []
    for key, value in parse(options.text if options else ""):
        name = key if _NAMEABLE.match(key.strip()) else "***"
        seen = "***" if is_secret_option(key) or name == "***" else value
        shown.append(name if value is None else f"{name}={seen}")
    return ",".join(shown)
