"""Two power management agents per host for an existing oVirt installation.

The public names are loaded when they are first used, so that ``pmcompat --help`` needs no database driver or XML parser.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmcompat.db.dao import VdsDao, VdsStaticDao
    from pmcompat.documents.translation import Translation, translate
    from pmcompat.fence.executor import FenceExecutor

__version__ = "0.1.0"
__all__ = ["FenceExecutor", "Translation", "VdsDao", "VdsStaticDao", "__version__", "translate"]

_HOMES = {
    "FenceExecutor": "pmcompat.fence.executor",
    "Translation": "pmcompat.documents.translation",
    "VdsDao": "pmcompat.db.dao",
    "VdsStaticDao": "pmcompat.db.dao",
    "translate": "pmcompat.documents.translation",
}


def __getattr__(name: str) -> object:
    """Load a public name from the room it lives in (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
