"""What a folded journal holds of the configurations of its trials."""

from __future__ import annotations

from typing import Any

from agr_core.objective import Objective
from orchestrator.journal.events import SweepStarted, TestRead, TrialCreated
from orchestrator.journal.sweep_state import SweepState

STARTED = SweepStarted(
    time=0.0,
    sweep_id="state-20260101-000000-abcd",
    name="state",
    experiment="state",
    objective=Objective(metric="val/age_mae", direction="minimize"),
    document={},
    provenance={},
)


def created(trial_id: str, config: dict[str, Any]) -> TrialCreated:
    return TrialCreated(
        time=0.0,
        trial_id=trial_id,
        number=0,
        configuration=0,
        repeat=0,
        params={},
        proposal={},
        config=config,
        config_digest="0" * 64,
        data_uri="synthetic:0",
        data_digest="0" * 64,
        split_digest="1" * 64,
    )


def test_trials_share_the_parts_of_their_configurations_that_are_the_same() -> None:
    one = {"model": {"name": "basic_cnn", "dropout": 1}, "seed": 1}
    two = {"model": {"name": "basic_cnn", "dropout": 1}, "seed": 2}
    state = SweepState.from_events([STARTED, created("a", one), created("b", two)])
    first, second = (state.trials[trial_id].created.config for trial_id in "ab")
    assert first == one
    assert second == two
    assert first["model"] is second["model"]


def test_numbers_of_another_type_are_not_the_same() -> None:
    """They are equal to Python, and another text in JSON, of which digests are made."""
    configs = [{"model": {"dropout": value}} for value in (1, 1.0, True)]
    events = [created(str(number), config) for number, config in enumerate(configs)]
    state = SweepState.from_events([STARTED, *events])
    found = [trial.created.config["model"]["dropout"] for trial in state.trials.values()]
    assert [type(value) for value in found] == [int, float, bool]


def test_a_trials_test_figures_are_those_of_its_best_weights() -> None:
    def read(label: str, mae: float) -> TestRead:
        return TestRead(time=1.0, trial_id="a", label=label, metrics={"test/age_mae": mae}, tables={"of": label})

    events = [STARTED, created("a", {"seed": 1}), read("age", 4.0)]
    trial = SweepState.from_events(events).trials["a"]
    assert (trial.test, trial.test_tables) == ({}, {})
    trial = SweepState.from_events([*events, read("best", 5.0)]).trials["a"]
    assert (trial.test, trial.test_tables) == ({"test/age_mae": 5.0}, {"of": "best"})
