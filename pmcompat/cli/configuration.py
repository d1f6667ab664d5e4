"""``--config FILE``: a TOML file whose keys are option names.

::

    dsn = "postgresql://engine@db.example/engine"     # for every command that has --dsn
    [host]
    quiet-time = 180                                  # for every verb of `host`
    [host.stop]
    deadline = 120                                    # for `host stop` alone

The more special table wins; the command line and the environment win over the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pmcompat.errors import ConfigurationError


def defaults(file: str, root: Any) -> dict[str, Any]:
    """Return the ``default_map`` of the command tree *root* that *file* describes.

    :raises ConfigurationError: the file cannot be read, is not TOML, or has a key that no option bears.
    """
    try:
        settings = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"the configuration file {file} cannot be read",
            why=str(error),
            state="nothing was done",
            fix="mend the file or leave --config out",
        ) from None
    used: set[str] = set()
    tree = _apply(root, settings, {}, "", used)
    unknown = sorted(_keys(settings) - used)
    if unknown:
        raise ConfigurationError(
            f"the configuration file {file} has a key that nothing knows: {unknown[0]}",
            state="nothing was done",
            fix="keys are long option names without the dashes, in tables named after noun and verb",
        )
    return tree


def _apply(command: Any, table: dict[str, Any], inherited: dict[str, Any], path: str, used: set[str]) -> dict[str, Any]:
    here = {key: (value, f"{path}{key}") for key, value in table.items() if not isinstance(value, dict)}
    known = {**inherited, **here}
    found: dict[str, Any] = {}
    for param in command.params:
        for name in getattr(param, "opts", ()):
            if name.startswith("--") and name[2:] in known:
                found[param.name], origin = known[name[2:]]
                used.add(origin)
    for name, child in getattr(command, "commands", {}).items():
        inner = table.get(name, {})
        found[name] = _apply(child, inner if isinstance(inner, dict) else {}, known, f"{path}{name}.", used)
    return found


def _keys(table: dict[str, Any], path: str = "") -> set[str]:
    flat: set[str] = set()
    for key, value in table.items():
        flat |= _keys(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}"}
    return flat
