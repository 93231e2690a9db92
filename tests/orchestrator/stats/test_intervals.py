"""Intervals against scipy's own tests, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.stats.intervals import Estimate, crossed_mean, mean_interval, paired_difference


@pytest.mark.parametrize("count", [2, 3, 5, 30])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_a_mean_is_that_of_scipys_t_test(count: int, level: float) -> None:
    values = np.random.default_rng(count).normal(7.0, 0.3, count)

    found = mean_interval(list(values), level=level)

    expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.mean == pytest.approx(values.mean())
    assert found.count == count


def test_the_interval_of_a_paired_difference_is_that_of_scipys_paired_test() -> None:
    random = np.random.default_rng(0)
    base = random.normal(7.0, 1.0, 6)
    values = base + random.normal(0.2, 0.05, 6)

    found = paired_difference(dict(enumerate(values)), dict(enumerate(base)))

    assert found is not None
    expected = stats.ttest_rel(values, base).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_seeds_are_paired_by_name_and_those_of_one_side_only_are_left_out() -> None:
    found = paired_difference({42: 5.0, 43: 7.0, 44: 100.0}, {43: 6.0, 42: 4.5, 41: -100.0})

    assert found == Estimate(mean=0.75, margin=pytest.approx(12.706 * 0.25, rel=1e-4), count=2)
    assert paired_difference({42: 5.0}, {43: 5.0}) is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_95_of_100_intervals_cover_the_truth_at_few_seeds(seeds: int) -> None:
    draws = np.random.default_rng(2026).normal(6.0, 0.4, (4000, seeds))

    estimates = [mean_interval(list(values)) for values in draws]

    covered = np.mean([abs(each.mean - 6.0) <= (each.margin or 0.0) for each in estimates])
    assert covered == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4000 draws
    # What "plus or minus 1.96 standard errors" would cover: far less.
    normal = 1.96 * draws.std(axis=1, ddof=1) / np.sqrt(seeds)
    assert np.mean(np.abs(draws.mean(axis=1) - 6.0) <= normal) < 0.9


def test_equal_configurations_tie_in_95_of_100_cases_and_a_planted_difference_is_found() -> None:
    random = np.random.default_rng(7)
    seed_effect = random.normal(0.0, 1.0, (2000, 5))
    base = 6.0 + seed_effect + random.normal(0.0, 0.1, (2000, 5))
    equal = 6.0 + seed_effect + random.normal(0.0, 0.1, (2000, 5))

    def ties(values: np.ndarray) -> float:
        pairs = [
            paired_difference(dict(enumerate(one)), dict(enumerate(other)))
            for one, other in zip(values, base, strict=True)
        ]
        return float(np.mean([pair is not None and pair.verdict("minimize") == "tie" for pair in pairs]))

    assert ties(equal) == pytest.approx(0.95, abs=0.02)
    # 0.4 years better, hidden in seeds that scatter by 1 year: pairing takes that out.
    assert ties(equal - 0.4) < 0.05


@pytest.mark.parametrize(
    ("mean", "margin", "direction", "verdict"),
    [
        (-0.3, 0.1, "minimize", "better"),
        (-0.3, 0.1, "maximize", "worse"),
        (0.3, 0.1, "minimize", "worse"),
        (0.3, 0.1, "maximize", "better"),
        (0.1, 0.1, "minimize", "tie"),
        (-0.1, 0.2, "maximize", "tie"),
    ],
)
def test_a_difference_is_a_tie_where_its_interval_contains_0(
    mean: float, margin: float, direction: str, verdict: str
) -> None:
    assert Estimate(mean, margin, 3).verdict(direction) == verdict  # type: ignore[arg-type]


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_interval([5.0]) == Estimate(5.0, None, 1)
    assert mean_interval([5.0]).to_json() == {"mean": 5.0, "low": None, "high": None, "count": 1}
    with pytest.raises(ValueError, match="0 values given"):
        mean_interval([])


# ---- the same images under each of several seeds


def draws(seeds: int, images: int, count: int, *, seed: float, image: float, rest: float = 1.0) -> np.ndarray:
    """Values (count, seeds, images) with the mean 0 and these standard deviations of their parts."""
    random = np.random.default_rng([seeds, images, round(100 * seed), round(100 * image)])
    shape = (count, seeds, images)
    whole = random.normal(0.0, seed, (count, seeds, 1)) + random.normal(0.0, image, (count, 1, images))
    return np.asarray(whole + random.normal(0.0, rest, shape))


def coverage(values: np.ndarray) -> float:
    found = [crossed_mean(each) for each in values]
    return float(np.mean([abs(each.mean) <= (each.margin or 0.0) for each in found]))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("seed", "image"), [(0.0, 0.0), (0.0, 0.4), (0.1, 0.4), (0.5, 0.1)], ids=["noise", "images", "both", "seeds"]
)
def test_at_least_94_of_100_intervals_cover_the_truth_whichever_chance_is_larger(
    seeds: int, seed: float, image: float
) -> None:
    assert 0.94 <= coverage(draws(seeds, 60, 1500, seed=seed, image=image)) <= 0.985


def test_hits_and_misses_of_few_images_are_covered_too() -> None:
    """Differences of accuracy: an image is right under both, or under one of the two."""
    random = np.random.default_rng(11)
    hard = random.beta(0.4, 0.4, (1500, 1, 120))
    ours, base = (random.random((1500, 3, 120)) < hard for _ in range(2))

    assert 0.94 <= coverage(ours.astype(float) - base.astype(float)) <= 0.985


def test_over_seeds_alone_too_few_intervals_would_cover_what_other_images_show() -> None:
    values = draws(5, 60, 1500, seed=0.0, image=0.6)

    alone = [mean_interval(list(each.mean(axis=1))) for each in values]

    assert np.mean([abs(each.mean) <= (each.margin or 0.0) for each in alone]) < 0.85
    assert coverage(values) >= 0.94


def test_without_an_effect_of_images_it_is_students_interval_over_the_seeds() -> None:
    values = draws(4, 50, 1, seed=1.0, image=0.0)[0]
    values -= values.mean(axis=0) - values.mean()  # no image differs from the others

    found, students = crossed_mean(values), mean_interval(list(values.mean(axis=1)))

    assert (found.mean, found.margin) == pytest.approx((students.mean, students.margin))
    assert (found.count, found.images, students.images) == (4, 50, None)


def test_the_image_term_is_the_variance_component_of_an_analysis_of_variance() -> None:
    """By hand from the sums of squares of the two-way layout."""
    values = draws(3, 20, 1, seed=0.2, image=1.5)[0]

    found = crossed_mean(values)

    total = ((values - values.mean()) ** 2).sum()
    by_seed = 20 * ((values.mean(axis=1) - values.mean()) ** 2).sum()
    by_image = 3 * ((values.mean(axis=0) - values.mean()) ** 2).sum()
    rest = (total - by_seed - by_image) / (2 * 19)
    of_seeds = stats.t.ppf(0.975, 2) * np.sqrt(by_seed / 2 / 60)
    of_images = stats.t.ppf(0.975, 19) * np.sqrt((by_image / 19 - rest) / 60)
    assert found.margin == pytest.approx(np.hypot(of_seeds, of_images))


def test_configurations_that_say_the_same_of_every_image_tie() -> None:
    found = crossed_mean(np.zeros((3, 10)))
    assert (found.mean, found.margin, found.verdict("minimize")) == (0.0, None, "tie")


@pytest.mark.parametrize("shape", [(1, 10), (3, 1)])
def test_one_seed_or_one_image_says_nothing_of_others(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{shape[0]} seeds and {shape[1]} images given"):
        crossed_mean(np.zeros(shape))


# ---- seeds that all say the same


def hits(seeds: int, images: int, count: int, *, seed: float, better: float = 0.0) -> np.ndarray:
    """Differences (count, seeds, images) of hits and misses between two configurations, ``better`` on the logits."""
    random = np.random.default_rng([seeds, images, round(100 * seed)])
    easy = random.normal(1.5, 1.5, (count, 1, images))

    def right(shift: float) -> np.ndarray:
        by_seed = random.normal(0.0, seed, (count, seeds, 1))
        return easy + shift + by_seed + random.logistic(0.0, 1.0, (count, seeds, images)) > 0

    return np.asarray(right(better).astype(float) - right(0.0).astype(float))


@pytest.mark.parametrize("values", [[2.0, 2.0], [0.1 + 0.2, 0.3, 0.3]], ids=["equal", "equal but for rounding"])
def test_values_that_are_all_the_same_make_no_interval(values: list[float]) -> None:
    found = mean_interval(values)
    assert (found.mean, found.margin, found.unspread) == (pytest.approx(values[0]), None, True)
    assert found.to_json() == {"mean": found.mean, "low": None, "high": None, "count": len(values)}


def test_images_make_no_interval_for_seeds_that_do_not_differ() -> None:
    by_image = np.tile(np.random.default_rng(0).normal(0.5, 0.1, 30), (3, 1))
    assert crossed_mean(by_image) == Estimate(pytest.approx(by_image.mean()), None, 3)


@pytest.mark.parametrize(("direction", "verdict"), [("minimize", "better"), ("maximize", "worse")])
def test_the_same_difference_is_called_from_as_many_seeds_on_as_the_sign_test_asks(
    direction: str, verdict: str
) -> None:
    enough = next(n for n in range(1, 20) if stats.binomtest(n, n, 0.5).pvalue <= 0.05)

    said = [mean_interval([-2.4] * count).verdict(direction) for count in range(1, enough + 2)]  # type: ignore[arg-type]

    assert said == [None] * (enough - 1) + [verdict] * 2


def test_no_difference_at_all_is_a_tie_and_one_seed_says_nothing() -> None:
    assert mean_interval([0.0, 0.0]).verdict("minimize") == "tie"
    assert mean_interval([0.0]).verdict("minimize") is None


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("seed", [0.0, 1.0])
def test_at_most_5_of_100_equal_configurations_differ_by_hits_among_few_images(seeds: int, seed: float) -> None:
    """Also where two seeds meet by chance, which nothing but the missing interval shows."""
    values = hits(seeds, 42, 1000, seed=seed)

    def wrong(found: list[Estimate]) -> np.ndarray:
        return np.array([each.verdict("maximize") in ("better", "worse") for each in found])

    crossed = wrong([crossed_mean(each) for each in values])
    alone = wrong([mean_interval(each.mean(axis=1).tolist()) for each in values])

    assert crossed.mean() <= 0.065  # 2 standard errors of 1000 draws above 5 %
    met = np.isclose(values.mean(axis=2).std(axis=1), 0.0)
    assert not crossed[met].any()
    assert not alone[met].any()
    if seeds == 2:  # how often that is, and what an interval of no width would call apart
        assert 0.02 <= met.mean() <= 0.12
        assert (np.abs(values[met].mean(axis=(1, 2))) > 0).mean() > 0.5


def test_a_planted_difference_in_hits_is_found() -> None:
    values = hits(5, 400, 400, seed=0.1, better=1.0)
    assert np.mean([crossed_mean(each).verdict("maximize") == "better" for each in values]) > 0.9
