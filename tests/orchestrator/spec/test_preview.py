from __future__ import annotations

from typing import Any

from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.preview import Rung, rung_table, sample


def sweep(**more: Any) -> Sweep:
    return sweep_from_document(
        {
            "name": "test",
            "objective": {"metric": "val/age_mae", "direction": "minimize"},
            "trial": {"schedule": {"name": "constant", "epochs": 9}},
            "space": {"batch_size": {"randint": [1, 1000]}},
            "search": {"algorithm": "random", "trials": 20},
            **more,
        }
    )


def test_one_in_reduction_factor_is_promoted_at_each_rung() -> None:
    scheduler = {"name": "asha", "grace_epochs": 1, "reduction_factor": 3}
    assert rung_table(sweep(scheduler=scheduler)) == (Rung(1, 20), Rung(3, 6), Rung(9, 2))


def test_hyperband_promotes_within_each_bracket() -> None:
    scheduler = {"name": "hyperband", "grace_epochs": 1, "reduction_factor": 3}
    search = {
        "algorithm": "random",
        "trials": 17,
    }  # 9 in the bracket with rungs 1 and 3, 5 in that with 3, 3 in the last
    assert rung_table(sweep(scheduler=scheduler, search=search)) == (Rung(1, 17), Rung(3, 11), Rung(9, 5))


def test_somebody_reaches_the_end() -> None:
    scheduler = {"name": "asha", "grace_epochs": 1, "reduction_factor": 2}
    search = {"algorithm": "random", "trials": 3}
    assert rung_table(sweep(scheduler=scheduler, search=search))[-1] == Rung(9, 1)


def test_without_a_scheduler_all_seeds_of_all_configurations_reach_the_end() -> None:
    assert rung_table(sweep(repeat={"seeds": 4})) == (Rung(9, 80),)


def test_a_small_space_is_shown_whole() -> None:
    drawn = sample(sweep(space={"batch_size": [8, 16]}, search={"algorithm": "grid"}), 3)
    assert sorted(proposal.config.batch_size for proposal in drawn) == [8, 16]


def test_the_sample_is_the_same_each_time_and_lies_in_the_space() -> None:
    first, second = sample(sweep(), 3), sample(sweep(), 3)
    assert first == second
    assert len({proposal.config.batch_size for proposal in first}) == 3
    assert all(1 <= proposal.config.batch_size <= 1000 for proposal in first)
