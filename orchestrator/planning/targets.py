"""Search for the cheapest fleet that keeps a target, over the number of machines of a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.planning.fleet import Nodes
from orchestrator.planning.forecast import Forecast

_MOST_MACHINES = 64
_GAIN = 0.05
"""Least share of the time that twice as many machines must save, else more are not tried."""


@dataclass(frozen=True)
class Target:
    """Limits of a sweep; one is kept if nine of ten simulations keep it."""

    within_s: float | None = None
    usd: float | None = None

    def is_kept_by(self, forecast: Forecast) -> bool:
        """Return whether the fleet keeps all limits."""
        return self._is_in_time(forecast) and (self.usd is None or forecast.usd.p90 <= self.usd)

    def _is_in_time(self, forecast: Forecast) -> bool:
        return self.within_s is None or forecast.hours.p90 * 3600 <= self.within_s

    def forecasts(self, kind: Nodes, simulate: Callable[[Nodes], Forecast]) -> list[Forecast]:
        """Return forecasts of half, once and twice the machines, and of those on the way to the fewest in time.

        More machines are idle for a larger share of the time, so the fewest that keep ``within_s`` are the cheapest.
        They are found by doubling, and then by bisection.
        """
        found = {count: simulate(kind.times(count)) for count in {kind.count // 2, kind.count, 2 * kind.count} - {0}}
        if self.within_s is not None:
            self._grow(kind, simulate, found)
            self._bisect(kind, simulate, found)
        return [found[count] for count in sorted(found)]

    def _grow(self, kind: Nodes, simulate: Callable[[Nodes], Forecast], found: dict[int, Forecast]) -> None:
        """Double the machines until they are in time or no longer faster."""
        most = max(found)
        while not self._is_in_time(found[most]) and 2 * most <= _MOST_MACHINES:
            found[2 * most] = simulate(kind.times(2 * most))
            if found[2 * most].hours.p90 > (1 - _GAIN) * found[most].hours.p90:
                return
            most *= 2

    def _bisect(self, kind: Nodes, simulate: Callable[[Nodes], Forecast], found: dict[int, Forecast]) -> None:
        """Find the fewest machines in time, between those that are and those that are not."""
        in_time = [count for count in found if self._is_in_time(found[count])]
        if not in_time:
            return
        enough = min(in_time)
        too_few = max((count for count in found if count < enough), default=0)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            found[middle] = simulate(kind.times(middle))
            if self._is_in_time(found[middle]):
                enough = middle
            else:
                too_few = middle

    def cheapest(self, forecasts: Sequence[Forecast]) -> Forecast | None:
        """Return the cheapest fleet that keeps the target; without prices, the one of the fewest machines."""
        kept = [forecast for forecast in forecasts if self.is_kept_by(forecast)]
        return min(kept, key=lambda forecast: (forecast.usd.p50, _machines(forecast), forecast.hours.p50), default=None)


def _machines(forecast: Forecast) -> int:
    return sum(nodes.count for nodes in forecast.fleet)
