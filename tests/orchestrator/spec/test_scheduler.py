"""Rungs and brackets of the schedulers that stop trials early."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.spec.model import AshaSpec, HyperbandSpec


def test_hyperband_has_the_brackets_of_its_paper() -> None:
    """Li et al. 2018, table 1: R = 81, eta = 3 begins with 81, 34, 15, 8 and 5 configurations."""
    brackets = HyperbandSpec(name="hyperband", grace_epochs=1, reduction_factor=3).brackets(81)
    assert [bracket.rungs for bracket in brackets] == [(1, 3, 9, 27), (3, 9, 27), (9, 27), (27,), ()]
    sizes = (81, 34, 15, 8, 5)
    assert [bracket.share for bracket in brackets] == pytest.approx([size / sum(sizes) for size in sizes])


def test_asha_has_one_bracket_of_all_rungs() -> None:
    (bracket,) = AshaSpec(name="asha", grace_epochs=2, reduction_factor=3).brackets(55)
    assert (bracket.rungs, bracket.share) == ((2, 6, 18, 54), 1.0)


def test_trials_are_dealt_out_by_the_shares_and_the_seed() -> None:
    hyperband = HyperbandSpec(name="hyperband")
    dealt = [hyperband.bracket(number, max_epochs=81, seed=7) for number in range(4000)]
    counts = Counter(dealt)
    for index, bracket in enumerate(hyperband.brackets(81)):
        assert counts[index] / 4000 == pytest.approx(bracket.share, abs=0.03)
    assert dealt == [hyperband.bracket(number, max_epochs=81, seed=7) for number in range(4000)]
    assert dealt != [hyperband.bracket(number, max_epochs=81, seed=8) for number in range(4000)]
