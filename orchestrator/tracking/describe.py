"""What a sweep and its trials look like in the tracker: names, params, tags, points. Pure functions of the records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agr_core.config import TrialConfig
from agr_core.evaluation.guards import warnings
from agr_core.evaluation.names import headline_metrics, is_of_one_group
from agr_core.objective import BEST, Objective
from orchestrator.outcome import Outcome, SweepStatus
from orchestrator.records import SweepStarted, TrialCreated, TrialReported, label_name
from orchestrator.state import SweepState, TrialState
from orchestrator.tracking.base import MetricPoint, RunStatus

SWEEP_ID, TRIAL_ID, KIND = "agr.sweep_id", "agr.trial_id", "agr.kind"
PARENT = "mlflow.parentRunId"
OUTCOME, RANK, STATUS, EPOCHS = "agr.outcome", "agr.rank", "agr.status", "agr.epochs"
FRONT = "agr.front"
RANK_METRIC = "rank"
"""The rank as a figure: MLflow sorts tags as text, so that 10 comes before 2."""

KEY_METRICS = ("age_mae", "age_interval_mae", "gender_acc", "race_acc", "age_cs5", "age_f1.utk7")
"""What a leaderboard shows beside the objective, the most telling first."""

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

_NAME_LENGTH = 60
_NAMED_FIRST = ("model.name", "optimizer.name")


def sweep_key(sweep_id: str) -> dict[str, str]:
    """Tags that only the run of this sweep has."""
    return {SWEEP_ID: sweep_id, KIND: "sweep"}


def trial_key(sweep_id: str, trial_id: str) -> dict[str, str]:
    """Tags that only the run of this trial has."""
    return {SWEEP_ID: sweep_id, TRIAL_ID: trial_id}


def trial_name(created: TrialCreated, *, repeated: bool = False) -> str:
    """A name a person recognises: the number and, in few words, what varies, as ``007 resnet10t adam onehot/utk7``."""
    params = dict(created.params)
    words = [f"{created.number:03d}"]
    if created.variant is not None:
        words.append(created.variant)
    encoding, bins = params.pop("age.encoding", None), params.pop("age.bins", None)
    ordered = {path: params[path] for path in (*_NAMED_FIRST, *params) if path in params}
    words += [value.rstrip("/").rsplit("/", 1)[-1] for value in ordered.values() if isinstance(value, str)]
    if encoding is not None or bins is not None:
        words.append("/".join(short(part) for part in (encoding, bins) if part is not None))
    if len(words) == 1:  # only figures vary
        words += [f"{path.rsplit('.', 1)[-1]}={short(value)}" for path, value in ordered.items()]
    if repeated:
        words.append(f"seed {created.config['seed']}")
    name = " ".join(words)
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"


def short(value: Any) -> str:
    """A param for a narrow column: figures with three digits, lists without spaces."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.3g}"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def varying(trials: Iterable[TrialCreated]) -> tuple[str, ...]:
    """Paths of what varies among some trials, in the order they came up, those of one part side by side."""
    paths = dict.fromkeys(path for trial in trials for path in trial.params)
    parts = {path.split(".", 1)[0]: None for path in paths}
    return tuple(path for part in parts for path in paths if path.split(".", 1)[0] == part)


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every leaf of a configuration; lists are leaves."""
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def trial_params(created: TrialCreated) -> dict[str, Any]:
    """The complete configuration, flat, what varies first."""
    complete = dict(flat(created.config))
    varying = {path: complete.get(path, value) for path, value in created.params.items()}
    return {**varying, **complete}


def trial_tags(created: TrialCreated, sweep: SweepStarted) -> dict[str, str]:
    """What is known of a trial when it starts."""
    tags = {
        KIND: "trial",
        "agr.number": str(created.number),
        "agr.config_digest": created.config_digest,
        "agr.data_digest": created.data_digest,
        "agr.split_digest": created.split_digest,
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
    return tags


def end_tags(trial: TrialState) -> dict[str, str]:
    """What is known of a trial once it has ended."""
    ended = trial.ended
    assert ended is not None, "only for trials that ended"
    tags = {OUTCOME: ended.outcome, EPOCHS: str(ended.epochs), "agr.attempts": str(trial.attempts)}
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
    best = trial.best_report
    said = [] if best is None else warnings(best.metrics)
    if said:
        tags["agr.warnings"] = " ".join(said)
    return tags


def sweep_tags(sweep: SweepStarted, storage_uri: str) -> dict[str, str]:
    """What is known of a sweep when it starts."""
    tags = {
        "agr.name": sweep.name,
        "agr.objective": ", ".join(f"{each.direction} {each.formula}" for each in sweep.objectives),
        "agr.storage": storage_uri,
        "mlflow.note.content": f"{sweep.description}\n\n`agr leaderboard {sweep.sweep_id}`".strip(),
    }
    if sweep.profile is not None:
        tags["agr.profile"] = sweep.profile
    if sweep.tags:
        tags["agr.tags"] = ", ".join(sweep.tags)
    if sweep.rerun_of is not None:
        tags["agr.rerun_of"] = sweep.rerun_of
    return tags


def sweep_params(sweep: SweepStarted) -> dict[str, Any]:
    """How the sweep searches, flat; what its trials have in common is among the params of each."""
    parts = ("objective", "search", "scheduler", "repeat", "budget", "resources", "out_of_memory", "limits")
    return dict(flat({part: sweep.document[part] for part in parts if part in sweep.document}))


def sweep_end_tags(state: SweepState) -> dict[str, str]:
    """What is known of a sweep once its driver let go of it."""
    ended = state.ended
    assert ended is not None, "only for sweeps that ended"
    tags = {STATUS: ended.status, "agr.test_reads": str(state.test_reads)}
    if ended.reason:
        tags["agr.reason"] = ended.reason
    best = state.best()
    if best is not None and best.ended is not None:
        tags["agr.best_trial"] = best.trial_id
        tags["agr.best_value"] = ", ".join(f"{value:.6g}" for value in best.ended.point)
    return tags


def sweep_end_points(state: SweepState) -> list[MetricPoint]:
    """Counts of trials by outcome, and the seconds all drivers took."""
    ended = state.ended
    assert ended is not None, "only for sweeps that ended"
    figures = {f"trials/{outcome}": float(count) for outcome, count in state.counts().items()}
    return [MetricPoint(name, value, 0, ended.time) for name, value in {**figures, "wall_s": ended.wall_s}.items()]


def shown_metrics(created: TrialCreated, objectives: Sequence[Objective]) -> tuple[str, ...]:
    """The metrics of an epoch that go to the tracker, about fifteen."""
    return headline_metrics(TrialConfig.from_document(created.config), objectives)


def epoch_points(reports: Iterable[TrialReported], names: Iterable[str]) -> list[MetricPoint]:
    """The points of some epochs; a metric an epoch did not report has none."""
    wanted = tuple(names)
    return [
        MetricPoint(name, report.metrics[name], report.epoch, report.time)
        for report in reports
        for name in wanted
        if name in report.metrics
    ]


def test_points(trial: TrialState) -> list[MetricPoint]:
    """``test/...`` of the best weights, and ``best.<label>.test/...`` of those kept for a label, at their epochs.

    The figures of single groups are for ``agr show``.
    """
    ended = trial.ended
    assert ended is not None, "the test part is read of trials that ended"
    return [
        MetricPoint(_labelled(name, label), value, trial.kept_epochs.get(label, 0), ended.time)
        for label, read in trial.tests.items()
        for name, value in read.metrics.items()
        if not is_of_one_group(name)
    ]


def best_name(name: str) -> str:
    """``val/age_mae`` of the best epoch is ``best/age_mae``."""
    return f"best/{name.removeprefix('val/')}"


def mean_name(name: str) -> str:
    """``best/age_mae`` averaged over the seeds of a configuration is ``mean/age_mae``."""
    return f"mean/{name.removeprefix('val/')}"


def mean_point(objective: Objective, mean: float, time: float) -> MetricPoint:
    """The mean of the objective over a configuration's seeds, as each of their runs shows it."""
    return MetricPoint(mean_name(objective.name), mean, 0, time)


def best_points(trial: TrialState, names: Iterable[str]) -> list[MetricPoint]:
    """``best/...``: the validation metrics of the best epoch; ``best.<label>/...`` those kept for a label."""
    wanted = tuple(name for name in names if name.startswith("val/"))
    reports = {report.epoch: report for report in trial.reports}
    return [
        MetricPoint(_labelled(best_name(name), label), reports[epoch].metrics[name], epoch, reports[epoch].time)
        for label, epoch in trial.kept_epochs.items()
        for name in wanted
        if name in reports[epoch].metrics
    ]


def _labelled(name: str, label: str) -> str:
    return name if label == BEST else label_name(name, label)
