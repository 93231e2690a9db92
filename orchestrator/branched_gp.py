"""A Gaussian process over a space with branches, which learns from stopped and running trials too.

A configuration is a point: a column for each number and for each label, zero where its branch is not taken. Trials
count by the rank of their values, those that have not trained to their end by their predicted ends
(``predicted_ends``). Of configurations drawn at random, none of them near a known one, the one with the greatest
expected improvement is proposed. docs/search.md says what came of it, and what was tried instead.

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
from orchestrator.predicted_ends import DIVERGED, predicted_ends
from orchestrator.ranges import distribution_of, share_of, value_at
from orchestrator.spec.space import VARIANT, Domain, Space

CANDIDATES = 300
"""Configurations drawn, of which one is proposed. More of them, or some drawn near the best, and the best known one is
proposed over and over with its numbers changed a little: what is left to gain is elsewhere (docs/search.md)."""

APART = 0.3
"""So much of its range a number is to be away from the one known of the same labels. Fixed, it would leave spaces with
few numbers without candidates; without it, the best known configuration is proposed over and over."""

FEWEST = 3
"""Trials that must have said something before a model is made."""

Point = Mapping[str, Any]
Matrix = NDArray[np.float64]
Labels = tuple[tuple[str, Any], ...]
"""Names of domains and their values."""


class BranchedGp:
    """Proposes one point of ``space``; make a new one for each, with its own seed."""

    def __init__(self, space: Space, *, direction: Direction, seed: int) -> None:
        self._space = space
        self._sign = 1.0 if direction == "minimize" else -1.0
        self._random = np.random.default_rng(seed)
        domains = {VARIANT: Domain("categorical", space.variants)} if space.variants else {}
        domains |= {varied.name: varied.domain for varied in space.domains()}
        self._distributions = {name: distribution_of(domain) for name, domain in domains.items()}

    def propose(self, trials: Sequence[FrozenTrial]) -> Point | None:
        """The point with the greatest expected improvement; None where a point is to be drawn at random.

        That is where too few trials have said anything, and where all that was drawn is near a known configuration.
        """
        known = [trial for trial in trials if trial.state != TrialState.FAIL]
        told = self._told(known)
        if len(told) < FEWEST:
            return None
        drawn = [self._space.point(self._draw) for _ in range(CANDIDATES)]
        tried = Known([trial.params for trial in known], self._distributions)
        candidates = [point for point in drawn if tried.far_from(point)]
        if not candidates:
            return None
        columns = Columns(self._distributions)
        silent = [t.params for t in known if t.state == TrialState.RUNNING and not t.intermediate_values]
        # The matrices are small: more threads would wait for each other longer than they calculate, and their number,
        # which is the machine's, would change the last bits.
        with threadpool_limits(limits=1, user_api="blas"):
            model = Model.of(columns.of([trial.params for trial, _ in told]), np.array([value for _, value in told]))
            if silent:
                model = model.believing(columns.of(silent))
            gains = model.expected_improvement(columns.of(candidates))
        return candidates[int(gains.argmax())]

    def _told(self, known: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, float]]:
        """Trials that said something, and what: lower is better, and a diverged one is as bad as the worst."""
        ends = predicted_ends(known, minimize=self._sign > 0)
        values = ends | {t.number: t.values[0] for t in known if t.state == TrialState.COMPLETE}
        told = [(trial, self._sign * values[trial.number]) for trial in known if trial.number in values]
        worst = max((value for _, value in told), default=0.0)
        return told + [(trial, worst) for trial in known if DIVERGED in trial.user_attrs]

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
        """A row for each (N, columns)."""
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
    """Configurations that others are to be far from, by their labels."""

    def __init__(self, points: Sequence[Point], distributions: Mapping[str, BaseDistribution]) -> None:
        self._distributions = distributions
        self._alike: dict[Labels, list[Matrix]] = {}
        for point in points:
            labels, numbers = self._split(point)
            self._alike.setdefault(labels, []).append(numbers)

    def far_from(self, point: Point) -> bool:
        """Whether ``point`` differs from all of them by a label, or else by enough in one of its numbers.

        Enough is a share of its range that shrinks as the spacing of a regular grid with so many points.
        """
        labels, numbers = self._split(point)
        known = self._alike.get(labels)
        if known is None or not numbers.size:
            return known is None
        enough = APART * len(known) ** (-1 / numbers.size)
        return bool(np.abs(np.array(known) - numbers).max(axis=1).min() > enough)

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
    """A regression of N points by the ranks of their values, the best being the lowest."""

    regressor: GaussianProcessRegressor
    points: Matrix
    values: Matrix

    @classmethod
    def of(cls, points: Matrix, values: Matrix) -> Model:
        """The most probable one, of points (N, columns) and their values (N,), which become normal scores."""
        scores = norm.ppf((rankdata(values) - 0.5) / len(values))
        kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(np.ones(points.shape[1]), (0.05, 50.0), nu=2.5)
        kernel += WhiteKernel(_NOISE, (1e-4, 1.0))
        regressor = GaussianProcessRegressor(kernel, alpha=_NUMERIC, optimizer=most_probable)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at the end of its range is as good an answer
            return cls(regressor.fit(points, scores), points, scores)

    def believing(self, silent: Matrix) -> Model:
        """What it would be if points that have said nothing came out as expected (Ginsbourger et al. 2010).

        So the next point is not drawn to where the answer is under way.
        """
        points = np.vstack([self.points, silent])
        values = np.concatenate([self.values, self.regressor.predict(silent)])
        regressor = GaussianProcessRegressor(self.regressor.kernel_, alpha=_NUMERIC, optimizer=None)
        return Model(regressor.fit(points, values), points, values)

    def expected_improvement(self, candidates: Matrix) -> Matrix:
        """Of candidates (M, columns), over the best of the points, both without noise (M,) (Jones et al. 1998)."""
        mean, deviation = self.regressor.predict(candidates, return_std=True)
        noise = self.regressor.kernel_.k2.noise_level
        deviation = np.sqrt(np.maximum(deviation**2 - noise, _NUMERIC))
        above = (self.regressor.predict(self.points).min() - mean) / deviation
        return np.asarray(deviation * (above * norm.cdf(above) + norm.pdf(above)))


_NUMERIC = 1e-6
"""Least variance of a value, which keeps matrices invertible."""

_NOISE = 0.05
"""Variance that another seed and a wrong prediction are expected to make, before anything is known."""

_LENGTH = 0.7
"""Logarithm of the length scale of a column, likewise; a column is 1 or 2 wide."""

_ITERATIONS = 30


def most_probable(
    objective: Callable[[Matrix], tuple[float, Matrix]], _: Matrix, bounds: Matrix
) -> tuple[Matrix, float]:
    """scikit-learn's ``optimizer``, with a log-normal prior: the likelihood of few trials would take any scales.

    ``objective`` gives the negative logarithm of the likelihood and its gradient by the logarithms of the scales:
    variance, a length for each column, noise.
    """
    expected = np.concatenate([[0.0], np.full(len(bounds) - 2, _LENGTH), [np.log(_NOISE)]])

    def posterior(scales: Matrix) -> tuple[float, Matrix]:
        loss, gradient = objective(scales)
        return loss + 0.5 * float(((scales - expected) ** 2).sum()), gradient + (scales - expected)

    found = minimize(posterior, expected, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return found.x, float(found.fun)
