"""Names, params, tags and points of a sweep and its trials in the tracker. Pure functions of the records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from agr_core.config import TrialConfig
from agr_core.evaluation.guards import warnings
from agr_core.evaluation.names import headline_metrics, is_of_one_group
from agr_core.objective import BEST, Objective
from orchestrator.journal.annotations import Annotations
from orchestrator.journal.events import DataRef, SweepStarted, TrialCreated, TrialReported
from orchestrator.journal.labels import label_name
from orchestrator.journal.outcome import Outcome, SweepStatus
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.leaderboard import Row
from orchestrator.results.wording import flat, trial_params
from orchestrator.tracking.base import MetricPoint, RunStatus, TrackedData
from orchestrator.tracking.notes import NOTE, running_note

SWEEP_ID, TRIAL_ID, KIND = "agr.sweep_id", "agr.trial_id", "agr.kind"
PARENT = "mlflow.parentRunId"
OUTCOME, RANK, STATUS, EPOCHS = "agr.outcome", "agr.rank", "agr.status", "agr.epochs"
LEAKS = "agr.leaks"
"""Number of groups of one picture, or one subject, in several parts of the split; absent if none."""

DRIFT = "agr.drift"
"""Versions, code and hardware that differed from the sweep's start in an attempt; absent where nothing did."""

_MAX_DATA = 20
"""Number of data sets shown with a sweep; one that varies its split has many."""

FRONT = "agr.front"
RANK_METRIC = "rank"
"""The rank as a figure: MLflow sorts tags as text, so that 10 comes before 2."""


RUN_STATUS: Mapping[Outcome, RunStatus] = {
    "completed": "FINISHED",
    "pruned": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}

SWEEP_RUN_STATUS: Mapping[SweepStatus, RunStatus] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "paused": "KILLED",
}


def sweep_key(sweep_id: str) -> dict[str, str]:
    """Return the tags that identify the run of this sweep."""
    return {SWEEP_ID: sweep_id, KIND: "sweep"}


def trial_key(sweep_id: str, trial_id: str) -> dict[str, str]:
    """Return the tags that identify the run of this trial."""
    return {SWEEP_ID: sweep_id, TRIAL_ID: trial_id}


def trial_tags(created: TrialCreated, sweep: SweepStarted, *, leaks: int = 0) -> dict[str, str]:
    """Return the tags of a started trial; ``leaks``: groups in several parts of its split."""
    tags = {
        KIND: "trial",
        "agr.number": str(created.number),
        "agr.config_digest": created.config_digest,
        "agr.data_digest": created.data_digest,
        "agr.split_digest": created.split_digest,
        **source_tags(sweep),
    }
    if created.weights_sha256 is not None:
        tags["agr.weights_sha256"] = created.weights_sha256
    if created.configuration != created.number:
        tags["agr.configuration"] = str(created.configuration)
    if created.confirms is not None:
        tags["agr.confirms"] = created.confirms
    if created.variant is not None:
        tags["agr.variant"] = created.variant
    if sweep.rerun_of is not None:
        tags["agr.rerun_of"] = sweep.rerun_of
    if leaks:
        tags[LEAKS] = str(leaks)
    return tags


def end_key(trial: TrialState) -> dict[str, str]:
    """Return the tags that tell this end of a trial from an earlier one: a resumed trial may have the same outcome."""
    assert trial.ended is not None, "only for trials that ended"
    return {OUTCOME: trial.ended.outcome, "agr.attempts": str(trial.attempts)}


def end_tags(trial: TrialState) -> dict[str, str]:
    """Return the tags of an ended trial."""
    ended = trial.ended
    assert ended is not None, "only for trials that ended"
    tags = {**end_key(trial), EPOCHS: str(ended.epochs)}
    if ended.best_epoch is not None:
        tags["agr.best_epoch"] = str(ended.best_epoch)
    if trial.stages:
        tags["agr.stages"] = ", ".join(
            f"{event.stage}: {event.kind.removeprefix('stage_')}" for event in trial.stages.values()
        )
    for label, epoch in ended.kept_epochs.items():
        tags[f"agr.best_epoch.{label}"] = str(epoch)
    if ended.stopped_early:
        tags["agr.stopped_early"] = "true"
    if ended.error is not None:
        tags["agr.error"] = ended.error
    if trial.reconfigured is not None:  # the run may have been made before
        tags["agr.reconfigured"] = trial.reconfigured.reason
        tags["agr.config_digest"] = trial.created.config_digest
    if trial.drift:
        tags[DRIFT] = "; ".join(trial.drift)
    if trial.reopened is not None:
        tags["agr.reopened"] = trial.reopened.reason
        tags["agr.config_digest"] = trial.created.config_digest
    best = trial.best_report
    messages = [] if best is None else warnings(best.metrics)
    if messages:
        tags["agr.warnings"] = " ".join(messages)
    return tags


def run_params(trial: TrialState) -> dict[str, Any]:
    """Return the params of a trial's run. MLflow params are immutable, so a continued trial's epochs are left out."""
    params = dict(trial_params(trial.created))
    if trial.reopened is not None:
        params.pop("schedule.epochs", None)
    return params


def annotation_tags(annotations: Annotations, subject: str | None, *, removed: Iterable[str] = ()) -> dict[str, str]:
    """Return the notes and tags of a trial, or of the sweep, as MLflow tags; ``removed`` ones become empty."""
    tags = {f"agr.tag.{name}": "" for name in removed}
    tags |= {f"agr.tag.{name}": value or "yes" for name, value in annotations.tags_of(subject).items()}
    texts = annotations.texts(subject)[::-1]  # the newest first: a long tag is cut
    return {**tags, "agr.note": "\n".join(texts)} if texts else tags


def is_settled(sweep: SweepStarted, trial: TrialState) -> bool:
    """Return whether its configuration is final: MLflow params are immutable, and a batch may still be halved."""
    may_change = sweep.document.get("out_of_memory") == "halve_batch"
    return not may_change or trial.reconfigured is not None or bool(trial.reports) or trial.ended is not None


def source_tags(sweep: SweepStarted) -> dict[str, str]:
    """Return MLflow's tags of a run on its origin: the command, the commit of the code, and who started the sweep."""
    command = f"agr submit {sweep.name}" if sweep.rerun_of is None else f"agr rerun {sweep.rerun_of}"
    tags = {"mlflow.source.type": "PROJECT", "mlflow.source.name": command}
    commit = sweep.provenance.get("code", {}).get("commit")
    if commit is not None:
        tags["mlflow.source.git.commit"] = str(commit)
    if sweep.started_by is not None:
        tags["mlflow.user"] = sweep.started_by
    return tags


def sweep_tags(sweep: SweepStarted, storage_uri: str) -> dict[str, str]:
    """Return the tags of a started sweep."""
    tags = {
        "agr.name": sweep.name,
        "agr.objective": ", ".join(f"{objective.direction} {objective.formula}" for objective in sweep.objectives),
        "agr.storage": storage_uri,
        NOTE: running_note(sweep),
        **source_tags(sweep),
    }
    if sweep.profile is not None:
        tags["agr.profile"] = sweep.profile
    if sweep.tags:
        tags["agr.tags"] = ", ".join(sweep.tags)
    if sweep.rerun_of is not None:
        tags["agr.rerun_of"] = sweep.rerun_of
    return tags


def sweep_data(state: SweepState) -> list[TrackedData]:
    """Return the data sets and splits of a sweep's trials, each once, at most ``_MAX_DATA``."""
    refs = dict.fromkeys(trial.created.data for trial in state.trials.values())
    return [
        TrackedData(f"{_data_name(ref)} split {ref.split_digest[:8]}", ref.data_digest[:32], ref.data_uri)
        for ref in list(refs)[:_MAX_DATA]
    ]


def _data_name(ref: DataRef) -> str:
    """Return the last part of the data set's address; a digest there is shortened."""
    name = ref.data_uri.rstrip("/").rsplit("/", 1)[-1]
    return name[:8] if name.startswith(ref.data_digest[:16]) else name


def sweep_params(sweep: SweepStarted) -> dict[str, Any]:
    """Return the search settings of the sweep, flat; settings common to its trials are among the params of each."""
    parts = ("objective", "search", "scheduler", "repeat", "budget", "resources", "out_of_memory", "limits")
    return dict(flat({part: sweep.document[part] for part in parts if part in sweep.document}))


def sweep_end_key(state: SweepState) -> dict[str, str]:
    """Return the tags that tell this end of a sweep from an earlier one: a sweep may be stopped twice."""
    assert state.ended is not None, "only for sweeps that ended"
    return {STATUS: state.ended.status, "agr.drivers": str(len(state.drivers))}


def sweep_end_tags(state: SweepState) -> dict[str, str]:
    """Return the tags of a sweep that its driver released."""
    ended = state.ended
    assert ended is not None, "only for sweeps that ended"
    tags = {**sweep_end_key(state), "agr.test_reads": str(state.test_reads)}
    if ended.reason:
        tags["agr.reason"] = ended.reason
    best = state.best_result()
    if best is not None:
        tags["agr.best_trial"] = best.trial_id
        tags["agr.best_value"] = ", ".join(f"{value:.6g}" for value in best.point)
    return tags


def sweep_end_points(state: SweepState) -> list[MetricPoint]:
    """Return the counts of trials by outcome, and the run time of all drivers."""
    ended = state.ended
    assert ended is not None, "only for sweeps that ended"
    figures = {f"trials/{outcome}": float(count) for outcome, count in state.counts().items()}
    figures |= {"wall_s": ended.wall_s, **spent_figures(state)}
    return [MetricPoint(name, value, 0, ended.time) for name, value in figures.items()]


def spent_figures(state: SweepState) -> dict[str, float]:
    """Return the amounts spent by an ended sweep, and what is left of its budgets of dollars and GPU-hours."""
    spent = None if state.ended is None else state.ended.spent
    if spent is None:
        return {}
    amounts = {"usd": spent.usd, "gpu_hours": spent.gpu_hours or None}
    budget, added = state.started.document.get("budget") or {}, state.steering.added_budget
    names: tuple[Literal["usd", "gpu_hours"], ...] = ("usd", "gpu_hours")
    figures = {f"spent/{name}": amount for name, amount in amounts.items() if amount is not None}
    for name in names:
        amount = amounts[name]
        if name in budget and amount is not None:
            figures[f"left/{name}"] = max(0.0, budget[name] + added.get(name, 0.0) - amount)
    return figures


def shown_metrics(created: TrialCreated, objectives: Sequence[Objective]) -> tuple[str, ...]:
    """Return the metrics of an epoch that go to the tracker, about fifteen."""
    return headline_metrics(TrialConfig.from_document(created.config), objectives)


def epoch_points(reports: Iterable[TrialReported], names: Iterable[str]) -> list[MetricPoint]:
    """Return the points of some epochs; a metric that an epoch did not report has none."""
    wanted = tuple(names)
    return [
        MetricPoint(name, report.metrics[name], report.epoch, report.time)
        for report in reports
        for name in wanted
        if name in report.metrics
    ]


def test_points(trial: TrialState) -> list[MetricPoint]:
    """Return ``test/...`` of the best weights, and ``best.<label>.test/...`` of a label's, at their epochs.

    Figures of the train part with the best weights are ``kept_train/...``, beside the curves ``train/...``.
    The figures of single groups are for ``agr show``.
    """
    ended = trial.ended
    assert ended is not None, "the test part is read of trials that ended"
    return [
        MetricPoint(
            _labelled(re.sub("^train/", "kept_train/", name), label), value, trial.kept_epochs.get(label, 0), ended.time
        )
        for label, read in trial.tests.items()
        for name, value in read.metrics.items()
        if not is_of_one_group(name)
    ]


def best_name(name: str) -> str:
    """Return ``best/age_mae`` for ``val/age_mae``."""
    return f"best/{name.removeprefix('val/')}"


def mean_name(name: str) -> str:
    """Return ``mean/age_mae``, the mean over a configuration's seeds, for ``best/age_mae``."""
    return f"mean/{name.removeprefix('val/')}"


def mean_point(objective: Objective, mean: float, time: float) -> MetricPoint:
    """Return the point of the objective's mean over a configuration's seeds, logged to each of their runs."""
    return MetricPoint(mean_name(objective.name), rounded(mean), 0, time)


def fold_points(row: Row, objective: Objective, time: float) -> list[MetricPoint]:
    """Return what a configuration's folds say together, logged to each of their runs; none without folds.

    ``mean/age_mae.margin`` is half of the 95 % interval of the mean over the validation parts; ``pooled/age_mae`` is
    over the test images of all folds together, with ``pooled/age_mae.margin``.
    """
    if not row.folds:
        return []
    figures = {f"pooled/{name.removeprefix('test/')}": estimate for name, estimate in row.pooled.items()}
    values = {name: estimate.mean for name, estimate in figures.items()}
    margins = {f"{name}.margin": each.margin for name, each in figures.items()}
    margins[f"{mean_name(objective.name)}.margin"] = row.margin
    known = {name: margin for name, margin in margins.items() if margin is not None}
    return [MetricPoint(name, value, 0, time) for name, value in (values | known).items()]


def rounded(value: float) -> float:
    """Return the value with four significant digits."""
    return float(f"{value:.4g}")


def gap_names(trial: TrialState) -> list[str]:
    """Return the gaps between groups of people of the trial's best epoch: ``val/age_mae.gap_by_race``."""
    report = trial.best_report
    return [] if report is None else [name for name in report.metrics if re.match(r"val/[^.]+\.gap_by_", name)]


def best_points(trial: TrialState, names: Iterable[str]) -> list[MetricPoint]:
    """Return ``best/...``, the validation metrics of the best epoch, and ``best.<label>/...`` for each label.

    They have four significant digits, as many as a table can show; the curves and the journal have all.
    """
    wanted = tuple(name for name in names if name.startswith("val/"))
    reports = {report.epoch: report for report in trial.reports}
    return [
        MetricPoint(
            _labelled(best_name(name), label), rounded(reports[epoch].metrics[name]), epoch, reports[epoch].time
        )
        for label, epoch in trial.kept_epochs.items()
        for name in wanted
        if name in reports[epoch].metrics
    ]


def _labelled(name: str, label: str) -> str:
    return name if label == BEST else label_name(name, label)
