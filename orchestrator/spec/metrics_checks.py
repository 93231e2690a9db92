"""Checks of the metrics a sweep file names, against those its trials report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agr_core.config import EarlyStoppingConfig, PlateauSchedule, TrialConfig
from agr_core.evaluation.names import LabelKind, fair_metrics, metric_names, own_bin_metrics
from agr_core.labels.bins import SCHEMES
from agr_core.objective import Direction
from agr_core.registry import did_you_mean
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.source import Source
from orchestrator.spec.space import Proposal

_ERRORS = ("loss", "mae")
_SCORES = ("acc", "acc1off", "f1", "precision", "recall", "cs5")


def reported(config: TrialConfig) -> frozenset[str]:
    """Every metric a trial of ``config`` can report, as far as that is known before its data is read."""
    return metric_names(config, _label_kind(config))


def watched(config: TrialConfig) -> Iterator[tuple[tuple[str, ...], str, Direction]]:
    """Metrics the training itself looks at: path in the configuration, name, direction."""
    if isinstance(config.schedule, PlateauSchedule):
        yield ("schedule", "metric"), config.schedule.metric, config.schedule.direction
    if isinstance(config.early_stopping, EarlyStoppingConfig):
        yield ("early_stopping", "metric"), config.early_stopping.metric, config.early_stopping.direction


def refuse_unfit_objective(spec: SweepSpec, proposals: Sequence[Proposal], source: Source) -> None:
    """Note an objective that trials do not report, or that does not compare them."""
    metric, path = spec.objective.metric, ("objective", "metric")
    configs = [proposal.config for proposal in proposals]
    names = [reported(config) for config in configs]
    if not names:
        return
    known = sorted(name for name in frozenset.union(*names) if name.startswith("val/"))
    without = [config for config, reports in zip(configs, names, strict=True) if metric not in reports]
    if metric in own_bin_metrics() and _varies_age(configs):
        fair = ", ".join(fair_metrics(_label_kind(configs[0])))
        source.add(
            path,
            f"{metric} depends on each trial's own age bins and encoding, which this sweep varies, so it compares "
            f"nothing. Fair ones: {fair}.",
        )
    elif metric not in known:
        source.add(
            path, f"{metric!r} is not what a trial reports.{did_you_mean(metric, known)} Known: {', '.join(known)}."
        )
    elif without:
        source.add(
            path,
            f"{metric} is not reported by some trials, such as one with age.encoding={without[0].age.encoding}, "
            f"tasks={list(without[0].tasks)}. Reported by all: "
            f"{', '.join(name for name in known if all(name in reports for reports in names))}.",
        )


def direction_warnings(spec: SweepSpec, proposals: Iterable[Proposal]) -> list[str]:
    """Metrics that are looked at the wrong way round."""
    looked_at = {("objective", spec.objective.metric, spec.objective.direction): None}
    for proposal in proposals:
        looked_at |= {(path[0], metric, direction): None for path, metric, direction in watched(proposal.config)}
    warnings = []
    for where, metric, direction in looked_at:
        better = _better(metric)
        if better is not None and better != direction:
            warnings.append(
                f"{where} would {direction} {metric}, of which {'less' if better == 'minimize' else 'more'} is better; "
                f"write direction: {better}, unless you mean it."
            )
    return warnings


def _label_kind(config: TrialConfig) -> LabelKind | None:
    """Drawn faces have exact ages; what a file or bucket holds is not known before it is read."""
    return "exact" if config.data.source == "synthetic" else None


def _varies_age(configs: Iterable[TrialConfig]) -> bool:
    seen = set()
    for config in configs:
        if "age" in config.tasks:
            bins = getattr(config.age, "bins", None)
            seen.add((config.age.encoding, SCHEMES.get(bins, ()) if isinstance(bins, str) else bins))
    return len(seen) > 1


def _better(metric: str) -> Direction | None:
    figure = metric.split("/")[-1].split(".")[0].split("_")[-1]
    return "minimize" if figure in _ERRORS else "maximize" if figure in _SCORES else None
