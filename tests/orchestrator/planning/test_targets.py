"""The cheapest fleet in time, against trying every number of machines."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.planning.fleet import Nodes
from orchestrator.planning.forecast import Forecast, Spread
from orchestrator.planning.targets import Target

FILE = "sweeps/quickstart.yaml"
TRIALS = 40
START_S = 60.0


def simulated(kind_hours: float, asked: list[int]) -> Any:
    """A sweep of forty equal trials of ``kind_hours``, a trial a machine; the 90 % quantile is a tenth longer."""

    def simulate(fleet: Nodes) -> Forecast:
        asked.append(fleet.count)
        hours = START_S / 3600 + math.ceil(TRIALS / fleet.count) * kind_hours
        usd = hours * fleet.count * fleet.usd_per_hour
        nothing = Spread(0.0, 0.0, 0.0)
        return Forecast(
            (fleet,), nothing, nothing, Spread(hours, hours, 1.1 * hours), Spread(usd, usd, 1.1 * usd), nothing
        )

    return simulate


@pytest.mark.parametrize("given", [1, 2, 7, 40])
@pytest.mark.parametrize("within_h", [0.5, 1.2, 2.0, 5.0, 12.0, 60.0])
def test_the_fewest_machines_in_time_are_found_from_any_number(given: int, within_h: float) -> None:
    asked: list[int] = []
    simulate, kind = simulated(1.0, asked), Nodes(given, 0, "cpu4", 0.30)
    target = Target(within_s=within_h * 3600)
    forecasts = target.forecasts(kind, simulate)

    every = [simulate(kind.times(count)) for count in range(1, 81)]
    in_time = [each.fleet[0].count for each in every if target.is_kept_by(each)]
    cheapest = target.cheapest(forecasts)
    assert (cheapest and cheapest.fleet[0].count) == (min(in_time) if in_time else None)
    assert len(asked) - len(every) <= 12
    counts = [each.fleet[0].count for each in forecasts]
    assert counts == sorted(counts)
    assert {given, 2 * given} <= set(counts)


def test_the_cheapest_of_several_kinds_is_named_and_not_the_fastest() -> None:
    slow, fast = Nodes(1, 0, "cpu2", 0.10), Nodes(1, 0, "cpu8", 0.50)
    target = Target(within_s=6 * 3600)
    forecasts = target.forecasts(slow, simulated(1.0, [])) + target.forecasts(fast, simulated(0.3, []))
    cheapest = target.cheapest(forecasts)
    assert cheapest is not None
    assert str(cheapest.fleet[0]) == "8x0:cpu2@0.10", "8 machines, 5.5 hours and 4 dollars; 3 fast ones cost 6"


def test_without_prices_the_fewest_machines_are_the_cheapest() -> None:
    target = Target(within_s=30 * 3600)
    cheapest = target.cheapest(target.forecasts(Nodes(8, 0, "cpu2", 0.0), simulated(1.0, [])))
    assert cheapest is not None
    assert cheapest.fleet[0].count == 2


def test_no_more_machines_are_tried_once_they_save_nothing() -> None:
    asked: list[int] = []
    assert (
        Target(within_s=60.0).cheapest(Target(within_s=60.0).forecasts(Nodes(16, 0, "", 1.0), simulated(1.0, asked)))
        is None
    )
    assert max(asked) == 64
    asked.clear()
    Target(usd=0.01).forecasts(Nodes(4, 0, "", 1.0), simulated(1.0, asked))
    assert sorted(asked) == [2, 4, 8], "a limit of dollars alone asks for no more machines"


def plan(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["plan", FILE, "--epoch-s", "20", "--seeds", "2", *arguments])


def test_the_command_names_the_cheapest_of_several_nodes() -> None:
    nodes = ("--nodes", "1x0:cpu2@0.10", "--nodes", "1x0:cpu4@0.90", "--within", "5m")
    document = json.loads(plan(*nodes, "--json").stdout)
    in_time = [fleet for fleet in document["fleets"] if fleet["hours"]["p90"] <= 5 / 60]
    assert len(in_time) >= 2
    assert document["cheapest"] == min(in_time, key=lambda fleet: fleet["usd"]["p50"])["nodes"]
    printed = plan(*nodes).stdout.splitlines()
    assert printed[-2] == "cheapest that keeps 5 min in nine of ten simulations:"
    assert printed[-1].strip().startswith(f"{document['cheapest']}, ")
    assert all(len(line) <= 80 for line in printed)


def test_where_none_keeps_the_target_it_names_the_nearest_and_the_way_out() -> None:
    result = plan("--nodes", "1x0:cpu2@0.10", "--within", "1s", "--usd", "0")
    assert result.exit_code == 0
    said = result.stdout.splitlines()[-3:]
    assert said[0].startswith("no fleet keeps 1 s and 0 dollars in nine of ten simulations. Allow more,")
    assert said[1].startswith("  fastest: ")
    assert said[2].startswith("  cheapest: 1x0:cpu2@0.10, ")
    document = json.loads(plan("--nodes", "1x0:cpu2@0.10", "--within", "1s", "--json").stdout)
    assert document["cheapest"] is None
    assert "cheapest" not in json.loads(plan("--nodes", "1x0:cpu2", "--json").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nodes", "2x0:cpu2", "--usd", "3"),
        ("--nodes", "1x0:cpu4@0.10", "--nodes", "2x0:cpu2", "--within", "5m"),
    ],
)
def test_prices_are_compared_only_where_all_are_given(arguments: tuple[str, ...]) -> None:
    result = plan(*arguments)
    assert result.exit_code == 2
    assert "--nodes 2x0:cpu2 has no price" in result.stderr
    assert "2x0:cpu2@0.40" in result.stderr


def test_a_price_below_a_cent_is_shown_as_given() -> None:
    assert [str(Nodes.parse(text)) for text in ("2x4:T4@0.4", "1x0:cpu2@0.005")] == ["2x4:T4@0.40", "1x0:cpu2@0.005"]
