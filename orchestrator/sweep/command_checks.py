"""Validate commands to a running sweep: once by the command's sender, once by the driver."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError, InputError
from agr_core.registry import did_you_mean
from agr_core.trainer import early_stopping
from orchestrator.errors import NotFoundError
from orchestrator.journal.events import SweepStarted, TrialCreated, TrialReopened
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.spec.narrow import narrowed
from orchestrator.spec.space import Space
from orchestrator.spec.start import point_of_entry
from orchestrator.sweep.proposals import share_of_slots

RETRIED = ("failed", "interrupted")
"""Default outcomes for ``agr retry``."""

_MOST_GP_TRIALS = 200


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Limits of a sweep, and the amounts used."""

    algorithm: str
    """Algorithm of its search."""
    trials: int | None
    """Number of configurations requested so far; None if only a budget ends it."""
    limits: Mapping[str, float]
    """Budgets of the sweep."""
    usd: float | None
    """Dollars spent; None if unknown."""
    cheapest_usd: float | None
    """Dollars of its cheapest trial."""


def check_extend(arguments: Mapping[str, Any], extent: Extent) -> None:
    """Refuse invalid additions; ``arguments``: ``trials``, ``usd``, ``gpu_hours``, ``wall`` (seconds).

    Raises:
        InputError: If nothing is added, or something that has no limit or is fixed, or dollars for less than a trial.
    """
    if not arguments:
        raise InputError("nothing to add; give one of --trials, --usd, --gpu-hours, --wall, such as --trials 50.")
    for name, value in arguments.items():
        if not math.isfinite(value) or value <= 0:
            raise InputError(f"--{name.replace('_', '-')} {value:g}: the addition must be above 0.")
    if "trials" in arguments:
        if extent.algorithm == "grid":
            raise InputError(
                f"--trials {arguments['trials']}: grid tries each of its {extent.trials} points once, so there are no "
                "more. Submit a sweep over a larger space."
            )
        _refuse_too_many_for_gp(extent.algorithm, (extent.trials or 0) + arguments["trials"])
    for name in ("usd", "gpu_hours", "wall"):
        if name in arguments and name not in extent.limits:
            limited = [f"--{limit.replace('_', '-')}" for limit in extent.limits]
            limited += [] if extent.trials is None or extent.algorithm == "grid" else ["--trials"]
            raise InputError(
                f"--{name.replace('_', '-')} {arguments[name]:g}: the sweep has no budget.{name} to extend. It can be "
                f"extended by {' or '.join(limited) or 'nothing'}."
            )
    if "usd" in arguments and extent.usd is not None and extent.cheapest_usd is not None:
        left = max(0.0, extent.limits["usd"] - extent.usd) + arguments["usd"]
        if left < extent.cheapest_usd:
            raise InputError(
                f"--usd {arguments['usd']:g}: {left:.4g} dollars would be left, and the cheapest trial so far cost "
                f"{extent.cheapest_usd:.4g}. Give more than that."
            )


def _refuse_too_many_for_gp(algorithm: str, trials: int) -> None:
    if algorithm in ("gp", "branched_gp") and trials > _MOST_GP_TRIALS:
        raise InputError(
            f"{trials} trials in total, at most {_MOST_GP_TRIALS}: the time of a {algorithm} proposal grows with the "
            f"cube of the number of trials. Submit a sweep with search.history instead."
        )


def check_enqueue(algorithm: str, space: Space, entry: Mapping[str, Any]) -> None:
    """Refuse a configuration outside the space.

    Raises:
        InputError: Naming the value, the rule and the nearest value inside.
    """
    if algorithm == "grid":
        raise InputError(
            "grid tries each point of the space once, so nothing can be enqueued. Use `agr rerun --set` instead."
        )
    point_of_entry(space, entry)


def check_narrow(algorithm: str, space: Space, domains: Mapping[str, Any]) -> Space:
    """Return the narrowed space.

    Raises:
        InputError: If a domain is unknown or not inside the one so far, or the search cannot follow.
    """
    if algorithm == "gp":
        raise InputError("gp needs constant ranges; only sweeps of tpe, random or branched_gp can be narrowed.")
    if not domains:
        raise InputError("nothing to narrow; write PATH=DOMAIN, such as optimizer.lr='{loguniform: [1e-4, 1e-3]}'.")
    return narrowed(space, domains)


def check_set(values: Mapping[str, Any]) -> int | str:
    """Return the concurrency that ``agr set`` requests.

    Raises:
        InputError: If something else is set, or it is neither a number nor a share.
    """
    for name in values:
        if name != "concurrency":
            hint = did_you_mean(name, ["concurrency"])
            raise InputError(f"{name} cannot be set while a sweep runs.{hint} concurrency can.")
    if "concurrency" not in values:
        raise InputError("nothing to set; write concurrency=4, or concurrency=50%.")
    value: Any = values["concurrency"]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str):
        share_of_slots(value)
        return value
    raise InputError(f"concurrency={value!r}: give a number of trials, such as 4, or a share of the slots, as 50%.")


def to_retry(state: SweepState, trial_ids: Iterable[str], outcomes: Collection[str]) -> list[TrialState]:
    """Return the trials to retry: those of ``trial_ids``, else all that ended with one of ``outcomes``.

    Raises:
        NotFoundError: If a trial is unknown.
        InputError: If one cannot be retried, or none is left.
    """
    named = list(trial_ids)
    for outcome in outcomes:
        if outcome == "diverged":
            raise InputError(
                "--outcome diverged: a diverged trial would diverge again. Fork it: "
                "agr rerun TRIAL --set optimizer.lr=VALUE"
            )
        if outcome not in RETRIED:
            raise InputError(f"--outcome {outcome}: only {' and '.join(RETRIED)} trials can be retried.")
    if not named:
        trials = [trial for trial in state.trials.values() if trial.outcome in outcomes and not _goes_on(trial)]
        if not trials:
            raise InputError(f"sweep {state.started.sweep_id} has no {' or '.join(outcomes)} trial to retry.")
        return trials
    trials = []
    for trial_id in named:
        trial = _trial(state, trial_id)
        if trial.outcome == "diverged":
            raise InputError(
                f"trial {trial_id} diverged and would diverge again. Fork it: "
                f"agr rerun {trial_id} --set optimizer.lr=VALUE"
            )
        if trial.outcome not in RETRIED or _goes_on(trial):
            raise InputError(f"trial {trial_id} {_condition(trial)}: there is nothing to retry.")
        trials.append(trial)
    return trials


def to_continue(state: SweepState, trial_id: str, epochs: int) -> TrialCreated:
    """Return the trial as it continues, with ``epochs`` epochs in total.

    Raises:
        NotFoundError: If the trial is unknown.
        InputError: If its first epochs would differ, or it cannot continue.
    """
    trial = _trial(state, trial_id)
    schedule = dict(trial.created.config["schedule"])
    fork = f"Fork it: agr rerun {trial_id} --set schedule.epochs={epochs}"
    if trial.outcome not in ("completed", "pruned", "interrupted") or _goes_on(trial):
        raise InputError(f"trial {trial_id} {_condition(trial)}, so it cannot train further. {fork}")
    if state.started.stop_after_epochs is not None:
        raise InputError(f"trial {trial_id} is a re-run of {state.started.rerun_of}; continue that one.")
    if TrialConfig.from_document(trial.created.config).schedule.length_matters:
        parts = " with parts" if schedule["name"] == "step" else ""
        raise InputError(
            f"trial {trial_id} trains by schedule {schedule['name']}{parts}, whose rates depend on its length: its "
            f"first epochs differ from those of a training of {epochs} epochs. {fork}"
        )
    if trial.ended is not None and (trial.ended.stopped_early or _would_stop(trial)):
        raise InputError(
            f"trial {trial_id} was stopped by its own early stopping after {trial.ended.epochs} epochs, and would "
            f"stop again. Fork it without that: agr rerun {trial_id} --set early_stopping=null "
            f"--set schedule.epochs={epochs}"
        )
    reached = trial.reports[-1].epoch if trial.reports else 0
    if epochs <= reached:
        raise InputError(f"--epochs {epochs}: trial {trial_id} has {reached} epochs already; give more than that.")
    document = {**trial.created.config, "schedule": {**schedule, "epochs": epochs}}
    try:
        config = TrialConfig.from_document(document)
    except ValueError as error:
        raise ConfigError(f"trial {trial_id} cannot train {epochs} epochs: {error}") from error
    created = trial.created
    digest = config.digest(
        data_digest=created.data_digest,
        split_digest=created.split_digest,
        weights_sha256=created.initial_weights_key,
    )
    params = created.params | ({"schedule.epochs": epochs} if "schedule.epochs" in created.params else {})
    return created.model_copy(update={"config": config.to_document(), "config_digest": digest, "params": params})


def _would_stop(trial: TrialState) -> bool:
    """Return whether its own early stopping would have ended it at its last epoch, had that not been the last."""
    rule = TrialConfig.from_document(trial.created.config).early_stopping
    if rule is None:
        return False
    state = early_stopping.StoppingState()
    for report in trial.reports:
        state = early_stopping.after_epoch(rule, state, report.metrics[rule.metric])
    return early_stopping.should_stop(rule, state)


def _trial(state: SweepState, trial_id: str) -> TrialState:
    if trial_id not in state.trials:
        raise NotFoundError(f"there is no trial {trial_id!r} in sweep {state.started.sweep_id}.")
    return state.trials[trial_id]


def _goes_on(trial: TrialState) -> bool:
    """Return whether it ended only because its sweep did."""
    return trial.ended is not None and trial.ended.resumable


def _condition(trial: TrialState) -> str:
    if trial.ended is None:
        return "has not ended"
    return "continues with its sweep (agr resume)" if _goes_on(trial) else f"is {trial.ended.outcome}"


def reopened(
    trial: TrialState, started: SweepStarted, *, created: TrialCreated, compared: bool, reason: str, time: float
) -> TrialReopened:
    """Return the event by which an ended trial continues, with all that a driver needs of it."""
    assert trial.ended is not None, "only a trial that ended is reopened"
    best: tuple[int, float] | None = None
    point: tuple[float, ...] = ()
    kept: dict[str, tuple[int, float]] = {}
    for report in trial.reports:
        if started.objective.better(report.value, None if best is None else best[1]):
            best = (report.epoch, report.value)
            point = (report.value, *(objective.value(report.metrics) for objective in started.further))
        for label, objective in started.keep.items():
            value = objective.value(report.metrics)
            if objective.better(value, kept[label][1] if label in kept else None):
                kept[label] = (report.epoch, value)
    last = trial.reports[-1] if trial.reports else None
    return TrialReopened(
        time=time,
        trial_id=trial.trial_id,
        reason=reason,
        outcome=trial.ended.outcome,
        created=created,
        compared=compared,
        attempt=trial.attempts,
        epoch=0 if last is None else last.epoch,
        value=None if last is None else last.value,
        best=best,
        point=point,
        kept=kept,
        reported_attempt=None if last is None else last.attempt,
        stages=tuple(trial.stages),
    )
