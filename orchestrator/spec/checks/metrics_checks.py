"""Check the metrics named in a sweep file against those its trials report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agr_core.bins import SCHEMES, LabelKind
from agr_core.config import BinnedAge, EarlyStoppingConfig, PlateauSchedule, TrialConfig, drawn_by
from agr_core.evaluation.names import better_direction, fair_metrics, listed, metric_names, own_bin_metrics
from agr_core.objective import Direction, Objective
from agr_core.registry import did_you_mean
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.source import DocPath, Source
from orchestrator.spec.space import Proposal

_OTHER: dict[Direction, Direction] = {"minimize": "maximize", "maximize": "minimize"}


_NOT_IN_LOSS = {"decode", "output_weights"}
"""Fields of an age encoding that do not affect evaluation losses."""


def reported(config: TrialConfig) -> frozenset[str]:
    """Return every metric that a trial of ``config`` can report, as far as known before its data is read."""
    return metric_names(config, _label_kind(config))


def watched(config: TrialConfig) -> Iterator[tuple[tuple[str, ...], str, Direction]]:
    """Yield the metrics that the training itself monitors: path in the configuration, name, direction."""
    if isinstance(config.schedule, PlateauSchedule):
        yield ("schedule", "metric"), config.schedule.metric, config.schedule.direction
    for number, phase in enumerate(config.loss.phases):
        if phase.once is not None:
            either = better_direction(phase.once.metric) or "maximize"  # monitored, not optimised
            yield ("loss", "phases", str(number), "once", "metric"), phase.once.metric, either
    if isinstance(config.early_stopping, EarlyStoppingConfig):
        yield ("early_stopping", "metric"), config.early_stopping.metric, config.early_stopping.direction


def refuse_unfit_objective(spec: SweepSpec, proposals: Sequence[Proposal], source: Source) -> None:
    """Note a metric of the objective or of ``keep`` that trials do not report, and one that does not compare them."""
    # Without a valid configuration, a metric may still be one that no trial can report.
    configs = [proposal.config for proposal in proposals] or [TrialConfig()]
    names = [reported(config) for config in configs]
    for path, metric, _ in _metrics(spec):
        if path[0] == "objective" and metric in own_bin_metrics() and _varies_age(configs):
            fair = ", ".join(fair_metrics(_label_kind(configs[0])))
            message = f"{metric} depends on each trial's own age bins and encoding, which this sweep varies, so it "
            source.add(path, f"{message}does not compare trials. Comparable metrics: {fair}.")
        elif path[0] == "objective" and (varied := _varied_scales(metric, configs)):
            message = f"{metric} has a different scale for each value of {', '.join(varied)}, which this sweep varies"
            source.add(path, f"{message}, so it does not compare trials. Choose an error or a score.")
        else:
            _refuse_unreported(metric, path, configs, names, source)


def _metrics(spec: SweepSpec) -> Iterator[tuple[DocPath, str, Direction]]:
    """Yield path, name and direction of each metric of the objective and of ``keep``."""
    is_single = isinstance(spec.objective, Objective)
    objectives: dict[DocPath, Objective] = {
        ("objective",) if is_single else ("objective", index): objective
        for index, objective in enumerate(spec.objectives)
    }
    objectives |= {("keep", label): objective for label, objective in spec.keep.items()}
    for path, objective in objectives.items():
        for metric, weight in objective.weights.items():
            below = (metric,) if isinstance(objective.metric, dict) else ()
            direction = objective.direction if weight > 0 else _OTHER[objective.direction]
            yield (*path, "metric", *below), metric, direction


def _refuse_unreported(
    metric: str, path: DocPath, configs: Sequence[TrialConfig], names: Sequence[frozenset[str]], source: Source
) -> None:
    without = [config for config, reports in zip(configs, names, strict=True) if metric not in reports]
    if not metric.startswith("val/") or len(without) == len(configs):
        source.add(path, unknown_metric(metric, frozenset.union(*names)))
    elif without:
        example = f"age.encoding={without[0].age.encoding}, tasks={list(without[0].tasks)}"
        common = sorted(name for name in frozenset.intersection(*names) if name.startswith("val/"))
        message = f"{metric} is not reported by some trials, such as one with {example}."
        source.add(path, f"{message} Reported by all: {listed(common)}.")


def unknown_metric(metric: str, reports: Iterable[str]) -> str:
    """Return the message that ``metric`` is not among the validation metrics of ``reports``."""
    names = sorted(name for name in reports if name.startswith("val/"))
    return f"{metric!r} is not a validation metric of a trial.{did_you_mean(metric, names)} Known: {listed(names)}."


def direction_warnings(spec: SweepSpec, proposals: Iterable[Proposal]) -> list[str]:
    """Warn about metrics with the wrong direction."""
    looked_at = {(".".join(map(str, path[: path.index("metric")])), *rest): None for path, *rest in _metrics(spec)}
    for proposal in proposals:
        looked_at |= {(path[0], metric, direction): None for path, metric, direction in watched(proposal.config)}
    warnings = []
    for where, metric, direction in looked_at:
        better = better_direction(metric)
        if better is not None and better != direction:
            warnings.append(
                f"{where} has direction {direction} for {metric}, of which "
                f"{'less' if better == 'minimize' else 'more'} is better; write direction: {better}, unless this is "
                "intended."
            )
    return warnings


def _label_kind(config: TrialConfig) -> LabelKind | None:
    """Return the kind of labels: known for drawn faces, unknown for a file or bucket before it is read."""
    if config.data.sources or drawn_by(config.data.source, config.data.synthetic) is None:
        return None
    return "range" if config.data.synthetic.like in ("adience", "fairface") else "exact"


def _varied_scales(metric: str, configs: Iterable[TrialConfig]) -> list[str]:
    """Return the varying settings on which the scale of a loss depends."""
    values: dict[str, set[str]] = {}
    for config in configs:
        scales: dict[str, object] = {}
        if metric in ("val/age_loss", "val/loss") and "age" in config.tasks:
            scales |= {f"age.{name}": value for name, value in config.age.model_dump(exclude=_NOT_IN_LOSS).items()}
        if metric == "val/loss":
            scales |= {"tasks": sorted(config.tasks)}
            scales |= {f"loss.weights.{task}": getattr(config.loss.weights, task) for task in config.tasks}
        for name, value in scales.items():
            values.setdefault(name, set()).add(repr(value))
    return [name for name, seen in values.items() if len(seen) > 1]


def _varies_age(configs: Iterable[TrialConfig]) -> bool:
    seen = set()
    for config in configs:
        if "age" in config.tasks:
            bins = config.age.bins if isinstance(config.age, BinnedAge) else None
            seen.add((config.age.encoding, SCHEMES.get(bins, ()) if isinstance(bins, str) else bins))
    return len(seen) > 1
