"""Names of the metrics a trial reports, known before anything is trained. Imports neither torch nor pandas.

``metrics.PartMetrics`` yields exactly these; ``docs/labels.md`` says what each one means.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Literal

from agr_core.config import EXTRA_AGE_METRICS, BinnedAge, CascadeConfig, Task, TrialConfig
from agr_core.labels.attributes import ANY_VOCABULARY, Vocabulary
from agr_core.labels.bins import MAX_AGE, Bins, schemes_for_ranges
from agr_core.objective import Direction, Objective, objective_names

LabelKind = Literal["exact", "range"]
"""Whether a data set's age labels are years, or ranges such as 25-32."""

REPORTING_SCHEMES: tuple[str, ...] = ("utk7", "utk7a", "utk4", "adience8", "fairface9")
"""Schemes in which every trial is scored, whatever bins it trains on."""

TIME_METRICS: tuple[str, ...] = ("time/epoch_s", "time/images_per_s")

MAIN_MEMORY = "memory/main_gb"
"""Main memory (GB of 10^9 bytes) that the processes of a trial have to themselves, all together."""

GPU_MEMORY = "memory/gpu_gb"
"""The most memory (GB) that the trial held on a GPU, so far; of several GPUs on the one where it held most."""

LEARNING_RATE = "train/lr"
"""The learning rate of an epoch's last step."""

TABLE_SCHEME = "utk7"
"""Scheme of the age confusion matrix; the first one allowed where the labels do not allow it."""

ERROR_METRIC: dict[LabelKind, str] = {"exact": "age_mae", "range": "age_interval_mae"}
"""The mean age error in years, by kind of label."""

_LESS_IS_BETTER = ("loss", "mae", "constancy", "gap")
_MORE_IS_BETTER = ("acc", "acc1off", "f1", "precision", "recall", "cs5", "vector", "head")


def allowed_schemes(label_kind: LabelKind, ranges: Collection[tuple[float, float]]) -> tuple[str, ...]:
    """The reporting schemes for a data set: all of them on exact ages, those that cut no label range otherwise.

    Args:
        label_kind: Kind of the age labels.
        ranges: Distinct (low, high) of the age labels, both ends included.
    """
    return REPORTING_SCHEMES if label_kind == "exact" else schemes_for_ranges(ranges, REPORTING_SCHEMES)


def table_scheme(schemes: Sequence[str]) -> str | None:
    """Scheme of the age confusion matrix and of the age groups, among those the labels allow; None without any."""
    return TABLE_SCHEME if TABLE_SCHEME in schemes else next(iter(schemes), None)


def group_classes(vocabulary: Vocabulary, scheme: str | None) -> dict[str, tuple[str, ...]]:
    """By what images are grouped, and the names of the groups in the order of their indices.

    A vocabulary's classes keep their names as far as MLflow takes them in the name of a metric, other characters become
    ``_``; an age group is named by its first and last year, the last one 66-116.

    Args:
        vocabulary: The data set's genders and races; without any there is no such grouping.
        scheme: The scheme of the age groups; None: no age groups.
    """
    groups = {"race": _plain(vocabulary.races), "gender": _plain(vocabulary.genders)}
    if scheme is not None:
        bins = Bins.from_spec(scheme)
        groups["age"] = (*bins.labels[:-1], f"{bins.edges[-1]}-{MAX_AGE}")
    return {by: names for by, names in groups.items() if names}


def grouped_figures(
    tasks: Collection[Task], label_kind: LabelKind, by: str, *, binned: bool, scheme: str | None
) -> tuple[str, ...]:
    """The figures that are reported for each group; no accuracy by its own classes, which would be their recall."""
    figures = []
    if "age" in tasks:
        figures.append(ERROR_METRIC[label_kind])
        if by != "age" and scheme is not None:
            figures.append(f"age_acc.{scheme}")
        if by != "age" and binned:
            figures.append("age_acc")
    return (*figures, *(f"{task}_acc" for task in ("gender", "race") if task in tasks and task != by))


def part_metric_names(
    tasks: Collection[Task],
    label_kind: LabelKind,
    *,
    binned: bool,
    extra: Collection[str] = (),
    schemes: Sequence[str] = REPORTING_SCHEMES,
    vocabulary: Vocabulary = ANY_VOCABULARY,
    brief: bool = False,
) -> frozenset[str]:
    """What a part (train, val, test) yields, without the part's prefix, if every group has an image.

    Args:
        tasks: What is predicted.
        label_kind: Kind of the age labels.
        binned: Whether the age encoding has bins.
        extra: Figures that only this age encoding has.
        schemes: Reporting schemes that the labels allow.
        vocabulary: The data set's genders and races.
        brief: Only losses, accuracies and the age error: what the training part reports.
    """
    names = {"loss", *(f"{task}_loss" for task in tasks)}
    for task in ("gender", "race"):
        if task in tasks:
            names |= {f"{task}_{figure}" for figure in (("acc",) if brief else ("acc", "precision", "recall", "f1"))}
    if "attributes" in tasks:
        names.add("attributes_acc")
    if "age" in tasks:
        names.add(ERROR_METRIC[label_kind])
    if brief:
        return frozenset(names)
    if "age" in tasks:
        names.add("age_cs5")
        names |= {f"age_{figure}.{scheme}" for figure in ("acc", "acc1off", "f1") for scheme in schemes}
        if binned:
            names |= {"age_acc", "age_f1"}
        names.update(extra)
    names |= {"images", *(f"{task}_{figure}" for task in tasks for figure in ("majority", "constancy"))}
    if "gender" in tasks:
        genders = _plain(vocabulary.genders)
        names |= {f"gender_{figure}.{name}" for figure in ("precision", "recall", "f1") for name in genders}
    scheme = table_scheme(schemes)
    for by, groups in group_classes(vocabulary, scheme).items():
        names |= {f"images.by_{by}.{group}" for group in groups}
        for figure in grouped_figures(tasks, label_kind, by, binned=binned, scheme=scheme):
            names |= {f"{figure}.gap_by_{by}", *(f"{figure}.by_{by}.{group}" for group in groups)}
    return frozenset(names)


def metric_names(
    config: TrialConfig,
    label_kind: LabelKind | None,
    *,
    schemes: Sequence[str] = REPORTING_SCHEMES,
    vocabulary: Vocabulary | None = None,
) -> frozenset[str]:
    """Every metric an epoch of this trial can report, with its prefix: ``train/``, ``val/``, ``time/`` or ``memory/``.

    Args:
        config: The trial.
        label_kind: Kind of the data's age labels; None where the data has not been looked at: the names of both kinds.
        schemes: Reporting schemes that the labels allow; on ranges, before the data is read, any of them may be.
        vocabulary: The data's genders and races; None where the data has not been looked at: those of all data sets.
    """
    by = config.model.by if isinstance(config.model, CascadeConfig) else None
    binned = isinstance(config.age, BinnedAge)
    return _metric_names(
        config.tasks, label_kind, binned, tuple(config.age.extra_metrics), by, tuple(schemes), vocabulary
    ).union(_learned_weights(config))


@lru_cache(maxsize=256)  # the check of a sweep file asks a thousand times for a few of them
def _metric_names(
    tasks: tuple[Task, ...],
    label_kind: LabelKind | None,
    binned: bool,
    extra: tuple[str, ...],
    by: Task | None,
    schemes: tuple[str, ...],
    vocabulary: Vocabulary | None,
) -> frozenset[str]:
    names = {*TIME_METRICS, MAIN_MEMORY, GPU_MEMORY, LEARNING_RATE}
    kinds: tuple[LabelKind, ...] = ("exact", "range") if label_kind is None else (label_kind,)
    for kind in kinds:
        train = part_metric_names(tasks, kind, binned=binned, schemes=schemes, brief=True)
        names |= {f"train/{name}" for name in train}
        # The scheme of the groups is the first that the labels allow, which is known once they were looked at.
        starts = range(len(schemes)) if vocabulary is None and kind == "range" else (0,)
        for start in starts:
            val = part_metric_names(
                tasks,
                kind,
                binned=binned,
                extra=extra,
                schemes=schemes if start == 0 else [name for name in schemes[start:] if name != TABLE_SCHEME],
                vocabulary=vocabulary or ANY_VOCABULARY,
            )
            names |= {f"val/{name}" for name in val}
        if by is not None:
            experts = [task for task in tasks if task != by]
            brief = part_metric_names(experts, kind, binned=binned, schemes=schemes, brief=True)
            names |= {"val/routing_acc", *(f"val/{name}" for name in oracle_names(brief).values())}
    return frozenset(names)


def _learned_weights(config: TrialConfig) -> tuple[str, ...]:
    """The factor of each task where factors are learned."""
    if config.loss.balance != "uncertainty":
        return ()
    return tuple(f"train/weight.{task}" for task in config.tasks if getattr(config.loss.weights, task) > 0)


def oracle_names(figures: Iterable[str]) -> dict[str, str]:
    """By figure, its name where a cascade's images are routed by their true group; losses have none."""
    return {figure: f"oracle_{figure}" for figure in figures if figure.rsplit("_", 1)[-1] != "loss"}


def own_bin_metrics() -> frozenset[str]:
    """Metrics whose scale depends on the trial's own age bins or encoding: no objective for a sweep that varies them.

    The total loss is among them because the age loss is part of it.
    """
    own = {"val/age_acc", "val/age_f1", *(f"val/{name}" for name in EXTRA_AGE_METRICS)}
    for by, groups in group_classes(ANY_VOCABULARY, None).items():
        own |= {f"val/age_acc.gap_by_{by}", *(f"val/age_acc.by_{by}.{group}" for group in groups)}
    return frozenset(own | {f"{part}/{name}" for part in ("train", "val") for name in ("age_loss", "loss")})


def fair_metrics(label_kind: LabelKind | None = None) -> tuple[str, ...]:
    """The age metrics that compare trials of any bins and encoding, the best known first.

    Args:
        label_kind: Kind of the data's age labels; None where the data has not been looked at.
    """
    kinds: tuple[LabelKind, ...] = ("exact", "range") if label_kind is None else (label_kind,)
    errors = [f"val/{ERROR_METRIC[kind]}" for kind in kinds]
    return (*errors, "val/age_cs5", *(f"val/age_f1.{scheme}" for scheme in REPORTING_SCHEMES))


def headline_metrics(config: TrialConfig, objectives: Sequence[Objective]) -> tuple[str, ...]:
    """About fifteen metrics of an epoch that are worth a curve in the tracker, the objectives and their parts first.

    On a given data set one of ``age_mae`` and ``age_interval_mae`` occurs, and the schemes its labels allow.
    """
    names = [
        *objective_names(objectives),
        *(name for objective in objectives for name in objective.weights),
        "train/loss",
        "val/loss",
        *(f"val/{task}_loss" for task in config.tasks),
    ]
    if "age" in config.tasks:
        names += [f"val/{name}" for name in ERROR_METRIC.values()]
        names += [f"val/{name}.gap_by_race" for name in ERROR_METRIC.values()]
        names += ["val/age_cs5", *(f"val/age_f1.{scheme}" for scheme in ("utk7", "adience8", "fairface9"))]
        if isinstance(config.age, BinnedAge):
            names.append("val/age_acc")
        names += [f"val/{name}" for name in config.age.extra_metrics[:1]]
    for task in ("gender", "race"):
        if task in config.tasks:
            names += [f"val/{task}_acc", f"val/{task}_f1"]
    if "attributes" in config.tasks:
        names.append("val/attributes_acc")
    if config.schedule.name != "constant":
        names.append(LEARNING_RATE)
    return tuple(dict.fromkeys([*names, *_learned_weights(config), "time/epoch_s"]))


def better_direction(metric: str) -> Direction | None:
    """Whether less or more of a metric is better; None for counts, and for what is not ours.

    Of losses, errors, gaps between groups, seconds and gigabytes less is better.
    """
    figure, *variants = metric.rsplit("/", 1)[-1].split(".")
    word = "gap" if variants and variants[-1].startswith("gap_by_") else figure.rsplit("_", 1)[-1]
    if metric == "time/images_per_s":
        return "maximize"
    if word in _LESS_IS_BETTER or (is_of_the_machine(metric) and word in ("s", "gb")):
        return "minimize"
    return "maximize" if word in _MORE_IS_BETTER else None


def is_of_the_machine(metric: str) -> bool:
    """Whether a metric tells of the machine at work (seconds, gigabytes) and not of the model, so that runs differ."""
    return metric.startswith(("time/", "memory/"))


def is_of_one_group(metric: str) -> bool:
    """Whether a metric is the figure of one group of people, such as ``val/age_mae.by_race.White``."""
    return ".by_" in metric


def _plain(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names without what MLflow refuses in the name of a metric, and without the dot that parts ours."""
    return tuple(re.sub(r"[^A-Za-z0-9_\-: ]", "_", name) for name in classes)
