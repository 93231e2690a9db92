"""Cost of a node's shared copy of a data set, and savings of trials that reuse it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class CopyFigures:
    """Work done, and work saved, by a trial to have its data on its node."""

    fetched_bytes: int = 0
    """Bytes downloaded from the storage."""
    spent_s: float = 0.0
    """Seconds spent on downloading, checking and decoding, or on waiting for another process that did."""
    saved_s: float = 0.0
    """Seconds that other processes spent on downloading, checking and decoding, minus those spent waiting for them."""

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the duration of the block as spent."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spent_s += time.perf_counter() - begin

    def found(self, cost_s: float, *, waited_s: float = 0.0) -> None:
        """Record a reused result that took another process ``cost_s`` seconds, after waiting ``waited_s``."""
        self.spent_s += waited_s
        self.saved_s += max(0.0, cost_s - waited_s)
