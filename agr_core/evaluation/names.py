"""Names of the metrics a trial reports, known before anything is trained. Imports neither torch nor pandas.

``metrics.PartMetrics`` yields exactly these; ``docs/labels.md`` says what each one means.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from agr_core.config import Task, TrialConfig
from agr_core.labels.bins import schemes_for_ranges

LabelKind = Literal["exact", "range"]
"""Whether a data set's age labels are years, or ranges such as 25-32."""

REPORTING_SCHEMES: tuple[str, ...] = ("utk7", "utk7a", "utk4", "adience8", "fairface9")
"""Schemes in which every trial is scored, whatever bins it trains on."""

TIME_METRICS: tuple[str, ...] = ("time/epoch_s", "time/images_per_s")

TABLE_SCHEME = "utk7"
"""Scheme of the age confusion matrix; the first one allowed where the labels do not allow it."""

ERROR_METRIC: dict[LabelKind, str] = {"exact": "age_mae", "range": "age_interval_mae"}
"""The mean age error in years, by kind of label."""


def allowed_schemes(label_kind: LabelKind, ranges: Collection[tuple[float, float]]) -> tuple[str, ...]:
    """The reporting schemes for a data set: all of them on exact ages, those that cut no label range otherwise.

    Args:
        label_kind: Kind of the age labels.
        ranges: Distinct (low, high) of the age labels, both ends included.
    """
    return REPORTING_SCHEMES if label_kind == "exact" else schemes_for_ranges(ranges, REPORTING_SCHEMES)


def part_metric_names(
    tasks: Collection[Task],
    label_kind: LabelKind,
    *,
    binned: bool,
    schemes: Sequence[str] = REPORTING_SCHEMES,
    brief: bool = False,
) -> frozenset[str]:
    """What a part (train, val, test) yields, without the part's prefix.

    Args:
        tasks: What is predicted.
        label_kind: Kind of the age labels.
        binned: Whether the age encoding has bins.
        schemes: Reporting schemes that the labels allow.
        brief: Only losses, accuracies and the age error: what the training part reports.
    """
    names = {"loss", *(f"{task}_loss" for task in tasks)}
    for task in ("gender", "race"):
        if task in tasks:
            names |= {f"{task}_{figure}" for figure in (("acc",) if brief else ("acc", "precision", "recall", "f1"))}
    if "age" in tasks:
        names.add(ERROR_METRIC[label_kind])
        if not brief:
            names.add("age_cs5")
            names |= {f"age_{figure}.{scheme}" for figure in ("acc", "acc1off", "f1") for scheme in schemes}
            if binned:
                names |= {"age_acc", "age_f1"}
    return frozenset(names)


def metric_names(
    config: TrialConfig, label_kind: LabelKind | None, *, schemes: Sequence[str] = REPORTING_SCHEMES
) -> frozenset[str]:
    """Every metric an epoch of this trial can report, with its prefix: ``train/``, ``val/`` or ``time/``.

    Args:
        config: The trial.
        label_kind: Kind of the data's age labels; None where the data has not been looked at: the names of both kinds.
        schemes: Reporting schemes that the labels allow; on ranges, before the data is read, any of them may be.
    """
    names = set(TIME_METRICS)
    binned = config.age.encoding != "regression"
    kinds: tuple[LabelKind, ...] = ("exact", "range") if label_kind is None else (label_kind,)
    for kind in kinds:
        train = part_metric_names(config.tasks, kind, binned=binned, schemes=schemes, brief=True)
        val = part_metric_names(config.tasks, kind, binned=binned, schemes=schemes)
        names |= {f"train/{name}" for name in train} | {f"val/{name}" for name in val}
    return frozenset(names)


def own_bin_metrics() -> frozenset[str]:
    """Metrics whose scale depends on the trial's own age bins or encoding: no objective for a sweep that varies them.

    The total loss is among them because the age loss is part of it.
    """
    own = {"val/age_acc", "val/age_f1"}
    return frozenset(own | {f"{part}/{name}" for part in ("train", "val") for name in ("age_loss", "loss")})


def fair_metrics(label_kind: LabelKind | None = None) -> tuple[str, ...]:
    """The age metrics that compare trials of any bins and encoding, the best known first.

    Args:
        label_kind: Kind of the data's age labels; None where the data has not been looked at.
    """
    kinds: tuple[LabelKind, ...] = ("exact", "range") if label_kind is None else (label_kind,)
    errors = [f"val/{ERROR_METRIC[kind]}" for kind in kinds]
    return (*errors, "val/age_cs5", *(f"val/age_f1.{scheme}" for scheme in REPORTING_SCHEMES))


def headline_metrics(config: TrialConfig, objective_metric: str) -> tuple[str, ...]:
    """About fifteen metrics of an epoch that are worth a curve in the tracker, the objective first.

    On a given data set one of ``age_mae`` and ``age_interval_mae`` occurs, and the schemes its labels allow.
    """
    names = [objective_metric, "train/loss", "val/loss", *(f"val/{task}_loss" for task in config.tasks)]
    if "age" in config.tasks:
        names += [f"val/{name}" for name in ERROR_METRIC.values()]
        names += ["val/age_cs5", *(f"val/age_f1.{scheme}" for scheme in ("utk7", "adience8", "fairface9"))]
        if config.age.encoding != "regression":
            names.append("val/age_acc")
    for task in ("gender", "race"):
        if task in config.tasks:
            names += [f"val/{task}_acc", f"val/{task}_f1"]
    return tuple(dict.fromkeys([*names, "time/epoch_s"]))
