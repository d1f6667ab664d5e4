"""Find the files that travel with the package: ``sql/`` and ``schemas/``.

In a wheel they lie inside the package (``pmcompat/_data``); in a checkout, editable or not, beside it. Nobody else in the
house knows the difference.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def data(name: str) -> Path:
    """Return the directory ``sql`` or ``schemas``, wherever this installation keeps it.

    :raises FileNotFoundError: the installation is broken: neither place has it.
    """
    for home in (_PACKAGE / "_data", _PACKAGE.parent):
        if (home / name).is_dir():
            return home / name
    raise FileNotFoundError(f"pmcompat is installed without its {name}/ directory: install it again")
