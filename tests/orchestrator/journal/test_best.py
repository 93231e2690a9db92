"""Which trial is best: the rule by hand, and every place that ranks trials or names the best one, which follow it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.objective import Direction, Objective
from orchestrator.cleanup.retention import not_needed
from orchestrator.cli.driving import print_result, result_document
from orchestrator.cli.main import app
from orchestrator.cli.render.progress import Progress
from orchestrator.journal.best import Best, Configuration, Leader, configurations, ranking, winner
from orchestrator.journal.events import Event, SweepStarted, TrialCreated, TrialEnded, TrialReported
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.ray_tune.driver import SweepResult
from orchestrator.results.leaderboard import rows
from orchestrator.results.trial_metrics import against_baseline
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.storage import layout
from orchestrator.storage.base import ObjectInfo, Storage
from orchestrator.sweep.run import SweepRun
from orchestrator.sweep.sealed import winners
from orchestrator.tracking.delivery import Syncer
from tests.parts.sweeps import local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"


# ---- the rule, by hand


class Trial:
    def __init__(self, configuration: int, seed: int, result: tuple[float, ...], confirms: str | None) -> None:
        self.trial_id = f"{configuration}/{seed}{'' if confirms is None else ' again'}"
        self.seed, self.result, self.confirms = seed, result, confirms


def found(
    searched: Sequence[Sequence[float | None]], confirmed: dict[int, Sequence[float | None]] | None = None
) -> list[Configuration[Trial]]:
    """Configurations with the values of their seeds, and of their fresh seeds; None: the trial did not complete."""

    def trial(configuration: int, seed: int, value: float | None, confirms: str | None = None) -> tuple[int, Trial]:
        return configuration, Trial(configuration, seed, () if value is None else (value,), confirms)

    trials = [trial(c, seed, value) for c, values in enumerate(searched) for seed, value in enumerate(values)]
    again = confirmed or {}
    trials += [trial(c, seed, value, f"{c}/0") for c, values in again.items() for seed, value in enumerate(values)]
    fresh = max((len(values) for values in again.values()), default=0)
    return configurations(trials, seeds=max(map(len, searched), default=1), confirm_seeds=fresh)


def order_of(given: list[Configuration[Trial]], direction: Direction = "minimize") -> list[str]:
    return [place.configuration.best.trial_id for place in ranking(given, (direction,))]


def test_the_mean_over_the_seeds_ranks_and_the_first_seed_stands_for_them() -> None:
    given = found([[4.0, 9.0], [5.2, 5.0]])
    assert order_of(given) == ["1/0", "0/0"]
    assert order_of(given, "maximize") == ["0/0", "1/0"]
    best = winner(given, ("minimize",))
    assert best is not None
    assert best.best == Best("1/0", (5.1,))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_of_equal_configurations_the_one_created_first_is_better(direction: Direction) -> None:
    given = found([[7.0, 5.0], [6.0, 6.0], [5.0, 7.0]])
    assert order_of(given, direction) == ["0/0", "1/0", "2/0"]
    assert winner(given, (direction,)) is given[0]


def test_a_configuration_that_lacks_a_seed_has_no_rank() -> None:
    assert order_of(found([[1.0, None], [9.0, 9.0], [None, None]])) == ["1/0"]
    assert order_of(found([[1.0], [9.0, 9.0]])) == ["1/0"], "its second seed was not created yet"
    assert winner(found([[1.0, None]]), ("minimize",)) is None
    assert winner([], ("minimize",)) is None


def test_the_confirmed_come_first_judged_by_their_fresh_seeds_alone() -> None:
    given = found([[1.0], [2.0], [3.0], [0.5]], {0: [6.0, 8.0], 1: [6.5, 6.5], 2: [1.0, None]})
    assert order_of(given) == ["1/0 again", "0/0 again", "3/0", "2/0"]
    best = winner(given, ("minimize",))
    assert best is not None
    assert best.best == Best("1/0 again", (6.5,))


# ---- every journal, every reader


PARTS = {
    "minimize": [Objective(metric="val/age_mae", direction="minimize")],
    "maximize": [Objective(metric="val/age_mae", direction="maximize")],
    "both": [
        Objective(metric="val/age_mae", direction="minimize"),
        Objective(metric="val/gender_acc", direction="maximize"),
    ],
}
# Few different values, so that ties are common.
VALUE = st.integers(0, 3).map(float)
OUTCOME = st.sampled_from(["completed", "completed", "completed", "pruned", "failed", None])


def started(objectives: Sequence[Objective], seeds: int, confirm_seeds: int) -> SweepStarted:
    document: dict[str, Any] = {"name": "small"}
    if seeds > 1:
        document["repeat"] = {"seeds": seeds}
    if confirm_seeds:
        document["confirm"] = {"top": 9, "seeds": confirm_seeds}
    return SweepStarted(
        time=0.0,
        sweep_id=SWEEP,
        name="small",
        experiment="small",
        objective=objectives[0],
        further=tuple(objectives[1:]),
        document=document,
        provenance={},
    )


@st.composite
def journals(draw: st.DrawFn) -> list[Event]:
    """A sweep whose trials end in any order and with any outcome, some never."""
    objectives = PARTS[draw(st.sampled_from(sorted(PARTS)))]
    seeds = draw(st.integers(1, 3)) if len(objectives) == 1 else 1
    confirm_seeds = draw(st.sampled_from([0, 2, 3])) if len(objectives) == seeds == 1 else 0
    events: list[Event] = [started(objectives, seeds, confirm_seeds)]
    numbers = iter(range(1000))

    def create(configuration: int, repeat: int, seed: int, confirms: str | None = None) -> str:
        number = next(numbers)
        config = {"seed": seed, "schedule": {"name": "constant", "epochs": 1}, "model": {"name": "basic_cnn"}}
        created = {"configuration": configuration, "repeat": repeat, "confirms": confirms, "config": config}
        data = {"data_uri": "/data", "data_digest": "d", "split_digest": "s", "config_digest": str(configuration)}
        fixed: dict[str, Any] = {"time": 1.0, "params": {}, "proposal": {}, **data, **created}
        events.append(TrialCreated(trial_id=f"t{number}", number=number, **fixed))
        return f"t{number}"

    def end(trials: Sequence[str]) -> list[str]:
        completed = []
        for trial in draw(st.permutations(trials)):
            outcome = draw(OUTCOME)
            if outcome is None:
                continue
            values = tuple(draw(VALUE) for _ in objectives)
            metrics = {"val/age_mae": values[0], "val/gender_acc": values[-1]}
            reported = TrialReported(
                time=2.0, trial_id=trial, attempt=0, epoch=1, value=values[0], metrics=metrics, finished=True
            )
            ended = TrialEnded(
                time=2.0,
                trial_id=trial,
                outcome=outcome,
                epochs=1,
                value=values[0],
                values=values if len(values) > 1 else (),
                best_epoch=1,
                attempt=0,
            )
            events.extend([reported, ended])
            completed += [trial] * (outcome == "completed")
        return completed

    searched = [(c, repeat) for c in range(draw(st.integers(0, 5))) for repeat in range(seeds)]
    trials = {create(c, repeat, repeat): c for c, repeat in searched}
    completed = end(list(trials))
    if confirm_seeds:
        chosen = [trial for trial in completed if draw(st.booleans())]
        again = [create(trials[trial], r, 100 + r, trial) for r in range(confirm_seeds) for trial in chosen]
        end(again)
    return events


def by_hand(state: SweepState) -> tuple[set[str], tuple[float, ...]] | None:
    """Trials and value of the best configuration, by the documented rule, in fractions and without sorting."""
    best: tuple[tuple[Any, ...], set[str], tuple[float, ...]] | None = None
    for number in sorted({trial.created.configuration for trial in state.trials.values()}):
        mine = [trial for trial in state.trials.values() if trial.created.configuration == number]
        search = [trial for trial in mine if trial.created.confirms is None]
        fresh = [trial for trial in mine if trial.created.confirms is not None and trial.outcome == "completed"]
        if [trial.outcome for trial in search] != ["completed"] * state.started.seeds:
            continue
        is_confirmed = bool(fresh) and len(fresh) == state.started.confirm_seeds
        judges = fresh if is_confirmed else search
        means = [
            sum(Fraction(trial.ended.point[place]) for trial in judges if trial.ended is not None) / len(judges)
            for place in range(len(state.started.objectives))
        ]
        signs = [1 if direction == "minimize" else -1 for direction in state.started.directions]
        key = (not is_confirmed, *(sign * mean for sign, mean in zip(signs, means, strict=True)))
        if best is None or key < best[0]:
            best = key, {trial.trial_id for trial in judges}, tuple(map(float, means))
    return None if best is None else (best[1], best[2])


@given(journals())
def test_all_that_name_a_best_trial_name_the_same_one(events: list[Event]) -> None:
    first = events[0]
    assert isinstance(first, SweepStarted)
    state = SweepState.from_events(events)
    leader = Leader(first)
    for event in events:
        leader.apply(event)
    expected = by_hand(state)
    board = [row for row in rows([state]) if row.rank is not None]
    progress = Progress(first, None, Console(quiet=True))
    progress.recall(state)
    keys = {trial: f"{layout.attempt(SWEEP, trial, 0)}/best/000001.safetensors" for trial in state.trials}
    objects = [ObjectInfo(key, 1, 0.0) for key in keys.values()]
    removed = {info.key for info in not_needed(state, objects, keep=1, over=True)}
    kept = {trial for trial, key in keys.items() if key not in removed and state.trials[trial].ended is not None}

    if expected is None:
        assert (leader.best, state.best(), state.winner(), board, kept) == (None, None, None, [], set())
        assert progress._best() == []
        return
    judges, point = expected
    assert leader.best is not None
    assert leader.best.trial_id in judges
    assert leader.best.point == pytest.approx(point)
    best = state.winner()
    assert best is not None
    assert best.best == leader.best
    assert {trial.trial_id for trial in best.judged} == judges
    assert (board[0].rank, board[0].trial_id) == (1, leader.best.trial_id)
    assert judges <= {row.trial_id for row in board if row.rank == 1}
    assert [place.configuration.best.trial_id for place in state.ranking()] == [
        next(row.trial_id for row in board if row.rank == rank) for rank in range(1, len(state.ranking()) + 1)
    ]
    assert progress._best()[0].trial_id == leader.best.trial_id
    assert judges <= kept == {row.trial_id for row in board if row.rank == 1}


# ---- one sweep, read by everything


LUCKY, STEADY = 16, 32
VALUES = {(LUCKY, 42): 4.0, (LUCKY, 43): 9.0, (STEADY, 42): 5.0, (STEADY, 43): 5.2}


@pytest.fixture
def run(tmp_path: Path) -> SweepRun:
    """A finished sweep of two configurations with two seeds each: a lucky one, and the better one."""
    run = make_run(local(tmp_path), repeated(), seeds=2)
    run.begin()
    while not run.proposals_over:
        created = run.next_trial(1)
        assert created is not None
        value = VALUES[created.config["batch_size"], created.config["seed"]]
        run.attempt_started(created.trial_id, "here")
        run.epoch_reported(created.trial_id, report(1, value, finished=True))
        run.trial_over(created.trial_id)
    run.baseline_measured("s" * 64, {"val/age_mae": 15.0})
    run.end("completed")
    return run


def repeated() -> Any:
    space, search = {"batch_size": [LUCKY, STEADY]}, {"algorithm": "grid"}
    return small_sweep(space=space, search=search, scheduler="none", repeat={"seeds": 2})


@pytest.fixture
def storage(run: SweepRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    storage = local(tmp_path)
    monkeypatch.setenv("AGR_STORAGE", storage.uri)
    return storage


@pytest.fixture
def steady(storage: Storage) -> list[str]:
    """IDs of the trials of the better configuration."""
    return [each.trial_id for each in trials_of(storage) if each.created.params["batch_size"] == STEADY]


def trials_of(storage: Storage) -> list[TrialState]:
    return list(read_state(storage, SWEEP).trials.values())


def result_of(run: SweepRun) -> SweepResult:
    return SweepResult(
        sweep_id=SWEEP, status="completed", reason="", counts={"completed": 4}, best=run.best, wall_s=1.0
    )


def agr(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_submit_names_the_better_configuration(
    run: SweepRun, storage: Storage, steady: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert result_document(result_of(run), None)["best"] == {"trial_id": steady[0], "value": pytest.approx(5.1)}
    print_result(result_of(run), storage)
    said = capsys.readouterr().out
    assert f"best: {steady[0]} with val/age_mae 5.1 (mean of 2 seeds)\n" in said
    assert "best, mean of 2 seeds     age_mae 5.1 " in said
    assert against_baseline(read_state(storage, SWEEP)) == {"age_mae": (pytest.approx(5.1), 15.0)}


def test_list_and_status_name_the_better_configuration(storage: Storage, steady: list[str]) -> None:
    [listed] = json.loads(agr("list", "--json"))
    assert listed["best"] == {"trial_id": steady[0], "value": pytest.approx(5.1)}
    assert json.loads(agr("status", SWEEP, "--json"))["best"] == listed["best"]
    assert f"val/age_mae 5.1 by trial {steady[0]}" in agr("status", SWEEP)
    assert re.search(rf"\b5\.1 .*{steady[0]}", agr("list"))


def test_the_leaderboard_has_the_better_configuration_first(
    storage: Storage, steady: list[str], embedded_mlflow: None
) -> None:
    board = json.loads(agr("leaderboard", SWEEP, "--json"))
    assert [row["rank"] for row in board] == [1, 1, 2, 2]
    assert [row["trial_id"] for row in board[:2]] == steady


def test_mlflow_has_the_better_configuration_first(storage: Storage, steady: list[str]) -> None:
    tracker = MemoryTracker()
    Syncer(storage, tracker, SWEEP).run_once()
    runs = {run.tags.get("agr.trial_id"): run.tags for run in tracker.all_runs.values()}
    assert (runs[None]["agr.best_trial"], runs[None]["agr.best_value"]) == (steady[0], "5.1")
    assert sorted(trial for trial, tags in runs.items() if tags.get("agr.rank") == "1") == sorted(steady)


def test_the_test_part_is_read_for_every_seed_of_the_better_configuration(storage: Storage, steady: list[str]) -> None:
    assert [trial.trial_id for trial in winners(read_state(storage, SWEEP), repeated().spec)] == steady


def test_the_weights_of_the_better_configuration_are_kept(storage: Storage, steady: list[str]) -> None:
    folders = {trial.trial_id: layout.attempt(SWEEP, trial.trial_id, 0) for trial in trials_of(storage)}
    objects = [ObjectInfo(layout.best_weights(folder, 1), 1, 0.0) for folder in folders.values()]
    removed = {info.key for info in not_needed(read_state(storage, SWEEP), objects, keep=1, over=True)}
    assert {trial for trial, folder in folders.items() if layout.best_weights(folder, 1) not in removed} == set(steady)


def test_while_the_second_seed_is_missing_no_trial_is_best(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), repeated(), seeds=2)
    run.begin()
    for number in range(2):
        assert run.best is None
        created = run.next_trial(1)
        assert created is not None
        run.epoch_reported(created.trial_id, report(1, 4.0 + number, finished=True))
        run.trial_over(created.trial_id)
    assert run.best is not None
    assert run.best.point == (4.5,)
