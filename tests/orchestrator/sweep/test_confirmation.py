"""The best configurations are trained again with fresh seeds, and ranked by those alone."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.objective import Objective
from orchestrator.journal.events import TrialCreated
from orchestrator.journal.segments import read_events, read_state
from orchestrator.results.ablation_table import make_table
from orchestrator.results.leaderboard import rows
from orchestrator.spec.load import Sweep
from orchestrator.storage.base import Storage
from orchestrator.sweep.confirmation import chosen, fresh_seeds
from orchestrator.sweep.run import SweepRun
from tests.parts.sweeps import Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"
MINIMIZE = Objective(metric="val/age_mae", direction="minimize")


def sweep_with(**more: Any) -> Sweep:
    search = {"algorithm": "tpe", "trials": 12, "seed": 7}
    return small_sweep(**{"search": search, "confirm": {"top": 3, "seeds": 4}, **more})


def score(config: dict[str, Any]) -> float:
    """Years of error: best at learning rate 1e-3 with nadam; a seed adds its own luck, alike for all configurations."""
    optimizer = config["optimizer"]
    level = 6.0 + abs(math.log10(optimizer["lr"]) + 3) + (1.0 if optimizer["name"] == "sgd" else 0.0)
    return level + random.Random(config["seed"]).gauss(0.0, 0.5)


def drive(run: SweepRun, *, until: int | None = None, value: Any = score) -> list[TrialCreated]:
    """Train trials one after the other, as a driver with one worker does, ``until`` so many are there."""
    trained = []
    while not run.proposals_over and (until is None or run.standing.next_number < until):
        created = run.next_trial(1)
        assert created is not None
        finish(run, created, value)
        trained.append(created)
    return trained


def finish(run: SweepRun, created: TrialCreated, value: Any = score) -> None:
    run.attempt_started(created.trial_id, "here")
    run.epoch_reported(created.trial_id, report(1, value(created.config) + 1.0))
    run.epoch_reported(created.trial_id, report(2, value(created.config), finished=True))
    run.trial_over(created.trial_id)


def begun(storage: Storage, sweep: Sweep) -> SweepRun:
    run = make_run(storage, sweep)
    run.begin()
    return run


def resumed(storage: Storage, sweep: Sweep) -> SweepRun:
    """Another driver, after the first one was killed: what it had not flushed is lost."""
    events, last = read_events(storage, SWEEP)
    run = make_run(storage, sweep, next_segment=last + 1)
    run.replay(events, Deaf())
    return run


def told(created: TrialCreated) -> tuple[Any, ...]:
    return created.number, created.trial_id, created.confirms, created.repeat, created.config


# ---- who, and with which seeds


def test_the_best_are_trained_again_with_seeds_that_the_search_never_had(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with())
    trained = drive(run)
    searched, confirming = trained[:12], trained[12:]

    best = sorted(searched, key=lambda created: score(created.config))[:3]
    assert [created.confirms for created in confirming] == [created.trial_id for created in best] * 4
    assert {created.config["seed"] for created in searched} == {42}
    assert [created.config["seed"] for created in confirming] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    for created, original in zip(confirming, best * 4, strict=True):
        assert {**created.config, "seed": 42} == original.config
        assert (created.configuration, created.params) == (original.configuration, original.params)
    assert len({created.config_digest for created in trained}) == 24
    assert run.planned == 12 + 3 * 4


def test_nothing_is_confirmed_while_a_trial_of_the_search_still_runs(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with())
    drive(run, until=11)
    last = run.next_trial(2)
    assert last is not None
    assert last.confirms is None
    assert run.next_trial(2) is None
    assert not run.proposals_over
    finish(run, last)
    following = [run.next_trial(2), run.next_trial(2), run.next_trial(2)]
    assert [created is not None and created.confirms is not None for created in following] == [True, True, False]


def test_a_sweep_is_not_over_while_the_only_trial_that_may_be_confirmed_runs(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with(search={"algorithm": "random", "trials": 1}))
    only = run.next_trial(1)
    assert only is not None
    assert not run.proposals_over
    finish(run, only)
    following = run.next_trial(1)
    assert following is not None
    assert following.confirms == only.trial_id


def test_the_search_hears_nothing_of_confirmations(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with())
    drive(run, until=12)
    before = [trial.value for trial in run.search._study.get_trials()]
    drive(run)
    assert [trial.value for trial in run.search._study.get_trials()] == before


def test_without_a_completed_trial_there_is_nothing_to_confirm(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with(search={"algorithm": "random", "trials": 2}))
    for _ in range(2):
        created = run.next_trial(1)
        assert created is not None
        run.trial_over(created.trial_id)
    assert run.counts == {"pruned": 2}
    assert run.proposals_over


def test_a_configuration_that_the_search_drew_twice_is_confirmed_once(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with())
    created = drive(run, until=3)
    twice = created[0].model_copy(update={"number": 9, "trial_id": "ffffffff"})
    candidates = [(created[1], 5.0), (twice, 1.0), (created[0], 1.0), (created[2], 5.0)]
    assert chosen(candidates, MINIMIZE, 3) == [created[0], created[1], created[2]]
    assert chosen(candidates, Objective(metric="val/gender_acc", direction="maximize"), 1) == [created[1]]


def test_a_reopened_trial_is_no_candidate(tmp_path: Path) -> None:
    run = begun(local(tmp_path), sweep_with())
    best, second, *_ = sorted(drive(run, until=4), key=lambda created: score(created.config))
    confirmation = run.standing.confirmation
    assert confirmation is not None
    assert confirmation.next()[0] == best  # type: ignore[index]
    confirmation.withdraw(best.trial_id)
    assert confirmation.next()[0] == second  # type: ignore[index]


def test_fresh_seeds_are_the_smallest_that_nobody_had() -> None:
    assert fresh_seeds({42, 2}, 3) == (1, 3, 4)


# ---- killed and resumed


@pytest.mark.parametrize("cuts", [(5,), (12,), (13, 17), (3, 12, 23)])
def test_a_sweep_killed_and_resumed_confirms_what_one_left_alone_would(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    undisturbed = begun(local(tmp_path / "alone"), sweep_with())
    expected = [told(created) for created in drive(undisturbed)]

    storage, sweep = local(tmp_path / "killed"), sweep_with()
    run = begun(storage, sweep)
    trained = drive(run, until=cuts[0])
    for cut in [*cuts[1:], None]:
        lost = run.next_trial(1)  # created, and never flushed
        assert lost is not None
        run = resumed(storage, sweep)
        trained += drive(run, until=cut)

    assert [told(created) for created in trained] == expected
    assert run.best == undisturbed.best
    assert run.proposals_over


def test_a_confirmation_that_was_running_is_resumed(tmp_path: Path) -> None:
    storage, sweep = local(tmp_path), sweep_with()
    run = begun(storage, sweep)
    drive(run, until=14)
    running = run.next_trial(1)
    assert running is not None
    run.epoch_reported(running.trial_id, report(1, 9.0))
    run.flush()

    run = resumed(storage, sweep)
    assert list(run.live) == [running.trial_id]
    finish(run, running)
    drive(run)
    confirmations = [t.created for t in read_state(storage, SWEEP).trials.values() if t.created.confirms]
    assert len(confirmations) == 12
    assert len({(created.confirms, created.config["seed"]) for created in confirmations}) == 12


# ---- what is concluded


def two(tmp_path: Path, effect: float) -> Any:
    """Two configurations of which the second is better by ``effect``; each training has luck of its own too."""

    def value(config: dict[str, Any]) -> float:
        own = random.Random(f"{config['seed']}/{config['batch_size']}").gauss(0.0, 0.05)
        shared = random.Random(config["seed"]).gauss(0.0, 1.0)
        return 7.0 + shared + own - (effect if config["batch_size"] == 32 else 0.0)

    sweep = small_sweep(
        space={"batch_size": [16, 32]},
        search={"algorithm": "grid"},
        scheduler="none",
        confirm={"top": 2, "seeds": 5},
    )
    storage = local(tmp_path)
    drive(begun(storage, sweep), value=value)
    return storage


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "tie"), (0.4, "worse")])
def test_a_field_without_effect_ties_and_a_planted_difference_is_named(
    tmp_path: Path, effect: float, verdict: str
) -> None:
    state = read_state(two(tmp_path, effect), SWEEP)

    found = rows([state])

    first = next(row for row in found if row.rank == 1)
    second = next(row for row in found if row.rank == 2)
    assert (first.confirmed, first.against_first, first.seeds) == (True, None, 5)
    assert second.against_first == verdict
    assert second.note == f"confirmed, {verdict}"
    if effect:
        assert first.params["batch_size"] == 32
    # Unpaired, nothing could be said: the seeds scatter by a year.
    assert first.margin is not None
    assert first.margin > 0.5


def test_the_lucky_one_of_the_search_loses_its_rank(tmp_path: Path) -> None:
    """Best in the search by its seed alone, worst when it is trained again."""

    def value(config: dict[str, Any]) -> float:
        luck = -3.0 if (config["seed"], config["batch_size"]) == (42, 16) else config["seed"] / 100
        return config["batch_size"] * -0.1 + 20.0 + luck * (1.0 if config["seed"] != 42 else 2.0)

    sweep = small_sweep(
        space={"batch_size": [16, 32, 64]},
        search={"algorithm": "grid"},
        scheduler="none",
        confirm={"top": 2, "seeds": 3},
    )
    storage = local(tmp_path)
    run = begun(storage, sweep)
    drive(run, value=value)
    run.flush()
    state = read_state(storage, SWEEP)

    found = rows([state])

    ranked = {row.params["batch_size"]: row.rank for row in found if row.confirms is None}
    assert ranked == {64: 1, 16: 2, 32: 3}
    best = state.best()
    assert best is not None
    assert (best.created.params["batch_size"], best.created.config["seed"], best.created.repeat) == (64, 1, 0)
    assert run.best is not None
    assert run.best[0] == best.trial_id
    top = [row for row in found if row.rank == 1]
    assert [row.confirms is None for row in top] == [False, False, False, True]
    assert top[0].mean == pytest.approx(sum(row.value or 0.0 for row in top[:3]) / 3)


def test_a_configuration_that_lacks_a_seed_is_ranked_as_the_search_saw_it(tmp_path: Path) -> None:
    sweep = small_sweep(
        space={"batch_size": [16, 32]}, search={"algorithm": "grid"}, scheduler="none", confirm={"top": 2, "seeds": 2}
    )
    storage = local(tmp_path)
    run = begun(storage, sweep)
    drive(run, until=5, value=lambda config: float(config["batch_size"]))
    last = run.next_trial(1)
    assert last is not None
    run.decisions.end_trial(last.trial_id, "diverged", "loss is nan")
    run.trial_over(last.trial_id)

    found = rows([read_state(storage, SWEEP)])

    assert [(row.rank, row.note) for row in found if row.confirms is None] == [
        (1, "confirmed"),
        (2, "1 of 2 confirmations completed"),
    ]
    assert run.proposals_over


def test_the_table_lets_confirmations_speak(tmp_path: Path) -> None:
    state = read_state(two(tmp_path, 0.4), SWEEP)

    table = make_table(state, rows=["batch_size"], columns=["age_mae"], against="16")

    assert [(row.label, row.seeds) for row in table.rows] == [("16", 5), ("32", 5)]
    cell = table.rows[1].cells["best/age_mae"]
    assert cell.verdict == "better"
    assert all(state.trials[trial].created.confirms for trial in cell.trials)


def test_the_test_part_is_read_for_the_confirmed_winner_only(tmp_path: Path) -> None:
    from orchestrator.sweep import sealed

    sweep = sweep_with()
    storage = local(tmp_path)
    run = begun(storage, sweep)
    drive(run, until=14)
    assert sealed.winners(read_state(storage, SWEEP), sweep.spec) == []
    drive(run)
    state = read_state(storage, SWEEP)
    due = sealed.winners(state, sweep.spec)
    best = state.best()
    assert best is not None
    assert {trial.created.confirms for trial in due} == {best.created.confirms}
    assert [trial.created.config["seed"] for trial in due] == [1, 2, 3, 4]
