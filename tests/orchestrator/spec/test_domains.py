from __future__ import annotations

import math
import random

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agr_core.errors import ConfigError
from orchestrator.spec.domains import Domain

whole = st.tuples(st.integers(-50, 50), st.integers(0, 40), st.integers(1, 7)).map(
    lambda t: Domain("int", (), t[0], t[0] + t[1] * t[2], t[2])
)
stepped = st.tuples(st.integers(-50, 50), st.integers(0, 40), st.sampled_from([0.1, 0.05, 0.25, 0.3])).map(
    lambda t: Domain("float", (), round(t[0] / 10, 1), round(t[0] / 10 + t[1] * t[2], 10), t[2])
)
unstepped = st.tuples(st.integers(-50, 50), st.integers(0, 40)).map(lambda t: Domain("int", (), t[0], t[0] + t[1]))
choices = st.lists(st.text("abc", min_size=1), min_size=1, max_size=5, unique=True).map(
    lambda labels: Domain("categorical", tuple(labels))
)
continuous = st.builds(
    lambda low, factor, log: Domain("float", (), low, low * factor, None, log),
    st.floats(1e-6, 1e3),
    st.floats(1, 1e3),
    st.booleans(),
)


@given(whole | stepped | unstepped | choices)
def test_a_finite_domain_has_as_many_values_as_it_says_and_takes_each(domain: Domain) -> None:
    values = list(domain.values())
    assert len(values) == len(set(values)) == domain.size
    assert [domain.value(value) for value in values] == values


@given(whole | stepped | unstepped)
def test_both_ends_of_a_range_are_values(domain: Domain) -> None:
    values = list(domain.values())
    assert values[0] == domain.low
    assert values[-1] == domain.high


def test_steps_are_decimal_numbers_as_written() -> None:
    assert list(Domain("float", (), 0, 0.5, 0.1).values()) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert Domain("float", (), 0, 0.5, 0.1).value(0.1 * 3) == 0.3


@given(whole | stepped | unstepped | choices | continuous, st.integers(0, 2**32))
def test_what_is_drawn_is_a_value(domain: Domain, seed: int) -> None:
    drawn = domain.draw(random.Random(seed))
    assert domain.value(drawn) == drawn


def test_draws_reach_both_ends_of_whole_numbers() -> None:
    generator = random.Random(0)
    for log in (False, True):
        drawn = {Domain("int", (), 1, 4, None, log).draw(generator) for _ in range(200)}
        assert drawn == {1, 2, 3, 4}


def test_logarithmic_draws_are_even_over_magnitudes() -> None:
    generator = random.Random(0)
    drawn = [Domain("float", (), 1e-4, 1.0, None, True).draw(generator) for _ in range(4000)]
    shares = [sum(10.0**n <= value < 10.0 ** (n + 1) for value in drawn) / 4000 for n in range(-4, 0)]
    assert all(math.isclose(share, 0.25, abs_tol=0.03) for share in shares)


@given(whole | stepped | unstepped | choices | continuous, st.integers(0, 99))
def test_whatever_optuna_suggests_is_a_value(domain: Domain, seed: int) -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    if domain.kind == "categorical":
        assert domain.value(trial.suggest_categorical("x", domain.choices)) in domain.choices
    elif domain.kind == "int":
        step = int(domain.step or 1)
        suggested = trial.suggest_int("x", int(domain.low), int(domain.high), step=step, log=domain.log)
        assert domain.value(suggested) == suggested
    else:
        suggested_float = trial.suggest_float("x", domain.low, domain.high, step=domain.step, log=domain.log)
        assert domain.value(suggested_float) == pytest.approx(suggested_float, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (Domain("categorical", ("adam", 1)), "sgd"),
        (Domain("categorical", ("adam", 1)), True),
        (Domain("int", (), 1, 4), 5),
        (Domain("int", (), 1, 4), 2.5),
        (Domain("int", (), 1, 4), True),
        (Domain("int", (), 1, 4), "2"),
        (Domain("float", (), 0, 1, 0.25), 0.3),
        (Domain("float", (), 0, 1), 1.0001),
        (Domain("float", (), 0, 1), math.nan),
    ],
)
def test_what_is_no_value_is_refused(domain: Domain, value: object) -> None:
    with pytest.raises(ConfigError, match="is not a value of"):
        domain.value(value)


def test_a_continuous_range_has_no_end_of_values() -> None:
    domain = Domain("float", (), 1e-4, 1e-2, None, True)
    assert domain.size is None
    with pytest.raises(ConfigError, match="give it a step"):
        list(domain.values())


def test_a_range_of_one_value_is_finite() -> None:
    assert list(Domain("float", (), 0.5, 0.5).values()) == [0.5]
