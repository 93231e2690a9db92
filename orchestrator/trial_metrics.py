"""The figures of a trial: those of the epochs whose weights it keeps, by the names that people type."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agr_core.errors import InputError
from agr_core.evaluation.names import better_direction, is_of_one_group
from agr_core.objective import BEST, Direction, Objective, objective_names, weighted_sums
from agr_core.registry import did_you_mean
from agr_core.reporting import EpochReport
from orchestrator.records import SweepStarted, TrialReported, label_name
from orchestrator.state import SweepState, TrialState


def reports_of(trial: TrialState) -> tuple[EpochReport, ...]:
    """A trial's reports, as its journal has them."""
    return tuple(EpochReport(epoch=report.epoch, metrics=report.metrics) for report in trial.reports)


def kept_report(trial: TrialState, sweep: SweepStarted, label: str = BEST) -> TrialReported | None:
    """The report of the epoch that is best for a label, of a running trial the best so far; None without a report."""
    if trial.ended is not None:
        return next((report for report in trial.reports if report.epoch == trial.kept_epochs.get(label)), None)
    objective = sweep.objective if label == BEST else sweep.keep[label]
    best: TrialReported | None = None
    for report in trial.reports:
        value = objective.value(report.metrics)
        if objective.better(value, None if best is None else objective.value(best.metrics)):
            best = report
    return best


def kept_metrics(trial: TrialState, sweep: SweepStarted, label: str = BEST) -> dict[str, float]:
    """``best/...``: the validation metrics of a label's epoch; ``test/...`` where the test part was read with it."""
    report = kept_report(trial, sweep, label)
    reported = {} if report is None else report.metrics
    best = {f"best/{name.removeprefix('val/')}": value for name, value in reported.items() if name.startswith("val/")}
    return {**best, **(trial.tests[label].metrics if label in trial.tests else {})}


def trial_metrics(trial: TrialState, sweep: SweepStarted) -> dict[str, float]:
    """The metrics of the best epoch, and those of each label of ``keep`` as ``best.<label>/...``.

    With the label's weights the test part gives ``best.<label>.test/...``.
    """
    metrics = kept_metrics(trial, sweep)
    for label in sweep.keep:
        metrics |= {label_name(name, label): value for name, value in kept_metrics(trial, sweep, label).items()}
    return metrics


def against_baseline(state: SweepState) -> dict[str, tuple[float, float]]:
    """Validation figures of the best trial and of the mean / majority predictor on its split, by metric.

    Empty without a completed trial, or where the baseline was not measured.
    """
    best = state.best()
    report = None if best is None else best.best_report
    if best is None or report is None:
        return {}
    baseline = state.baselines.get(best.created.split_digest, {})
    baseline = {**weighted_sums(state.started.objectives, baseline), **baseline}
    return {
        name.removeprefix("val/"): (report.metrics[name], baseline[name])
        for name in sorted(baseline)
        if name in report.metrics
    }


def resolve_metric(metric: str, names: Collection[str]) -> str:
    """The full name, ``best/...`` or ``test/...``, of a metric somebody typed, among those that were reported.

    Raises:
        InputError: If it is none of them.
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
    """An objective's own direction for an objective; else by what the metric is (``names.better_direction``)."""
    for name, objective in zip(objective_names(objectives), objectives, strict=True):
        if metric.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]:
            return objective.direction
    return better_direction(metric) or "maximize"
