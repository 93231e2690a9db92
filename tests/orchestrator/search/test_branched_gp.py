"""The Gaussian process over branches: what it proposes, what it makes of stopped trials, and its formulas."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.search.branched_gp import BranchedGp, Known, Model, most_probable
from orchestrator.search.predicted_ends import DIVERGED
from orchestrator.search.search import Search
from orchestrator.spec.load import Sweep
from orchestrator.spec.merge import Node
from orchestrator.spec.space import Domain, Fixed, Space, Varied
from tests.parts.sweeps import small_sweep

BRANCHES: dict[str, Any] = {
    "model": [{"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}, {"name": "resnet10t"}],
    "optimizer": [
        {"name": "nadam", "lr": {"loguniform": [1.0e-5, 1.0e-1]}, "weight_decay": {"uniform": [0, 0.9]}},
        {"name": "sgd", "lr": {"loguniform": [1.0e-4, 1.0]}, "momentum": {"uniform": [0.5, 0.99]}},
    ],
    "augment": ["none", "light"],
}


def branched_sweep() -> Sweep:
    return small_sweep(space=BRANCHES, search={"algorithm": "branched_gp", "trials": 60, "seed": 7})


def make(sweep: Sweep, algorithm: str = "branched_gp", seed: int = 7) -> Search:
    return Search(sweep.space, algorithm=algorithm, seed=seed, directions=("minimize",), limit=None)


def error(config: dict[str, Any]) -> float:
    """Lowest, at 0, with nadam at 1e-3, two layers and no augmentation; its other branch has a floor of 0.5."""
    optimizer, model = config["optimizer"], config["model"]
    off = math.log10(optimizer["lr"]) - {"nadam": -3.0, "sgd": -1.0}[optimizer["name"]]
    value = off**2 + {"nadam": 0.0, "sgd": 0.5}[optimizer["name"]] + 0.2 * (config["augment"]["name"] == "light")
    value += 2 * (optimizer.get("weight_decay", 0.2) - 0.2) ** 2 + 2 * (optimizer.get("momentum", 0.9) - 0.9) ** 2
    return value + 0.3 * (model.get("conv_layers", 6) - 2)


def drive(search: Search, numbers: range, *, threshold: float = 1.0) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each in turn; after its first epoch of two, whose value is the later one and 2 more, a poor one is stopped."""
    done = []
    for number in numbers:
        suggestion = search.propose(number)
        config = suggestion.proposal.config.to_document()
        done.append((config, json.loads(json.dumps(suggestion.record))))
        tell(search, number, config, threshold)
    return done


def tell(search: Search, number: int, config: dict[str, Any], threshold: float = 1.0) -> None:
    value = error(config)
    search.report(number, 1, value + 2)
    if value > threshold:
        search.finish(number, "pruned", [value + 2])
    else:
        search.report(number, 2, value)
        search.finish(number, "completed", [value])


@pytest.mark.slow
def test_the_best_is_found_across_branches_with_most_trials_stopped_early() -> None:
    def best(algorithm: str) -> float:
        sweep, found = branched_sweep(), []
        for seed in range(3):
            configs = [config for config, _ in drive(make(sweep, algorithm, seed), range(40))]
            found.append(min(error(config) for config in configs))
        return statistics.median(found)

    assert best("branched_gp") < 0.1 < best("random")


@pytest.mark.parametrize("cut", [4, 12, 17])
def test_a_restored_one_proposes_what_the_undisturbed_one_would(cut: int) -> None:
    sweep = branched_sweep()
    whole = drive(make(sweep), range(20))
    restored = make(sweep)
    for number, (config, record) in enumerate(whole[:cut]):
        restored.restore(number, record)
        tell(restored, number, config)
    assert drive(restored, range(cut, 20)) == whole[cut:]


def test_no_configuration_is_proposed_twice_while_others_are_left() -> None:
    space = {
        "augment": ["none", "light", "flip_contrast"],
        "batch_size": [16, 32, 64],
        "model": ["basic_cnn", "resnet10t"],
    }
    sweep = small_sweep(space=space, search={"algorithm": "branched_gp", "trials": 18, "seed": 1}, scheduler="none")
    search = make(sweep)
    drawn = [json.dumps(search.propose(number).proposal.params) for number in range(10)]
    for number in range(10):
        search.report(number, 1, float(number))
        search.finish(number, "completed", [float(number)])
    proposed = []
    for number in range(10, 10 + 18 - len(set(drawn))):
        proposed.append(json.dumps(search.propose(number).proposal.params))
        search.report(number, 1, 5.0)
        search.finish(number, "completed", [5.0])
    assert len(set(drawn) | set(proposed)) == 18
    search.propose(10 + len(proposed))  # all are known: drawn again


LINE = Space({None: Node({}, ())}, Varied("x", Domain("float", low=0.0, high=1.0), ()))
X = {"x": FloatDistribution(0.0, 1.0)}


def trial(x: float, state: TrialState, *values: float, **more: Any) -> FrozenTrial:
    """As Optuna keeps it: a stopped one has its last value."""
    return create_trial(
        state=state,
        value=values[-1] if values and state != TrialState.RUNNING else None,
        params={"x": x},
        distributions=X,
        intermediate_values=dict(enumerate(values, start=1)),
        **more,
    )


def numbered(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    study = optuna.create_study()
    study.add_trials(trials)
    return study.trials


def proposals(*trials: FrozenTrial) -> list[float]:
    """What several seeds propose, after ``trials``."""
    found = []
    for seed in range(8):
        point = BranchedGp(LINE, direction="minimize", seed=seed).propose(numbered(trials))
        assert point is not None
        found.append(point["x"])
    return found


VALLEY = [trial(x, TrialState.COMPLETE, 9.0 + (x - 0.3) ** 2, (x - 0.3) ** 2) for x in (0.0, 0.15, 0.5, 0.7, 0.85, 1.0)]


def test_a_valley_between_known_points_is_gone_to() -> None:
    assert statistics.median(proposals(*VALLEY)) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.RUNNING])
def test_a_stopped_or_running_trial_counts_with_its_predicted_end(state: TrialState) -> None:
    """Those that ended improved by 9 after their first epoch, so these come to less than they and lie in a valley."""
    ended = [trial(x, TrialState.COMPLETE, 9 + value, value) for x, value in ((0.0, 3.0), (0.15, 2.0), (0.3, 1.0))]
    found = proposals(*ended, trial(0.5, state, 9.5), trial(0.65, state, 10.5))
    assert 0.3 < statistics.median(found) < 0.65


def test_where_an_answer_is_under_way_others_are_sent_elsewhere() -> None:
    alone = proposals(*VALLEY)
    running = trial(statistics.median(alone), TrialState.RUNNING)

    def distance(points: list[float]) -> float:
        return statistics.median(abs(x - running.params["x"]) for x in points)

    assert distance(proposals(*VALLEY, running)) > 2 * distance(alone)


def test_a_point_that_diverged_keeps_others_away() -> None:
    near = [trial(x, TrialState.PRUNED, user_attrs={DIVERGED: True}) for x in (0.25, 0.3, 0.35)]
    assert all(not 0.24 < x < 0.36 for x in proposals(*VALLEY, *near))


def test_fewer_than_three_answers_make_no_model() -> None:
    search = BranchedGp(LINE, direction="minimize", seed=0)
    assert search.propose(numbered([*VALLEY[:2], trial(0.4, TrialState.RUNNING)])) is None


def test_a_value_on_a_branch_stands_there_only() -> None:
    inner = Varied("kind[b].x", Domain("float", low=0.0, high=1.0), ())
    kind = Varied("kind", Domain("categorical", ("a", "b")), (), options=(Fixed(Node({}, ())), inner))
    distributions = {"kind": CategoricalDistribution(("a", "b")), "kind[b].x": FloatDistribution(0.0, 1.0)}
    trials = [
        create_trial(
            state=TrialState.COMPLETE, value=0.1, params={"kind": "a"}, distributions={"kind": distributions["kind"]}
        ),
        *(
            create_trial(
                state=TrialState.COMPLETE, value=x, params={"kind": "b", "kind[b].x": x}, distributions=distributions
            )
            for x in (0.2, 0.5, 0.8)
        ),
    ]
    space = Space({None: Node({}, ())}, kind)
    point = BranchedGp(space, direction="maximize", seed=0).propose(numbered(trials))
    assert point is not None
    assert point["kind"] == "b"
    assert point["kind[b].x"] > 0.8


# ---- near a known configuration


def test_the_more_are_known_of_the_same_labels_the_nearer_another_may_be() -> None:
    distributions = {"kind": CategoricalDistribution(("a", "b")), "x": FloatDistribution(0.0, 1.0)}

    def known(*places: float) -> Known:
        return Known([{"kind": "a", "x": x} for x in places], distributions)

    at = {"kind": "a", "x": 0.7}
    assert not known(0.5).far_from(at)
    assert known(0.5, 0.0).far_from(at)
    assert known(0.5).far_from({"kind": "b", "x": 0.5})
    assert not known(0.5, 0.0).far_from({"kind": "a", "x": 0.5})


def test_a_difference_in_one_number_of_several_is_enough() -> None:
    distributions = {name: FloatDistribution(0.0, 1.0) for name in "xy"}
    known = Known([{"x": 0.5, "y": 0.5}], distributions)
    assert known.far_from({"x": 0.5, "y": 0.9})
    assert not known.far_from({"x": 0.7, "y": 0.7})


def test_configurations_of_labels_alone_are_known_or_not() -> None:
    known = Known([{"kind": "a"}], {"kind": CategoricalDistribution(("a", "b"))})
    assert not known.far_from({"kind": "a"})
    assert known.far_from({"kind": "b"})


# ---- formulas


POINTS = np.array([[-1.0], [-0.4], [0.1], [0.6], [1.0]])
VALUES = np.array([3.0, 1.0, 0.4, 1.2, 2.5])


def test_expected_improvement_is_the_mean_improvement_of_draws() -> None:
    model = Model.of(POINTS, VALUES)
    candidates = np.array([[-0.1], [0.3], [0.8]])
    mean, covariance = model.regressor.predict(candidates, return_cov=True)
    variance = np.diag(covariance) - model.regressor.kernel_.k2.noise_level
    draws = np.random.default_rng(0).normal(mean, np.sqrt(np.maximum(variance, 0)), size=(400_000, 3))
    best = model.regressor.predict(POINTS).min()
    by_draws = np.maximum(best - draws, 0).mean(axis=0)
    assert model.expected_improvement(candidates) == pytest.approx(by_draws, abs=3e-3)


def test_the_scales_are_those_of_the_highest_posterior() -> None:
    """Against a scan of a known function under the same prior: means 0 (variance), 0.7 (lengths), log 0.05 (noise)."""
    target = np.array([0.5, 0.2, -2.0])

    def objective(scales: np.ndarray) -> tuple[float, np.ndarray]:
        return float(2 * ((scales - target) ** 2).sum()), 4 * (scales - target)

    found, value = most_probable(objective, np.zeros(3), np.array([[-3.0, 3.0], [-3.0, 3.0], [-9.0, 0.0]]))
    expected = np.array([0.0, 0.7, math.log(0.05)])
    grid = np.linspace(-4, 2, 6001)
    for column in range(3):
        loss = 2 * (grid - target[column]) ** 2 + 0.5 * (grid - expected[column]) ** 2
        assert found[column] == pytest.approx(grid[loss.argmin()], abs=2e-3)
    assert value == pytest.approx(objective(found)[0] + 0.5 * ((found - expected) ** 2).sum())
