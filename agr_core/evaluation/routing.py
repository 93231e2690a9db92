"""Metrics of a cascade: with its predicted routing, and of its experts with the true routing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agr_core.config import Task
from agr_core.evaluation.metrics import PartMetrics, Table
from agr_core.evaluation.names import oracle_names
from agr_core.labels.encodings import AgeEncoding


class RoutingMetrics(PartMetrics):
    """Metrics of the predicted routing, as in ``PartMetrics``, plus routing accuracy and oracle metrics.

    ``routing_acc`` is the share of images routed to the expert of their true group. ``oracle_...`` are metrics of the
    experts' tasks, collected by ``oracle``, with each image routed to the expert of its true group.
    """

    def __init__(
        self, by: Task, encoding: AgeEncoding | None, tasks: Sequence[Task], *others: Any, **more: Any
    ) -> None:
        super().__init__(encoding, tasks, *others, **more)
        self._by = by
        self.oracle = PartMetrics(encoding, [task for task in tasks if task != by], *others, **more)

    def gather(self, gather: Callable[[Any], list[Any]]) -> None:
        """Add the batches that other processes collected."""
        super().gather(gather)
        self.oracle.gather(gather)

    def compute(self) -> tuple[dict[str, float], dict[str, Table]]:
        """Return metrics and confusion matrices of all batches so far; undefined metrics are absent."""
        metrics, tables = super().compute()
        if f"{self._by}_acc" in metrics:
            metrics["routing_acc"] = metrics[f"{self._by}_acc"]
        oracle, _ = self.oracle.compute()
        metrics |= {name: oracle[figure] for figure, name in oracle_names(oracle, self._by).items()}
        return metrics, tables
