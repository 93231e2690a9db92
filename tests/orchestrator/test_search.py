from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator import search as search_module
from orchestrator.search import Search
from orchestrator.spec.load import Sweep
from sweeps import small_sweep


def make(sweep: Sweep, algorithm: str = "tpe", seed: int = 7, limit: int | None = None) -> Search:
    return Search(sweep.space, algorithm=algorithm, seed=seed, direction="minimize", limit=limit)


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
            search.finish(number, "pruned", value)
        else:
            search.report(number, 3, value)
            search.finish(number, "completed", value)
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
            restored.finish(number, "pruned", value)
        else:
            restored.report(number, 3, value)
            restored.finish(number, "completed", value)
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
        restored.finish(number, outcome, score(config))
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
            search.finish(number, "pruned", 5.0)
        else:
            search.finish(number, "completed", 1.0)
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
        restored.finish(number, "completed", score(config))
    assert drive(restored, range(45, 50), prune=False) == whole[45:]


def test_both_ends_of_an_integer_domain_are_proposed() -> None:
    sweep = small_sweep(space={"model": {"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}})
    search = make(sweep, "random")
    layers = {search.propose(number).proposal.config.model.conv_layers for number in range(40)}
    assert layers == {2, 3, 4}
