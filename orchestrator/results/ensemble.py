"""Ensemble of recorded trials, from their stored predictions of one part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr_core.config import SoftmaxAge, TrialConfig
from agr_core.errors import InputError
from agr_core.evaluation.ensemble import BinDecode, averaged, selected, tasks_of
from agr_core.evaluation.names import better_direction
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Predictions
from agr_core.objective import BEST, Direction
from orchestrator.assets.recorded import read_recorded
from orchestrator.catalog.find import TrialOfRun, find_trial, label_of, no_runs, trial_in
from orchestrator.errors import NotFoundError
from orchestrator.journal.events import TrialCreated
from orchestrator.journal.recorded_config import recorded_config
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import attempt_folder
from orchestrator.results.trial_metrics import kept_report
from orchestrator.results.wording import constants, setting
from orchestrator.stats.intervals import Estimate, mean_interval
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_VAL = "val"


@dataclass(frozen=True)
class Member:
    """A trial of an ensemble, its predictions of the part, and the names of the figures that it reported of it."""

    sweep_id: str
    trial_id: str
    label: str
    created: TrialCreated
    config: TrialConfig
    predictions: Predictions
    reported: tuple[str, ...]

    @property
    def name(self) -> str:
        """The trial as a command takes it: its ID, with the label of the kept epoch if it is not the best."""
        return self.trial_id if self.label == BEST else f"{self.trial_id}@{self.label}"


@dataclass(frozen=True)
class Against:
    """Difference of the ensemble's figure to that of its best member, paired by image."""

    member: str
    difference: Estimate
    direction: Direction


@dataclass(frozen=True)
class Ensemble:
    """Figures of the members and of their ensemble on one part.

    ``decode`` says how ages were decoded from the mean distribution; None: they are the means of the members' years.
    Intervals are over images.
    """

    part: str
    tasks: tuple[str, ...]
    decode: BinDecode | None
    images: int
    members: tuple[Member, ...]
    of_members: tuple[Mapping[str, Estimate], ...]
    figures: Mapping[str, Estimate]
    against: Mapping[str, Against]

    @property
    def settings(self) -> list[str]:
        """What varies between the members, in few words for each."""
        common = constants([member.created.params for member in self.members])
        return [setting(member.created, without=common) for member in self.members]

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object."""
        return {
            "part": self.part,
            "images": self.images,
            "tasks": list(self.tasks),
            "ages": None if "age" not in self.tasks else "mean of years" if self.decode is None else self.decode,
            "members": [
                {
                    "trial_id": member.trial_id,
                    "sweep_id": member.sweep_id,
                    "label": member.label,
                    "setting": words,
                    "metrics": _plain(figures),
                }
                for member, words, figures in zip(self.members, self.settings, self.of_members, strict=True)
            ],
            "ensemble": {
                "metrics": _plain(self.figures),
                "against_best": {
                    name: {
                        "trial": against.member,
                        "difference": against.difference.to_json(),
                        "verdict": against.difference.verdict(against.direction),
                    }
                    for name, against in self.against.items()
                },
            },
        }


def make_ensemble(
    storage: Storage,
    trials: Sequence[str],
    *,
    part: str = "test",
    tasks: Sequence[str] = (),
    trial_of_run: TrialOfRun = no_runs,
) -> Ensemble:
    """Average the stored predictions of trials on one part, and compute figures of the members and the ensemble.

    Reads no image: the test part must have been read by the sweeps.

    Args:
        storage: Storage of the trials' sweeps.
        trials: Trials as ``find_trial`` takes them, at least two different ones.
        part: ``val``, ``test`` or ``test.<name>``.
        tasks: Tasks to average; empty: those of the members, which must be the same.
        trial_of_run: Finds the trial of an MLflow run ID.

    Raises:
        InputError: If the trials have different images, labels or tasks, or stored no probabilities.
        NotFoundError: If there is no such trial, or it stored no predictions of the part.
        AmbiguousIdError: If a text names several trials.
        DamagedError: If predictions are not those that the journal lists.
    """
    members = [_member(storage, text, part, trial_of_run) for text in trials]
    names = [f"{member.sweep_id}/{member.name}" for member in members]
    if len(set(names)) < max(2, len(names)):
        given = f"{', '.join(names)} given" if names else "no trial given"
        raise InputError(f"{given}: an ensemble takes at least two trials, each once.")
    chosen = _common_tasks(members, tasks)
    members = [replace(member, predictions=_sorted(member.predictions, chosen)) for member in members]
    for member in members:
        _check_probabilities(member)
    for one, other in combinations(members, 2):
        _check_same(one, other, part)
    decode = _decode(members)
    combined = averaged([member.predictions for member in members], decode)
    return _with_figures(members, combined, part=part, tasks=chosen, decode=decode)


def _member(storage: Storage, text: str, part: str, trial_of_run: TrialOfRun) -> Member:
    sweep_id, trial_id = find_trial(storage, text, trial_of_run)
    state = read_state(storage, sweep_id)
    trial, label = trial_in(state, trial_id), label_of(text)
    folder, report = attempt_folder(sweep_id, trial), kept_report(trial, state.started, label)
    if part == _VAL:
        reported = {} if report is None else report.metrics
    else:
        reported = trial.tests[label].metrics if label in trial.tests else {}
    key = None if folder is None or report is None else layout.predictions(folder, part, report.epoch)
    if key is None or not storage.exists(key):
        remedy = (
            f"`agr rerun {trial_id}` trains it again and stores them."
            if part == _VAL
            else "A sweep's end reads the test part of its winner and of each variant of an ablation only; "
            "`--part val` averages the predictions of the validation part."
        )
        raise NotFoundError(
            f"trial {trial_id} of sweep {sweep_id} (outcome: {trial.outcome or 'running'}) has no stored predictions "
            f"of the part {part!r}. {remedy}"
        )
    return Member(
        sweep_id,
        trial_id,
        label,
        trial.created,
        recorded_config(trial.created, state.started),
        Predictions.from_parquet(read_recorded(storage, key, trial), source=f"{storage.uri}/{key}"),
        tuple(name.removeprefix(f"{part}/") for name in reported if name.startswith(f"{part}/")),
    )


def _common_tasks(members: Sequence[Member], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks to average, in the order of the predictions.

    Raises:
        InputError: If a member lacks one that is asked for, or the members' tasks differ and none is asked for.
    """
    by_member = {member.name: tasks_of(member.predictions) for member in members}
    shared = tuple(task for task in by_member[members[0].name] if all(task in each for each in by_member.values()))
    listed = "; ".join(f"{name}: {', '.join(tasks) or 'none'}" for name, tasks in by_member.items())
    if lacking := [task for task in asked if task not in shared]:
        raise InputError(f"--tasks {','.join(asked)}: not every trial has predictions of {lacking[0]} ({listed}).")
    if not asked and any(set(tasks) != set(shared) for tasks in by_member.values()):
        way_out = (
            f"--tasks {','.join(shared)} averages what all of them predict."
            if shared
            else "Give trials that share a task."
        )
        raise InputError(f"the trials predict different tasks ({listed}). {way_out}")
    if not shared:
        raise InputError(f"the trials have no predictions of age, gender or race ({listed}).")
    return tuple(task for task in shared if task in asked) if asked else shared


def _sorted(predictions: Predictions, tasks: Sequence[str]) -> Predictions:
    """Return the predictions in the order of the images' content, which is the same for any packing of the data."""
    return selected(predictions, np.argsort(np.array(_contents(predictions)), kind="stable"), tasks)


def _contents(predictions: Predictions) -> list[str]:
    return [sample_id.rpartition("/")[2] for sample_id in predictions.sample_ids]


def _check_probabilities(member: Member) -> None:
    """Check that the probabilities to average are stored.

    Raises:
        InputError: If not; trials of earlier versions stored the predicted class only.
    """
    predictions = member.predictions
    lacking = [task for task, each in predictions.classes.items() if each.probabilities is None]
    if predictions.years and _bin_decode(member) is not None and "age_std" not in predictions.years:
        lacking.append("age")
    if lacking:
        raise InputError(
            f"the stored predictions of trial {member.name} have no probabilities of {' and '.join(lacking)}: an "
            f"earlier version of agr trained it and stored the predicted class alone. `agr rerun {member.trial_id}` "
            "trains it again with the same figures and stores them for the validation part (--part val); for the test "
            "part, submit its sweep again."
        )


def _check_same(one: Member, other: Member, part: str) -> None:
    """Check that two members predicted the same images with the same labels.

    Raises:
        InputError: If not.
    """
    names = f"trials {one.name} and {other.name}"
    ours, theirs = _contents(one.predictions), _contents(other.predictions)
    if ours != theirs:
        shared = len(set(ours) & set(theirs))
        raise InputError(
            f"{names} were evaluated on different images of the part {part!r} ({len(ours):,} and {len(theirs):,}, "
            f"{shared:,} of them in both). An ensemble averages predictions of the same images: give trials of one "
            "data set and split."
        )
    for task, each in one.predictions.classes.items():
        if each.classes != (classes := other.predictions.classes[task].classes):
            raise InputError(
                f"{names} have different classes of {task}: {', '.join(each.classes)}, and {', '.join(classes)}. "
                f"Give trials with the same classes, or leave {task} out with --tasks."
            )
        _check_labels(names, task, each.true, other.predictions.classes[task].true)
    for bound in ("age_low", "age_high") if one.predictions.years else ():
        _check_labels(names, "age", one.predictions.years[bound], other.predictions.years[bound])


def _check_labels(names: str, task: str, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    differing = ~((ours == theirs) | ((ours != ours) & (theirs != theirs)))
    if differing.any():
        raise InputError(
            f"{names} have different labels of {task} for {int(differing.sum()):,} of {len(ours):,} images: their data "
            f"sets were labelled differently. Give trials of one data set, or leave {task} out with --tasks."
        )


def _bin_decode(member: Member) -> BinDecode | None:
    """Return how a member chooses one bin from its distribution of ages; None if it does not."""
    age = member.config.age
    if not isinstance(age, SoftmaxAge) or age.decode == "expectation" or getattr(age, "split", None) == "joint":
        return None
    return age.decode


def _decode(members: Sequence[Member]) -> BinDecode | None:
    """Return how to decode the mean distribution of ages; None if the members' years are averaged instead."""
    decodes = {_bin_decode(member) for member in members}
    shares = [member.predictions.age_shares for member in members]
    edges = {None if each is None else each.edges for each in shares}
    return decodes.pop() if len(decodes) == 1 and len(edges) == 1 and None not in edges else None


def _with_figures(
    members: Sequence[Member],
    combined: Predictions,
    *,
    part: str,
    tasks: tuple[str, ...],
    decode: BinDecode | None,
) -> Ensemble:
    of_members: list[dict[str, Estimate]] = [{} for _ in members]
    figures: dict[str, Estimate] = {}
    against: dict[str, Against] = {}
    for name in members[0].reported:
        values = [image_values(member.predictions, name) for member in members]
        of_ensemble = image_values(combined, name)
        known = [each for each in values if each is not None]
        if of_ensemble is None or len(known) < len(members) or np.isnan(of_ensemble).all():
            continue
        if not all(name in member.reported for member in members):
            continue
        for estimates, each in zip(of_members, known, strict=True):
            estimates[name] = _over_images(each)
        figures[name] = _over_images(of_ensemble)
        direction = better_direction(name) or "maximize"
        means = [estimates[name].mean for estimates in of_members]
        best = means.index(min(means) if direction == "minimize" else max(means))
        against[name] = Against(members[best].name, _over_images(of_ensemble - known[best]), direction)
    return Ensemble(
        part=part,
        tasks=tasks,
        decode=decode,
        images=len(combined.sample_ids),
        members=tuple(members),
        of_members=tuple(of_members),
        figures=figures,
        against=against,
    )


def _over_images(values: NDArray[np.float64]) -> Estimate:
    """Return the mean over the images with a label; its interval accounts for other images of the same kind."""
    defined = values[~np.isnan(values)]
    return replace(mean_interval(defined.tolist()), count=1, images=len(defined))


def _plain(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in figures.items()}
