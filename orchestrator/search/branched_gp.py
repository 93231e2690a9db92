"""Gaussian-process search over a space with branches; it learns from stopped and running trials too.

A configuration is a point: a column for each number and for each label, zero where its branch is not taken. Trials
count by the rank of their values, those that have not trained to their end by their predicted ends
(``predicted_ends``). Of configurations drawn at random, none of them near a known one, the one with the greatest
expected improvement is proposed. docs/search.md has measurements and rejected alternatives.

The regression is scikit-learn's (Rasmussen and Williams 2006, algorithm 2.1).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.optimize import minimize
from scipy.stats import norm, rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from agr_core.objective import Direction
from orchestrator.search.predicted_ends import DIVERGED, predicted_ends
from orchestrator.search.ranges import distribution_of, share_of, value_at
from orchestrator.spec.space import VARIANT, Domain, Space

CANDIDATES = 300
"""Number of random candidates for a proposal. With more, or with some near the incumbent, the incumbent is proposed
repeatedly with small changes, although the remaining gain is elsewhere (docs/search.md)."""

APART = 0.3
"""Minimum distance of a number, as a share of its range, from the only known configuration with the same labels; it
shrinks with their number. A constant distance would leave spaces with few numbers without candidates; without any, the
incumbent is proposed repeatedly."""

FEWEST = 3
"""Minimum number of trials with values for a model."""

Point = Mapping[str, Any]
Matrix = NDArray[np.float64]
Labels = tuple[tuple[str, Any], ...]
"""Names of domains and their values."""


class BranchedGp:
    """Proposer of one point of ``space``; each proposal needs a new instance with its own seed.

    ``whole`` is the space of the known points; ``space`` may be a part of it.
    """

    def __init__(self, space: Space, *, whole: Space | None = None, direction: Direction, seed: int) -> None:
        self._space, whole = space, whole or space
        self._sign = 1.0 if direction == "minimize" else -1.0
        self._random = np.random.default_rng(seed)
        domains = {VARIANT: Domain("categorical", whole.variants)} if whole.variants else {}
        domains |= {varied.name: varied.domain for varied in whole.domains()}
        self._distributions = {name: distribution_of(domain) for name, domain in domains.items()}

    def propose(self, trials: Sequence[FrozenTrial]) -> Point | None:
        """Return the point with the greatest expected improvement; None if a point is to be drawn at random.

        That is the case if too few trials have reported, or if all candidates are near a known configuration.
        """
        usable = [trial for trial in trials if trial.state != TrialState.FAIL]
        told = self._told(usable)
        if len(told) < FEWEST:
            return None
        drawn = [self._space.point(self._draw) for _ in range(CANDIDATES)]
        tried = Known([trial.params for trial in usable], self._distributions)
        candidates = [point for point in drawn if tried.far_from(point)]
        if not candidates:
            return None
        columns = Columns(self._distributions)
        silent = [t.params for t in usable if t.state == TrialState.RUNNING and not t.intermediate_values]
        # The matrices are small: more threads would mostly wait for each other, and their number, which depends on
        # the machine, would change the last bits.
        with threadpool_limits(limits=1, user_api="blas"):
            model = Model.of(columns.of([trial.params for trial, _ in told]), np.array([value for _, value in told]))
            if silent:
                model = model.believing(columns.of(silent))
            gains = model.expected_improvement(columns.of(candidates))
        return candidates[int(gains.argmax())]

    def _told(self, usable: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, float]]:
        """Return the trials with values, and the values: lower is better, and diverged trials equal the worst."""
        ends = predicted_ends(usable, minimize=self._sign > 0)
        values = ends | {t.number: t.values[0] for t in usable if t.state == TrialState.COMPLETE}
        told = [(trial, self._sign * values[trial.number]) for trial in usable if trial.number in values]
        worst = max((value for _, value in told), default=0.0)
        return told + [(trial, worst) for trial in usable if DIVERGED in trial.user_attrs]

    def _draw(self, _: str, domain: Domain) -> Any:
        if domain.kind == "categorical":
            return domain.choices[int(self._random.integers(len(domain.choices)))]
        return value_at(distribution_of(domain), self._random.random())


class Columns:
    """Points of a space as rows of a matrix: numbers from -1 to 1 on their own scale, labels 0 or 1."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self._distributions = distributions
        self._first: dict[str, int] = {}
        self._width = 0
        for name, distribution in self._distributions.items():
            self._first[name] = self._width
            self._width += len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 1

    def of(self, points: Sequence[Point]) -> Matrix:
        """Return a row for each point (N, columns)."""
        rows = np.zeros((len(points), self._width))
        for row, point in zip(rows, points, strict=True):
            for name, value in point.items():
                distribution, column = self._distributions[name], self._first[name]
                if isinstance(distribution, CategoricalDistribution):
                    row[column + distribution.choices.index(value)] = 1.0
                else:
                    row[column] = 2 * share_of(distribution, value) - 1
        return rows


class Known:
    """Known configurations, grouped by their labels, to keep candidates away from."""

    def __init__(self, points: Sequence[Point], distributions: Mapping[str, BaseDistribution]) -> None:
        self._distributions = distributions
        self._alike: dict[Labels, list[Matrix]] = {}
        for point in points:
            labels, numbers = self._split(point)
            self._alike.setdefault(labels, []).append(numbers)

    def far_from(self, point: Point) -> bool:
        """Return whether ``point`` differs from all of them by a label, or by enough in one of its numbers.

        The threshold is a share of the range; it shrinks like the spacing of a regular grid with that number of points.
        """
        labels, numbers = self._split(point)
        same_labels = self._alike.get(labels)
        if same_labels is None or not numbers.size:
            return same_labels is None
        enough = APART * len(same_labels) ** (-1 / numbers.size)
        return bool(np.abs(np.array(same_labels) - numbers).max(axis=1).min() > enough)

    def _split(self, point: Point) -> tuple[Labels, Matrix]:
        labels, numbers = [], []
        for name, value in point.items():
            distribution = self._distributions[name]
            if isinstance(distribution, CategoricalDistribution):
                labels.append((name, value))
            else:
                numbers.append(share_of(distribution, value))
        return tuple(labels), np.array(numbers)


@dataclass(frozen=True)
class Model:
    """A regression of N points on the normal scores of their values' ranks, the best being the lowest."""

    regressor: GaussianProcessRegressor
    points: Matrix
    values: Matrix

    @classmethod
    def of(cls, points: Matrix, values: Matrix) -> Model:
        """Fit the most probable model to points (N, columns) and their values (N,), which become normal scores."""
        scores = norm.ppf((rankdata(values) - 0.5) / len(values))
        kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(np.ones(points.shape[1]), (0.05, 50.0), nu=2.5)
        kernel += WhiteKernel(_NOISE, (1e-4, 1.0))
        regressor = GaussianProcessRegressor(kernel, alpha=_NUMERIC, optimizer=most_probable)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at the end of its range is valid
            return cls(regressor.fit(points, scores), points, scores)

    def believing(self, silent: Matrix) -> Model:
        """Return the model with pending points at their expected values (Ginsbourger et al. 2010).

        It keeps the next point away from pending ones.
        """
        points = np.vstack([self.points, silent])
        values = np.concatenate([self.values, self.regressor.predict(silent)])
        regressor = GaussianProcessRegressor(self.regressor.kernel_, alpha=_NUMERIC, optimizer=None)
        return Model(regressor.fit(points, values), points, values)

    def expected_improvement(self, candidates: Matrix) -> Matrix:
        """Return the noise-free expected improvement (M,) of candidates (M, columns) over the best point.

        Jones et al. (1998).
        """
        mean, deviation = self.regressor.predict(candidates, return_std=True)
        noise = self.regressor.kernel_.k2.noise_level
        deviation = np.sqrt(np.maximum(deviation**2 - noise, _NUMERIC))
        above = (self.regressor.predict(self.points).min() - mean) / deviation
        return np.asarray(deviation * (above * norm.cdf(above) + norm.pdf(above)))


_NUMERIC = 1e-6
"""Minimum variance of a value, which keeps matrices invertible."""

_NOISE = 0.05
"""Prior variance of the noise, from other seeds and wrong predictions."""

_LENGTH = 0.7
"""Prior logarithm of a column's length scale; a column is 1 or 2 wide."""

_ITERATIONS = 30


def most_probable(
    objective: Callable[[Matrix], tuple[float, Matrix]], _: Matrix, bounds: Matrix
) -> tuple[Matrix, float]:
    """Minimise the negative log-posterior of the scales: the likelihood of few trials alone would accept any scales.

    ``objective`` gives the negative logarithm of the likelihood and its gradient by the logarithms of the scales:
    variance, a length for each column, noise.
    """
    expected = np.concatenate([[0.0], np.full(len(bounds) - 2, _LENGTH), [np.log(_NOISE)]])

    def posterior(scales: Matrix) -> tuple[float, Matrix]:
        loss, gradient = objective(scales)
        return loss + 0.5 * float(((scales - expected) ** 2).sum()), gradient + (scales - expected)

    optimum = minimize(
        posterior, expected, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    return optimum.x, float(optimum.fun)
