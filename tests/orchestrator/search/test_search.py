from __future__ import annotations

import json
import math
import random
import statistics
from typing import Any

import pytest
from optuna.trial import TrialState

from orchestrator.journal.outcome import Outcome
from orchestrator.search import search as search_module
from orchestrator.search.predicted_ends import DIVERGED
from orchestrator.search.search import Search
from orchestrator.spec.load import Sweep
from tests.parts.sweeps import small_sweep


def make(sweep: Sweep, algorithm: str = "tpe", seed: int = 7, limit: int | None = None) -> Search:
    return Search(sweep.space, algorithm=algorithm, seed=seed, directions=("minimize",), limit=limit)


def score(config: dict[str, Any]) -> float:
    """Best at learning rate 1e-3 with nadam."""
    optimizer = config["optimizer"]
    return abs(math.log10(optimizer["lr"]) + 3) + (1.0 if optimizer["name"] == "sgd" else 0.0)


def drive(search: Search, numbers: range, *, prune: bool = True) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Propose, report and end each configuration in turn."""
    done = []
    for number in numbers:
        suggestion = search.propose(number)
        config = suggestion.proposal.config.to_document()
        value = score(config)
        search.report(number, 1, value)
        if prune and value > 1.5:
            search.finish(number, "pruned", [value])
        else:
            search.report(number, 3, value)
            search.finish(number, "completed", [value])
        done.append((config, json.loads(json.dumps(suggestion.record))))
    return done


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_equal_seeds_propose_equal_configurations(algorithm: str) -> None:
    sweep = small_sweep()
    first = drive(make(sweep, algorithm), range(25))
    assert drive(make(sweep, algorithm), range(25)) == first
    assert drive(make(sweep, algorithm, seed=8), range(25)) != first


@pytest.mark.parametrize("cut", [3, 14, 24])
def test_a_restored_search_proposes_what_the_undisturbed_one_would(cut: int) -> None:
    sweep = small_sweep()
    whole = drive(make(sweep), range(30))

    restored = make(sweep)
    for number, (config, record) in enumerate(whole[:cut]):
        restored.restore(number, record)
        value = score(config)
        restored.report(number, 1, value)
        if value > 1.5:
            restored.finish(number, "pruned", [value])
        else:
            restored.report(number, 3, value)
            restored.finish(number, "completed", [value])
    assert drive(restored, range(cut, 30)) == whole[cut:]


def test_a_restored_search_knows_the_configurations_that_are_still_running() -> None:
    sweep = small_sweep()
    live = make(sweep)
    before = drive(live, range(12))
    running = live.propose(12)
    live.report(12, 1, 0.3)
    expected = live.propose(13).proposal

    restored = make(sweep)
    for number, (config, record) in enumerate(before):
        restored.restore(number, record)
        restored.report(number, 1, score(config))
        outcome = "pruned" if score(config) > 1.5 else "completed"
        if outcome == "completed":
            restored.report(number, 3, score(config))
        restored.finish(number, outcome, [score(config)])
    restored.restore(12, json.loads(json.dumps(running.record)))
    restored.report(12, 1, 0.3)
    assert restored.propose(13).proposal == expected


def test_tpe_finds_the_good_branch_more_often_than_random() -> None:
    sweep = small_sweep()

    def good(algorithm: str) -> int:
        configs = [config for config, _ in drive(make(sweep, algorithm), range(80))]
        return sum(score(config) < 0.5 for config in configs[40:])

    assert good("tpe") > good("random") + 5


def test_a_pruned_configuration_is_not_taken_for_a_good_one() -> None:
    """Pruned trials whose first epoch looked excellent must not draw the search to them."""
    sweep = small_sweep()
    search = make(sweep)
    for number in range(60):
        config = search.propose(number).proposal.config.to_document()
        bad = config["optimizer"]["name"] == "sgd"
        search.report(number, 1, 5.0 if bad else 1.0)
        if bad:
            search.finish(number, "pruned", [5.0])
        else:
            search.finish(number, "completed", [1.0])
    names = [search.propose(number).proposal.config.optimizer.name for number in range(60, 90)]
    assert names.count("sgd") < names.count("nadam")


def test_grid_proposes_every_point_once() -> None:
    sweep = small_sweep(
        space={"batch_size": [16, 32, 64], "sampler": ["shuffle", {"name": "weighted", "by": ["age", "race"]}]},
        search={"algorithm": "grid"},
    )
    search = make(sweep, "grid")
    assert search.limit == 9
    configs = {json.dumps(search.propose(n).proposal.config.to_document(), sort_keys=True) for n in range(9)}
    assert len(configs) == 9
    assert search.exhausted(9)
    assert not search.exhausted(8)


def test_the_history_is_bounded_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "HISTORY", 40)
    sweep = small_sweep()
    search = make(sweep, "tpe")
    done = drive(search, range(130))
    trials = search._study.get_trials(deepcopy=False)
    assert len(trials) < 80
    best = min(score(config) for config, _ in done[:120])
    assert min(t.value for t in trials if t.value is not None) == pytest.approx(best)


def test_a_restored_search_bounds_its_history_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "HISTORY", 20)
    sweep = small_sweep()
    whole = drive(make(sweep), range(50), prune=False)
    restored = make(sweep)
    for number, (config, record) in enumerate(whole[:45]):
        restored.restore(number, record)
        for epoch in (1, 3):
            restored.report(number, epoch, score(config))
        restored.finish(number, "completed", [score(config)])
    assert drive(restored, range(45, 50), prune=False) == whole[45:]


def test_both_ends_of_an_integer_domain_are_proposed() -> None:
    sweep = small_sweep(space={"model": {"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}})
    search = make(sweep, "random")
    layers = {search.propose(number).proposal.config.model.conv_layers for number in range(40)}
    assert layers == {2, 3, 4}


# ---- start

START = [
    {"optimizer": {"name": "nadam", "lr": 2.0e-3}},
    {"model": {"name": "basic_cnn", "conv_layers": 4}, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
]


def started(algorithm: str = "tpe", trials: int = 30) -> Search:
    sweep = small_sweep(search={"algorithm": algorithm, "trials": trials, "seed": 7, "start": START})
    return Search(sweep.space, algorithm=algorithm, seed=7, directions=("minimize",), limit=trials, start=sweep.start)


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_the_start_is_proposed_first_and_what_it_leaves_open_is_drawn(algorithm: str) -> None:
    done = drive(started(algorithm), range(6))
    first, second = done[0][0], done[1][0]

    assert (first["optimizer"]["name"], first["optimizer"]["lr"]) == ("nadam", 2.0e-3)
    assert first["model"]["name"] in ("basic_cnn", "resnet10t")
    assert (second["model"]["conv_layers"], second["optimizer"]["momentum"]) == (4, 0.9)
    assert len({json.dumps(config, sort_keys=True) for config, _ in done}) == 6


@pytest.mark.parametrize("cut", [1, 2, 16])
def test_a_restored_search_with_a_start_proposes_what_the_undisturbed_one_would(cut: int) -> None:
    whole = drive(started(), range(24), prune=False)
    restored = started()
    for number, (config, record) in enumerate(whole[:cut]):
        restored.restore(number, record)
        for epoch in (1, 3):
            restored.report(number, epoch, score(config))
        restored.finish(number, "completed", [score(config)])

    assert drive(restored, range(cut, 24), prune=False) == whole[cut:]


def test_the_search_knows_how_its_start_did() -> None:
    """Equal searches whose starts did differently go on differently, once there is a model."""

    def go_on(second_is_better: bool) -> list[Any]:
        search = started()
        for number, value in enumerate([1.0, -5.0 if second_is_better else 50.0]):
            search.propose(number)
            search.finish(number, "completed", [value])
        return drive(search, range(2, 15), prune=False)

    better, worse = go_on(True), go_on(False)
    assert better[:8] == worse[:8]
    assert better[8:] != worse[8:]


# ---- gp


def smooth(search: Search, numbers: range) -> list[tuple[dict[str, Any], dict[str, Any], float]]:
    """Configurations of a smooth bowl, best at learning rate 1e-3 and no smoothing of labels."""
    done = []
    for number in numbers:
        suggestion = search.propose(number)
        config = suggestion.proposal.config.to_document()
        value = bowl(config)
        search.report(number, 1, value)
        search.finish(number, "completed", [value])
        done.append((config, json.loads(json.dumps(suggestion.record)), value))
    return done


def bowl(config: dict[str, Any]) -> float:
    return float(
        (math.log10(config["optimizer"]["lr"]) + 3) ** 2 + 9 * (config["optimizer"]["weight_decay"] - 0.3) ** 2
    )


def smooth_sweep() -> Sweep:
    optimizer = {"name": "nadam", "lr": {"loguniform": [1.0e-5, 1.0e-1]}, "weight_decay": {"uniform": [0.0, 0.9]}}
    search = {"algorithm": "gp", "trials": 24, "seed": 7}
    return small_sweep(space={"optimizer": optimizer, "augment": ["none", "light"]}, search=search, scheduler="none")


@pytest.mark.slow
def test_gp_finds_the_bottom_of_a_bowl_and_a_restored_one_proposes_the_same() -> None:
    sweep = smooth_sweep()
    whole = smooth(make(sweep, "gp"), range(18))
    by_chance = smooth(make(sweep, "random"), range(18))
    assert whole[:10] == by_chance[:10]
    assert min(value for *_, value in whole[10:]) < 0.01 < min(value for *_, value in by_chance)

    restored = make(sweep, "gp")
    for number, (_, record, value) in enumerate(whole[:16]):
        restored.restore(number, record)
        restored.report(number, 1, value)
        restored.finish(number, "completed", [value])
    assert smooth(restored, range(16, 18)) == whole[16:]


@pytest.mark.slow
def test_of_a_smooth_space_gp_finds_the_bottom_and_branched_gp_is_nearer_to_it_than_chance() -> None:
    """Why there are two (docs/decisions/0012)."""

    def above_the_bottom(algorithm: str) -> float:
        found = []
        for seed in range(5):
            search = make(smooth_sweep(), algorithm, seed=seed)
            found.append(min(value for *_, value in smooth(search, range(20))))
        return statistics.median(found)

    assert above_the_bottom("gp") < above_the_bottom("branched_gp") / 10 < above_the_bottom("random") / 10


# ---- several workers


def with_five_workers(search: Search, trials: int) -> list[tuple[Any, ...]]:
    """What happens, in order, when five run at once and are heard of in turns: proposals, rung values, ends."""
    chance, log, running, number = random.Random(5), [], {}, 0
    while number < trials or running:
        if number < trials and len(running) < 5:
            suggestion = search.propose(number)
            config = suggestion.proposal.config.to_document()
            log.append(("proposed", number, config, json.loads(json.dumps(suggestion.record))))
            running[number] = [score(config), 0]
            number += 1
            continue
        heard = chance.choice(sorted(running))
        value, epoch = running[heard][0], running[heard][1] + 1
        running[heard][1] = epoch
        log.append(("reported", heard, epoch, value + 1 / epoch))
        search.report(*log[-1][1:])
        if epoch == 3 or value > 1.5:
            log.append(("ended", heard, "completed" if epoch == 3 else "pruned", [value + 1 / epoch]))
            search.finish(*log[-1][1:])
            del running[heard]
    return log


def test_a_search_restored_among_five_workers_proposes_the_same() -> None:
    """With rung values of pruned trials, and trials that run at the cut."""
    sweep = small_sweep()
    log = with_five_workers(make(sweep), 30)
    for cut in (len(log) // 2, len(log) - 12):
        restored = make(sweep)
        for place, (what, number, *rest) in enumerate(log):
            if what == "reported":
                restored.report(number, *rest)
            elif what == "ended":
                restored.finish(number, *rest)
            elif place < cut:
                restored.restore(number, rest[1])
            else:
                assert restored.propose(number).proposal.config.to_document() == rest[0]


@pytest.mark.parametrize(
    ("outcome", "state", "diverged"),
    [
        ("completed", TrialState.COMPLETE, False),
        ("pruned", TrialState.PRUNED, False),
        ("diverged", TrialState.PRUNED, True),  # as a failure it would be forgotten, and proposed again
        ("failed", TrialState.FAIL, False),
        ("interrupted", TrialState.FAIL, False),
    ],
)
def test_the_study_receives_each_outcome(outcome: Outcome, state: TrialState, diverged: bool) -> None:
    search = make(small_sweep())
    search.propose(0)
    search.report(0, 1, 2.0)
    search.finish(0, outcome, [2.0])
    (trial,) = search._study.trials
    assert (trial.state, bool(trial.user_attrs.get(DIVERGED))) == (state, diverged)


def test_a_configuration_that_completed_without_a_value_is_told_as_failed() -> None:
    search = make(small_sweep())
    search.propose(0)
    search.finish(0, "completed", [])
    assert [trial.state for trial in search._study.trials] == [TrialState.FAIL]
