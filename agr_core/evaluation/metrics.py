"""Metrics of one part (train, val or test): predictions are collected per batch, metrics computed at the end.

B: images in the batch, N: images of the part, K: classes. Predictions stay on the device until ``compute``, so no batch
waits for the host. Metrics are then computed with NumPy on the whole part and do not depend on the batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agr_core.batch import Labels
from agr_core.bins import Bins, LabelKind, nearest_year
from agr_core.config import LossWeights, Task
from agr_core.errors import DivergedError
from agr_core.evaluation.groups import group_f1, group_figures
from agr_core.evaluation.names import ERROR_METRIC, REPORTING_SCHEMES, group_classes, grouped_figures, table_scheme
from agr_core.evaluation.predictions import MOST_BINS, AgeShares, Classified, Predictions
from agr_core.evaluation.scores import (
    FloatArray,
    IntArray,
    accuracy,
    class_scores,
    confusion_counts,
    macro_scores,
    range_distance,
)
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.encodings import AgeEncoding

_Columns = Mapping[str, NDArray[Any]]
Table = dict[str, Any]
"""Confusion matrix: ``{"labels": [K names], "counts": [K lists of K counts]}``, the true class in rows."""


@dataclass
class _Part:
    """Columns of a part, and the metrics computed from them."""

    columns: _Columns
    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    of_image: dict[str, FloatArray] = field(default_factory=dict)
    """By metric, its value for each image (N,), NaN where the label is unknown; group metrics are means of these."""
    own_bins: tuple[IntArray, IntArray, int] | None = None
    """True and predicted bin (N,) in the trial's own bins, -1 where the age is unknown, and the number of bins."""


class PartMetrics:
    """Accumulator of a part's predictions and metrics, named as in ``names.part_metric_names``.

    Args:
        encoding: Age encoding; None if age is not among the tasks.
        tasks: Predicted tasks.
        vocabulary: The data set's genders and races.
        label_kind: Kind of the age labels.
        schemes: Reporting schemes that the labels allow (``names.allowed_schemes``).
        brief: Compute only losses, accuracies and the age error, and no tables, as for the training part.
        loss_weights: Factors of the tasks' losses in the total. None if they change between batches: the total is then
            the mean of the batches' totals.
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
        loss_weights: LossWeights | None = None,
    ) -> None:
        if ("age" in tasks) and encoding is None:
            raise ValueError(f"tasks {list(tasks)} without an age encoding: age metrics need one to decode years.")
        self._encoding = encoding if "age" in tasks else None
        self._tasks = tuple(tasks)
        self._classes = {"gender": vocabulary.genders, "race": vocabulary.races}
        self._label_kind = label_kind
        self._schemes = tuple(schemes)
        self._table_bins = Bins.from_spec(scheme) if (scheme := table_scheme(schemes)) is not None else None
        self._groups = group_classes(vocabulary, scheme)
        self._brief = brief
        self._loss_weights = loss_weights
        self._parts: defaultdict[str, list[Tensor]] = defaultdict(list)

    @torch.no_grad()
    def update(
        self, logits: Mapping[Task, Tensor], labels: Labels, losses: Mapping[Task, Tensor], total: Tensor
    ) -> None:
        """Add a batch, without copying to the host.

        Args:
            logits: Each task's outputs (B, outputs).
            labels: Labels of the batch, on the same device.
            losses: Each task's mean loss over the labels known in this batch, 0-d.
            total: The weighted sum of the losses, 0-d.
        """
        classes = self._encoding.other_classes(logits["age"]) if self._encoding is not None else {}
        self._add("loss", total.detach().view(1))
        self._add("loss_weight", torch.tensor([len(labels.age)]))
        for task in self._tasks:
            known = _known(task, labels)
            self._add(f"{task}_loss", losses[task].detach().view(1))
            self._add(f"{task}_loss_weight", known.sum().view(1))
            if task == "attributes":
                self._add("attributes", labels.attributes)
                self._add("attributes_predicted", logits[task] > 0)
            elif task != "age":
                self._add(f"{task}_predicted", classes[task] if task in classes else logits[task].argmax(dim=1))
                if not self._brief:
                    self._add(f"{task}_probabilities", logits[task].float().softmax(dim=1))
        for name in ("age", "age_low", "age_high", "gender", "race"):
            self._add(name, getattr(labels, name))
        if self._encoding is not None:
            self._add("age_predicted", self._encoding.years(logits["age"]))
            bin_index = self._encoding.bin_index(logits["age"])
            if bin_index is not None:
                self._add("bin_predicted", bin_index)
            if not self._brief:
                self._add_age_shares(self._encoding, logits["age"])
                for name, shares in self._encoding.extra_figures(logits["age"], labels).items():
                    self._add(f"extra/{name}", shares)

    def _add_age_shares(self, encoding: AgeEncoding, logits: Tensor) -> None:
        """Add the standard deviation of the ages' distribution, and the distribution itself over few bins."""
        shares = encoding.shares(logits)
        if shares is None or encoding.bins is None:
            return
        centers = torch.as_tensor(encoding.bins.centers, dtype=torch.float32, device=shares.device)
        off = centers - (shares * centers).sum(dim=1, keepdim=True)
        self._add("age_std", (shares * off.square()).sum(dim=1).sqrt())
        if encoding.bins.count <= MOST_BINS:
            self._add("age_probabilities", shares)

    def gather(self, gather: Callable[[Any], list[Any]]) -> None:
        """Add the batches that other processes collected, in the order in which batches were distributed.

        Args:
            gather: Returns the values of all processes, in the order of ranks.
        """
        own = {name: [part.cpu() for part in parts] for name, parts in self._parts.items()}
        everybodys = gather(own)
        names = dict.fromkeys(name for parts in everybodys for name in parts)
        self._parts.update({name: _interleaved([parts.get(name, []) for parts in everybodys]) for name in names})

    def compute(self) -> tuple[dict[str, float], dict[str, Table]]:
        """Return metrics and confusion matrices of all batches so far; undefined metrics are absent.

        A task's loss weights each batch by its number of known labels of that task. The total is the sum of these
        losses times ``loss_weights``; without ``loss_weights``, it weights each batch by its number of images.

        Raises:
            DivergedError: If a loss or an estimated age is not finite.
        """
        columns = {name: torch.cat(parts).cpu().numpy() for name, parts in self._parts.items()}
        part = _Part(columns)
        if not columns:
            return part.metrics, part.tables
        for name in ("loss", *(f"{task}_loss" for task in self._tasks)):
            part.metrics |= _mean_loss(name, columns)
        if self._loss_weights is not None:
            self._weigh_total(part, self._loss_weights)
        if self._encoding is not None:
            self._compute_age(part, self._encoding)
        for task in ("gender", "race"):
            if task in self._tasks:
                self._compute_classes(part, task)
        if "attributes" in self._tasks:
            self._compute_attributes(part)
        if not self._brief:
            self._compute_groups(part)
        return part.metrics, part.tables

    def predictions(self, sample_ids: Sequence[str]) -> Predictions:
        """Return the predictions for all images so far (N,), identified by ``sample_ids``."""
        columns = {name: torch.cat(parts).cpu().numpy() for name, parts in self._parts.items()}
        if len(columns["age"]) != len(sample_ids):
            raise ValueError(f"{len(sample_ids)} sample ids given for {len(columns['age'])} predicted images.")
        years = ("age_low", "age_high", "age_predicted", "age_std") if self._encoding is not None else ()
        bins, shares = None if self._encoding is None else self._encoding.bins, columns.get("age_probabilities")
        return Predictions(
            sample_ids=tuple(sample_ids),
            years={name: columns[name].astype(np.float32) for name in years if name in columns},
            classes={
                task: Classified(
                    tuple(classes),
                    columns[task],
                    columns[f"{task}_predicted"],
                    columns.get(f"{task}_probabilities"),
                )
                for task, classes in self._classes.items()
                if task in self._tasks
            },
            age_shares=None if bins is None or shares is None else AgeShares(bins.edges, shares),
        )

    def _weigh_total(self, part: _Part, weights: LossWeights) -> None:
        """Correct the mean of the batches' totals to the weighted sum of the tasks' losses.

        The difference comes from weighting a task's batches by known labels instead of images. It is exactly 0 if all
        labels are known.
        """
        images = part.columns["loss_weight"]
        known = [task for task in self._tasks if f"{task}_loss" in part.metrics]
        if not known:
            del part.metrics["loss"]
        for task in known:
            by_images = float(np.average(part.columns[f"{task}_loss"].astype(np.float64), weights=images))
            if (weight := getattr(weights, task)) > 0:
                part.metrics["loss"] += weight * (part.metrics[f"{task}_loss"] - by_images)

    def _compute_age(self, part: _Part, encoding: AgeEncoding) -> None:
        columns, metrics, tables, of_image = part.columns, part.metrics, part.tables, part.of_image
        known = ~np.isnan(columns["age"])
        if not known.any():
            return
        years = columns["age_predicted"][known].astype(np.float64)
        if not np.isfinite(years).all():
            raise DivergedError("an estimated age is not finite: the model's outputs have diverged.")
        low, high = (columns[name][known].astype(np.float64) for name in ("age_low", "age_high"))
        errors = range_distance(years, low, high)
        error_metric = ERROR_METRIC[self._label_kind]
        metrics[error_metric] = float(errors.mean())
        if self._brief:
            return
        of_image[error_metric] = _spread(errors, known)
        metrics["age_cs5"] = float((errors <= 5).mean())
        metrics["age_majority"] = _share_near_median(columns["age"][known])
        metrics["age_constancy"] = _share_near_median(years)
        for scheme in self._schemes:
            bins = Bins.from_spec(scheme)
            true, predicted = bins.index(low), bins.index(nearest_year(years))
            confusion = confusion_counts(true, predicted, bins.count)
            metrics[f"age_acc.{scheme}"] = accuracy(confusion)
            metrics[f"age_acc1off.{scheme}"] = accuracy(confusion, off_by=1)
            metrics[f"age_f1.{scheme}"] = macro_scores(confusion)["f1"]
            of_image[f"age_acc.{scheme}"] = _spread(true == predicted, known)
            if bins == self._table_bins:
                tables["age_confusion"] = _table(bins.labels, confusion)
        if encoding.bins is not None:
            true, predicted = encoding.bins.index(low), columns["bin_predicted"][known]
            own = confusion_counts(true, predicted, encoding.bins.count)
            metrics["age_acc"] = accuracy(own)
            metrics["age_f1"] = macro_scores(own)["f1"]
            of_image["age_acc"] = _spread(true == predicted, known)
            indices = [np.full(len(known), -1, dtype=np.int64) for _ in range(2)]
            for index, values in zip(indices, (true, predicted), strict=True):
                index[known] = values
            part.own_bins = (indices[0], indices[1], encoding.bins.count)
        for column, shares in columns.items():
            if column.startswith("extra/") and not np.isnan(shares).all():
                metrics[column.removeprefix("extra/")] = float(np.nanmean(shares, dtype=np.float64))

    def _compute_classes(self, part: _Part, task: str) -> None:
        columns, metrics = part.columns, part.metrics
        known = columns[task] >= 0
        if not known.any():
            return
        true, predicted = columns[task][known], columns[f"{task}_predicted"][known]
        classes = self._classes[task]
        confusion = confusion_counts(true, predicted, len(classes))
        metrics[f"{task}_acc"] = accuracy(confusion)
        if self._brief:
            return
        part.of_image[f"{task}_acc"] = _spread(true == predicted, known)
        metrics |= {f"{task}_{name}": value for name, value in macro_scores(confusion).items()}
        metrics[f"{task}_majority"] = float(confusion.sum(axis=1).max() / confusion.sum())
        metrics[f"{task}_constancy"] = float(confusion.sum(axis=0).max() / confusion.sum())
        part.tables[f"{task}_confusion"] = _table(classes, confusion)
        if task == "gender":  # two classes: the metric's name states the class of a score
            for name, scores in class_scores(confusion).items():
                by_class = zip(self._groups["gender"], scores, strict=True)
                metrics |= {f"gender_{name}.{gender}": float(score) for gender, score in by_class}

    def _compute_attributes(self, part: _Part) -> None:
        """Compute means over the attributes known of an image: S1-P1's "mean attribute accuracy"."""
        true, predicted = part.columns["attributes"], part.columns["attributes_predicted"]
        known = ~np.isnan(true)
        true, predicted, known = (each[:, known.any(axis=0)] for each in (true, predicted, known))
        if not true.size:
            return
        images = known.sum(axis=0)
        right = ((true == 1) == predicted) & known
        part.metrics["attributes_acc"] = float((right.sum(axis=0) / images).mean())
        if self._brief:
            return
        for name, having in (("majority", true == 1), ("constancy", predicted)):
            share = (having & known).sum(axis=0) / images
            part.metrics[f"attributes_{name}"] = float(np.maximum(share, 1 - share).mean())

    def _compute_groups(self, part: _Part) -> None:
        columns = part.columns
        part.metrics["images"] = float(len(columns["age"]))
        for by, groups in self._groups.items():
            index = columns[by] if by != "age" else self._age_group(columns)
            figures = grouped_figures(
                self._tasks,
                self._label_kind,
                by,
                binned=self._encoding is not None and self._encoding.bins is not None,
                scheme=table_scheme(self._schemes),
            )
            values = {figure: part.of_image[figure] for figure in figures if figure in part.of_image}
            part.metrics |= group_figures(values, by, index, groups)
            if by != "age" and part.own_bins is not None:
                part.metrics |= group_f1(*part.own_bins, by=by, index=index, groups=groups)

    def _age_group(self, columns: _Columns) -> IntArray:
        """Return the bin of each image's age in the table's scheme (N,), -1 where the age is unknown."""
        assert self._table_bins is not None, "without a scheme there are no age groups"
        known = ~np.isnan(columns["age"])
        group = np.full(len(known), -1, dtype=np.int64)
        group[known] = self._table_bins.index(columns["age_low"][known])
        return group

    def _add(self, column: str, values: Tensor) -> None:
        self._parts[column].append(values)


def _interleaved(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return batches in their original order, given each process's share in the order of ranks."""
    longest = max(map(len, parts), default=0)
    return [part[index] for index in range(longest) for part in parts if index < len(part)]


def _known(task: Task, labels: Labels) -> Tensor:
    """Return which labels of a task are known (B,), for attributes (B, A)."""
    if task == "age":
        return ~torch.isnan(labels.age)
    if task == "attributes":
        return ~torch.isnan(labels.attributes)
    known: Tensor = getattr(labels, task) >= 0
    return known


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


def _spread(values: NDArray[Any], known: NDArray[np.bool_]) -> FloatArray:
    """Return the values of the images where ``known`` as values of all images (N,), NaN for the others."""
    spread = np.full(len(known), np.nan)
    spread[known] = values
    return spread


def _share_near_median(years: NDArray[Any]) -> float:
    """Return the share of ages at most a year from their median."""
    return float((np.abs(years - np.median(years)) <= 1).mean())
