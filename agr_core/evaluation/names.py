"""Names of the metrics that a trial reports, known before training. Imports neither torch nor pandas.

``metrics.PartMetrics`` computes exactly these; ``docs/labels.md`` defines each one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from agr_core.bins import MAX_AGE, Bins, LabelKind, schemes_for_ranges
from agr_core.config import BinnedAge, CascadeConfig, Task, TrialConfig, extra_age_metrics
from agr_core.labels.attributes import ANY_VOCABULARY, Vocabulary
from agr_core.objective import Direction, Objective, objective_names

REPORTING_SCHEMES: tuple[str, ...] = ("utk7", "utk7a", "utk4", "adience8", "fairface9")
"""Bin schemes in which every trial is scored, independent of its own bins."""

TIME_METRICS: tuple[str, ...] = ("time/epoch_s", "time/images_per_s")

MAIN_MEMORY = "memory/main_gb"
"""Main memory private to the processes of a trial, summed, in GB of 10^9 bytes."""

GPU_MEMORY = "memory/gpu_gb"
"""Peak memory of the trial on a GPU so far, in GB; with several GPUs, the largest."""

LEARNING_RATE = "train/lr"
"""Learning rate of an epoch's last step."""

TABLE_SCHEME = "utk7"
"""Preferred scheme of the age confusion matrix; if the labels do not allow it, the first allowed one is used."""

ERROR_METRIC: dict[LabelKind, str] = {"exact": "age_mae", "range": "age_interval_mae"}
"""Name of the mean age error (years), by kind of label."""

_LESS_IS_BETTER = ("loss", "mae", "constancy", "gap")
_MORE_IS_BETTER = ("acc", "acc1off", "f1", "precision", "recall", "cs5", "vector", "head")


def allowed_schemes(label_kind: LabelKind, ranges: Collection[tuple[float, float]]) -> tuple[str, ...]:
    """Return the reporting schemes for a data set: all for exact ages, else those that cut no label range.

    Args:
        label_kind: Kind of the age labels.
        ranges: Distinct (low, high) of the age labels, both ends included.
    """
    return REPORTING_SCHEMES if label_kind == "exact" else schemes_for_ranges(ranges, REPORTING_SCHEMES)


def table_scheme(schemes: Sequence[str]) -> str | None:
    """Return the allowed scheme for the age confusion matrix and age groups; None if none is allowed."""
    return TABLE_SCHEME if TABLE_SCHEME in schemes else next(iter(schemes), None)


def group_classes(vocabulary: Vocabulary, scheme: str | None) -> dict[str, tuple[str, ...]]:
    """Return the groupings of images and the names of their groups, in the order of group indices.

    Class names of a vocabulary are kept; characters that MLflow does not accept in metric names become ``_``. An age
    group is named by its first and last year; the last one is 66-116.

    Args:
        vocabulary: Genders and races of the data set; an empty list means no such grouping.
        scheme: Scheme of the age groups; None: no age groups.
    """
    groups = {"race": _plain(vocabulary.races), "gender": _plain(vocabulary.genders)}
    if scheme is not None:
        bins = Bins.from_spec(scheme)
        groups["age"] = (*bins.labels[:-1], f"{bins.edges[-1]}-{MAX_AGE}")
    return {by: names for by, names in groups.items() if names}


def grouped_figures(
    tasks: Collection[Task], label_kind: LabelKind, by: str, *, binned: bool, scheme: str | None
) -> tuple[str, ...]:
    """Return the metrics reported per group; a grouping by a task's own classes omits its accuracy (recall)."""
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
    """Return the metric names of a part, without its prefix, assuming that every group has an image.

    Args:
        tasks: Predicted tasks.
        label_kind: Kind of the age labels.
        binned: Whether the age encoding has bins.
        extra: Metrics specific to this age encoding.
        schemes: Reporting schemes that the labels allow.
        vocabulary: The data set's genders and races.
        brief: Only losses, accuracies and the age error, as for the training part.
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
        if "age" in tasks and binned and by != "age":
            names |= {f"age_f1.mean_by_{by}", *(f"age_f1.by_{by}.{group}" for group in groups)}
    return frozenset(names)


def metric_names(
    config: TrialConfig,
    label_kind: LabelKind | None,
    *,
    schemes: Sequence[str] = REPORTING_SCHEMES,
    vocabulary: Vocabulary | None = None,
) -> frozenset[str]:
    """Return every metric that an epoch can report, as ``train/…``, ``val/…``, ``time/…`` or ``memory/…``.

    Args:
        config: The trial.
        label_kind: Kind of the data's age labels; None if the data is not known: names of both kinds.
        schemes: Reporting schemes that the labels allow; for ranges, any scheme is possible before the data is read.
        vocabulary: Genders and races of the data; None if the data is not known: those of all data sets.
    """
    by = config.model.by if isinstance(config.model, CascadeConfig) else None
    binned = isinstance(config.age, BinnedAge)
    return _metric_names(
        config.tasks, label_kind, binned, tuple(config.age.extra_metrics), by, tuple(schemes), vocabulary
    ).union(_learned_weights(config))


@lru_cache(maxsize=256)  # checking a sweep file calls it a thousand times for a few values
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
        # Age groups use the first scheme that the labels allow; until the data is read, any scheme is possible.
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
            figures = part_metric_names(
                experts, kind, binned=binned, extra=extra, schemes=schemes, vocabulary=vocabulary or ANY_VOCABULARY
            )
            brief = part_metric_names(experts, kind, binned=binned, schemes=schemes, brief=True)
            names |= {"val/routing_acc", *(f"val/{name}" for name in oracle_names({*brief, *figures}, by).values())}
    return frozenset(names)


def _learned_weights(config: TrialConfig) -> tuple[str, ...]:
    """Return the names of the learned task weights, if weights are learned."""
    if config.loss.balance != "uncertainty":
        return ()
    return tuple(f"train/weight.{task}" for task in config.tasks if getattr(config.loss.weights, task) > 0)


def oracle_names(figures: Iterable[str], by: str) -> dict[str, str]:
    """Return, by metric, its name under a cascade's true routing: errors and accuracies of all images.

    Accuracies and own-bin F1 of the groups, ``.by_<by>.``, are included: they are those of each expert on its own
    images.
    """

    def is_told(figure: str) -> bool:
        of_all, _, group = figure.partition(f".by_{by}.")
        if not group and "." in figure:
            return False
        word = of_all.rsplit("_", 1)[-1]
        return word in ("mae", "acc", "f1") and "." not in of_all

    return {figure: f"oracle_{figure}" for figure in sorted(figures) if is_told(figure)}


def own_bin_metrics() -> frozenset[str]:
    """Return the metrics whose scale depends on the trial's own age bins or encoding.

    They cannot be the objective of a sweep that varies bins or encoding. The total loss is included because it contains
    the age loss.
    """
    own = {"val/age_acc", "val/age_f1", *(f"val/{name}" for name in extra_age_metrics())}
    for by, groups in group_classes(ANY_VOCABULARY, None).items():
        own |= {f"val/age_acc.gap_by_{by}", f"val/age_f1.mean_by_{by}"}
        own |= {f"val/{figure}.by_{by}.{group}" for figure in ("age_acc", "age_f1") for group in groups}
    return frozenset(own | {f"{part}/{name}" for part in ("train", "val") for name in ("age_loss", "loss")})


def fair_metrics(label_kind: LabelKind | None = None) -> tuple[str, ...]:
    """Return the age metrics that compare trials across bins and encodings, the best known first.

    Args:
        label_kind: Kind of the data's age labels; None if the data is not known.
    """
    kinds: tuple[LabelKind, ...] = ("exact", "range") if label_kind is None else (label_kind,)
    errors = [f"val/{ERROR_METRIC[kind]}" for kind in kinds]
    return (*errors, "val/age_cs5", *(f"val/age_f1.{scheme}" for scheme in REPORTING_SCHEMES))


def headline_metrics(config: TrialConfig, objectives: Sequence[Objective]) -> tuple[str, ...]:
    """Return about fifteen metrics that are plotted in the tracker, the objectives and their parts first.

    A data set has either ``age_mae`` or ``age_interval_mae``, and the schemes that its labels allow.
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


def listed(names: Iterable[str]) -> str:
    """Join names, with one entry for all reporting schemes and one for all groups."""
    return ", ".join(dict.fromkeys(_general(name) for name in names))


def _general(name: str) -> str:
    words = name.split(".")
    if len(words) > 1 and words[-2].startswith("by_"):
        return ".".join([words[0], words[-2], "<class>"])
    if words[-1].startswith(("gap_by_", "mean_by_")):
        return f"{words[0]}.{words[-1]}"
    if words[0].startswith("val/gender_") and len(words) == 2:
        return f"{words[0]}.<class>"
    return ".".join([words[0], *("<scheme>" for _ in words[1:])])


def better_direction(metric: str) -> Direction | None:
    """Return whether a metric is minimized or maximized; None for counts and unknown metrics.

    Losses, errors, gaps between groups, seconds and gigabytes are minimized.
    """
    figure, *variants = metric.rsplit("/", 1)[-1].split(".")
    word = "gap" if variants and variants[-1].startswith("gap_by_") else figure.rsplit("_", 1)[-1]
    if metric == "time/images_per_s":
        return "maximize"
    if word in _LESS_IS_BETTER or (is_of_the_machine(metric) and word in ("s", "gb")):
        return "minimize"
    return "maximize" if word in _MORE_IS_BETTER else None


def is_of_the_machine(metric: str) -> bool:
    """Return whether a metric measures the machine (seconds, gigabytes) and so differs between equal runs."""
    return metric.startswith(("time/", "memory/"))


def is_of_one_group(metric: str) -> bool:
    """Return whether a metric belongs to one group of people, such as ``val/age_mae.by_race.White``."""
    return ".by_" in metric


def _plain(classes: Sequence[str]) -> tuple[str, ...]:
    """Return class names without characters that MLflow rejects in metric names and without the separator dot."""
    return tuple(re.sub(r"[^A-Za-z0-9_\-: ]", "_", name) for name in classes)
