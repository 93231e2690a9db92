"""Figures of a cascade: with the routing it predicted, and what its experts would reach if all of it was right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agr_core.config import Task
from agr_core.evaluation.metrics import PartMetrics, Table
from agr_core.evaluation.names import oracle_names
from agr_core.labels.encodings import AgeEncoding


class RoutingMetrics(PartMetrics):
    """Figures of the predicted routing, as those of ``PartMetrics``, and two kinds more.

    ``routing_acc`` is the share of images that went to their expert; ``oracle_...`` are figures of the experts' tasks,
    from what ``oracle`` collects: the same images, each sent to the expert of its true group.
    """

    def __init__(
        self, by: Task, encoding: AgeEncoding | None, tasks: Sequence[Task], *others: Any, **more: Any
    ) -> None:
        super().__init__(encoding, tasks, *others, **more)
        self._by = by
        self.oracle = PartMetrics(encoding, [task for task in tasks if task != by], *others, **more | {"brief": True})

    def gather(self, gather: Callable[[Any], list[Any]]) -> None:
        """Take up the batches that other processes collected."""
        super().gather(gather)
        self.oracle.gather(gather)

    def compute(self) -> tuple[dict[str, float], dict[str, Table]]:
        """The figures and confusion matrices of all batches so far; what is undefined is absent."""
        metrics, tables = super().compute()
        if f"{self._by}_acc" in metrics:
            metrics["routing_acc"] = metrics[f"{self._by}_acc"]
        oracle, _ = self.oracle.compute()
        metrics |= {name: oracle[figure] for figure, name in oracle_names(oracle).items()}
        return metrics, tables
