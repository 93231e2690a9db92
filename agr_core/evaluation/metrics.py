"""Figures of one part (train, val or test): predictions are collected batch by batch, figures computed at the end.

B: images in the batch, N: images of the part, K: classes. Predictions stay on the device until ``compute``, so that no
batch waits for the host; the figures are then NumPy on the whole part and do not depend on how it was cut into batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr_core.config import Task
from agr_core.data.batch import Labels
from agr_core.errors import DivergedError
from agr_core.evaluation.names import ERROR_METRIC, REPORTING_SCHEMES, TABLE_SCHEME, LabelKind
from agr_core.evaluation.scores import IntArray, accuracy, confusion_counts, macro_scores, range_distance
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.bins import Bins, nearest_year
from agr_core.labels.encodings import AgeEncoding

_Columns = Mapping[str, NDArray[Any]]
Table = dict[str, Any]
"""A confusion matrix: ``{"labels": [K names], "counts": [K lists of K counts]}``, the true class in rows."""


class PartMetrics:
    """Collects a part's predictions and computes its figures, named as ``names.part_metric_names`` says.

    Args:
        encoding: How ages are trained; None if age is not among the tasks.
        tasks: What is predicted.
        vocabulary: The data set's genders and races.
        label_kind: Kind of the age labels.
        schemes: Reporting schemes that the labels allow (``names.allowed_schemes``).
        brief: Only losses, accuracies and the age error, and no tables: what the training part reports.
    """

    def __init__(
        self,
        encoding: AgeEncoding | None,
        tasks: Sequence[Task],
        vocabulary: Vocabulary,
        label_kind: LabelKind,
        *,
        schemes: Sequence[str] = REPORTING_SCHEMES,
        brief: bool = False,
    ) -> None:
        if ("age" in tasks) and encoding is None:
            raise ValueError(f"tasks {list(tasks)} without an age encoding: age metrics need one to decode years.")
        self._encoding = encoding if "age" in tasks else None
        self._tasks = tuple(tasks)
        self._classes = {"gender": vocabulary.genders, "race": vocabulary.races}
        self._label_kind = label_kind
        self._schemes = tuple(schemes)
        self._brief = brief
        self._parts: defaultdict[str, list[Tensor]] = defaultdict(list)

    @torch.no_grad()
    def update(
        self, logits: Mapping[Task, Tensor], labels: Labels, losses: Mapping[Task, Tensor], total: Tensor
    ) -> None:
        """Add a batch. Nothing is copied to the host.

        Args:
            logits: Each task's outputs (B, outputs).
            labels: Labels of the batch, on the same device.
            losses: Each task's mean loss over the labels known in this batch, 0-d.
            total: The weighted sum of the losses, 0-d.
        """
        self._add("loss", total.detach().view(1))
        self._add("loss_weight", torch.tensor([len(labels.age)]))
        for task in self._tasks:
            known = ~torch.isnan(labels.age) if task == "age" else getattr(labels, task) >= 0
            self._add(f"{task}_loss", losses[task].detach().view(1))
            self._add(f"{task}_loss_weight", known.sum().view(1))
            if task != "age":
                self._add(task, getattr(labels, task))
                self._add(f"{task}_predicted", logits[task].argmax(dim=1))
        if self._encoding is not None:
            for name in ("age", "age_low", "age_high"):
                self._add(name, getattr(labels, name))
            self._add("age_predicted", self._encoding.years(logits["age"]))
            bin_index = self._encoding.bin_index(logits["age"])
            if bin_index is not None:
                self._add("bin_predicted", bin_index)

    def compute(self) -> tuple[dict[str, float], dict[str, Table]]:
        """The figures and confusion matrices of all batches so far; what is undefined is absent.

        A mean loss weighs each batch by its known labels of that task, the total loss by its images.

        Raises:
            DivergedError: If a loss or an estimated age is not finite.
        """
        columns = {name: torch.cat(parts).cpu().numpy() for name, parts in self._parts.items()}
        metrics: dict[str, float] = {}
        tables: dict[str, Table] = {}
        if not columns:
            return metrics, tables
        for name in ("loss", *(f"{task}_loss" for task in self._tasks)):
            metrics |= _mean_loss(name, columns)
        if self._encoding is not None:
            self._compute_age(columns, self._encoding, metrics, tables)
        for task in ("gender", "race"):
            if task in self._tasks:
                self._compute_classes(task, columns, metrics, tables)
        return metrics, tables

    def _compute_age(
        self, columns: _Columns, encoding: AgeEncoding, metrics: dict[str, float], tables: dict[str, Table]
    ) -> None:
        known = ~np.isnan(columns["age"])
        if not known.any():
            return
        years = columns["age_predicted"][known].astype(np.float64)
        if not np.isfinite(years).all():
            raise DivergedError("an estimated age is not finite: the model's outputs have diverged.")
        low, high = (columns[name][known].astype(np.float64) for name in ("age_low", "age_high"))
        errors = range_distance(years, low, high)
        metrics[ERROR_METRIC[self._label_kind]] = float(errors.mean())
        if self._brief:
            return
        metrics["age_cs5"] = float((errors <= 5).mean())
        table_scheme = TABLE_SCHEME if TABLE_SCHEME in self._schemes else next(iter(self._schemes), None)
        for scheme in self._schemes:
            bins = Bins.from_spec(scheme)
            confusion = confusion_counts(bins.index(low), bins.index(nearest_year(years)), bins.count)
            metrics[f"age_acc.{scheme}"] = accuracy(confusion)
            metrics[f"age_acc1off.{scheme}"] = accuracy(confusion, off_by=1)
            metrics[f"age_f1.{scheme}"] = macro_scores(confusion)["f1"]
            if scheme == table_scheme:
                tables["age_confusion"] = _table(bins.labels, confusion)
        if encoding.bins is not None:
            own = confusion_counts(encoding.bins.index(low), columns["bin_predicted"][known], encoding.bins.count)
            metrics["age_acc"] = accuracy(own)
            metrics["age_f1"] = macro_scores(own)["f1"]

    def _compute_classes(
        self, task: str, columns: _Columns, metrics: dict[str, float], tables: dict[str, Table]
    ) -> None:
        known = columns[task] >= 0
        if not known.any():
            return
        classes = self._classes[task]
        confusion = confusion_counts(columns[task][known], columns[f"{task}_predicted"][known], len(classes))
        metrics[f"{task}_acc"] = accuracy(confusion)
        if not self._brief:
            metrics |= {f"{task}_{name}": value for name, value in macro_scores(confusion).items()}
            tables[f"{task}_confusion"] = _table(classes, confusion)

    def _add(self, column: str, values: Tensor) -> None:
        self._parts[column].append(values)


def _mean_loss(name: str, columns: _Columns) -> dict[str, float]:
    weights = columns[f"{name}_weight"].astype(np.float64)
    if weights.sum() == 0:
        return {}
    mean = float(np.average(columns[name].astype(np.float64), weights=weights))
    if not np.isfinite(mean):
        raise DivergedError(f"{name} is {mean:g}: the model has diverged.")
    return {name: mean}


def _table(labels: Sequence[str], confusion: IntArray) -> Table:
    return {"labels": list(labels), "counts": confusion.tolist()}
