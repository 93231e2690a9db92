"""How Optuna behaves where we rely on it; an upgrade that changes it shows here."""

from __future__ import annotations

import math
import warnings

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

optuna.logging.set_verbosity(optuna.logging.WARNING)


def tpe(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TPESampler(seed=seed, n_startup_trials=5, multivariate=True, group=True, constant_liar=True)


def ask(study: optuna.Study, number: int) -> optuna.Trial:
    study.sampler = tpe(number)
    trial = study.ask()
    trial.suggest_float("lr", 0.0, 1.0)
    return trial


def test_a_running_trial_put_back_with_its_system_attributes_leaves_proposals_as_they_were() -> None:
    live = optuna.create_study()
    for number in range(8):
        trial = ask(live, number)
        live.tell(trial.number, (trial.params["lr"] - 0.3) ** 2)
    ask(live, 8)
    expected = ask(live, 9).params

    restored = optuna.create_study()
    for frozen in live.get_trials()[:9]:
        restored.add_trial(
            create_trial(
                state=frozen.state,
                values=frozen.values,
                params=frozen.params,
                distributions=frozen.distributions,
                system_attrs=frozen.system_attrs,
            )
        )
    assert ask(restored, 9).params == expected


def test_values_can_be_reported_and_told_by_number_without_a_live_trial() -> None:
    study = optuna.create_study()
    study.add_trial(
        create_trial(state=TrialState.RUNNING, params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)})
    )
    frozen = study.get_trials(deepcopy=False)[0]
    study._storage.set_trial_intermediate_value(frozen._trial_id, 3, 1.5)
    study.tell(frozen.number, state=TrialState.PRUNED)
    told = study.trials[0]
    assert told.state == TrialState.PRUNED
    assert told.intermediate_values == {3: 1.5}


def test_telling_nan_leaves_a_trial_without_a_value() -> None:
    """Why a diverged trial is told as pruned and never with its loss."""
    study = optuna.create_study()
    trial = study.ask()
    with pytest.warns(UserWarning, match="nan is not acceptable"):
        study.tell(trial.number, math.nan, skip_if_finished=True)
    assert study.trials[0].state != TrialState.COMPLETE
    assert study.trials[0].value is None


def test_equal_names_with_other_ranges_are_accepted_silently() -> None:
    """Why domains are named by their branch."""
    study = optuna.create_study(sampler=tpe(0))
    first, second = study.ask(), study.ask()
    first.suggest_float("lr", 1e-4, 1e-2)
    assert 1e-2 <= second.suggest_float("lr", 1e-2, 1.0) <= 1.0


def test_both_ends_of_an_integer_range_are_drawn() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert {study.ask().suggest_int("n", 2, 4) for _ in range(40)} == {2, 3, 4}
