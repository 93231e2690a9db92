"""What the one copy of a data set on a node costs who makes it, and spares who finds it there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class CopyFigures:
    """What a trial did to have its data on its node, and what it was spared."""

    fetched_bytes: int = 0
    """Bytes it fetched from the storage."""
    spent_s: float = 0.0
    """Seconds it fetched, checked and decoded, or waited for another process that did."""
    saved_s: float = 0.0
    """Seconds that fetching, checking and decoding had taken others, less those it waited for them."""

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the seconds of the block as spent."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spent_s += time.perf_counter() - begin

    def found(self, cost_s: float, *, waited_s: float = 0.0) -> None:
        """What took somebody else ``cost_s`` was there, after waiting ``waited_s``."""
        self.spent_s += waited_s
        self.saved_s += max(0.0, cost_s - waited_s)
