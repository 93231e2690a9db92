"""Metrics of a trial at the epochs of its kept weights, by their user-facing names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from statistics import fmean

from agr_core.errors import InputError
from agr_core.evaluation.names import better_direction, is_of_one_group
from agr_core.objective import BEST, Direction, Objective, objective_names, weighted_sums
from agr_core.registry import did_you_mean
from agr_core.reporting import EpochReport
from orchestrator.journal.events import SweepStarted, TrialReported
from orchestrator.journal.labels import label_name
from orchestrator.journal.sweep_state import SweepState, TrialState


def reports_of(trial: TrialState) -> tuple[EpochReport, ...]:
    """Return a trial's reports from its journal."""
    return tuple(EpochReport(epoch=report.epoch, metrics=report.metrics) for report in trial.reports)


def kept_report(trial: TrialState, sweep: SweepStarted, label: str = BEST) -> TrialReported | None:
    """Return the report of a label's best epoch (of a running trial, so far); None without a report."""
    if trial.ended is not None:
        epoch = trial.kept_epochs.get(label)
        return next((report for report in trial.reports if report.epoch == epoch), None)
    objective = sweep.objective if label == BEST else sweep.keep[label]
    best: TrialReported | None = None
    for report in trial.reports:
        value = objective.value(report.metrics)
        if objective.better(value, None if best is None else objective.value(best.metrics)):
            best = report
    return best


def kept_metrics(trial: TrialState, sweep: SweepStarted, label: str = BEST) -> dict[str, float]:
    """Return ``best/...``, the validation metrics of a label's epoch, and ``test/...`` if it was read with it."""
    report = kept_report(trial, sweep, label)
    reported = {} if report is None else report.metrics
    best = {_of_best(name): value for name, value in reported.items() if name.startswith("val/")}
    return {**best, **(trial.tests[label].metrics if label in trial.tests else {})}


@cache
def _of_best(name: str) -> str:
    return f"best/{name.removeprefix('val/')}"


def trial_metrics(trial: TrialState, sweep: SweepStarted) -> dict[str, float]:
    """Return the metrics of the best epoch, and those of each label of ``keep`` as ``best.<label>/...``.

    With the label's weights the test part gives ``best.<label>.test/...``. Test figures of a stage are
    ``stage.<id>.test/...``.
    """
    metrics = kept_metrics(trial, sweep)
    for label in sweep.keep:
        metrics |= {label_name(name, label): value for name, value in kept_metrics(trial, sweep, label).items()}
    for stage in trial.stages.values():
        metrics |= {f"stage.{stage.stage}.{name}": value for name, value in stage.metrics.items()}
    return metrics


def against_baseline(state: SweepState) -> dict[str, tuple[float, float]]:
    """Return validation metrics of the best configuration and of its split's mean / majority predictor, by metric.

    The configuration's metrics are means over its judged trials. Empty before a configuration has a rank, or if the
    baseline was not measured.
    """
    winner = state.winner() if state.baselines else None
    if winner is None:
        return {}
    reports = [trial.best_report for trial in winner.judged]
    metrics = [report.metrics for report in reports if report is not None]
    of_splits = [state.baselines.get(trial.created.split_digest, {}) for trial in winner.judged]
    names = set.intersection(*(set(metrics_of_split) for metrics_of_split in of_splits))
    baseline = {name: fmean(metrics_of_split[name] for metrics_of_split in of_splits) for name in names}
    baseline = {**weighted_sums(state.started.objectives, baseline), **baseline}
    return {
        name.removeprefix("val/"): (fmean(of_trial[name] for of_trial in metrics), baseline[name])
        for name in sorted(baseline)
        if metrics and all(name in of_trial for of_trial in metrics)
    }


def resolve_metric(metric: str, names: Collection[str]) -> str:
    """Resolve a metric in short form to its full name, ``best/...`` or ``test/...``, among the reported ones.

    Raises:
        InputError: If none matches.
    """
    reported = sorted(names)
    for name in (metric, f"best/{metric}", f"best/{metric.removeprefix('val/')}"):
        if name in reported:
            return name
    hint = did_you_mean(metric, [*reported, *(name.removeprefix("best/") for name in reported)])
    shown = [name for name in reported if not is_of_one_group(name)]
    more = f", and {len(reported) - len(shown)} of single groups" if len(shown) < len(reported) else ""
    raise InputError(f"no trial reported {metric!r}.{hint} Reported: {', '.join(shown) or 'nothing yet'}{more}.")


def metric_direction(metric: str, objectives: Sequence[Objective]) -> Direction:
    """Return an objective's own direction for an objective; else the metric's (``names.better_direction``)."""
    for name, objective in zip(objective_names(objectives), objectives, strict=True):
        if metric.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]:
            return objective.direction
    return better_direction(metric) or "maximize"
