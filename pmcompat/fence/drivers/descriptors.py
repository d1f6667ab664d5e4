"""How many file descriptors a driver may spend on its processes."""

from __future__ import annotations

import resource

#: left for the rest of the program
_LEFT = 200


def to_spend() -> int:
    """Return the descriptors that drivers may use, by this process's limit; negative where there are none to spare."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _LEFT
