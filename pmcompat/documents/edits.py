"""Cuts and insertions on bytes, collected first and applied at once. Knows nothing of XML."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Edits:
    """Changes to *source*; insertions at one place keep the order in which they were made, and stand before a cut there."""

    source: bytes
    made: list[tuple[int, int, bytes]] = field(default_factory=list)

    def replace(self, start: int, end: int, raw: bytes = b"") -> None:
        """Put *raw* in the place of the bytes from *start* to *end*."""
        self.made.append((start, end, raw))

    def insert(self, at: int, raw: bytes) -> None:
        """Put *raw* before the byte at *at*."""
        self.made.append((at, at, raw))

    def apply(self) -> bytes:
        """Return the edited bytes."""
        parts: list[bytes] = []
        seen = 0
        for start, end, raw in sorted(self.made, key=lambda edit: edit[:2]):
            parts += (self.source[seen:start], raw)
            seen = end
        return b"".join([*parts, self.source[seen:]])
