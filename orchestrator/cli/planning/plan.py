"""``agr plan``: forecast of a sweep's duration and cost on machines not yet rented."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    JsonOption,
    ProfileOption,
    StorageOption,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
)
from orchestrator.cli.validate import SetOption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.planning.fleet import Nodes
    from orchestrator.planning.forecast import Forecast, Spread
    from orchestrator.planning.recorded import Recorded
    from orchestrator.planning.speeds import Speeds
    from orchestrator.planning.targets import Target
    from orchestrator.simulation.curves import CurveOf
    from orchestrator.spec.load import Sweep

    EpochS = Callable[[Mapping[str, Any]], float]


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(plan)


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file.")],
    nodes: Annotated[
        list[str],
        typer.Option(
            "--nodes",
            metavar="COUNTxGPUS:LABEL@USD",
            help="Machines: 2x4:RTX_4090@0.40 is two machines of four GPUs, 0.40 dollars an hour each; 1x0:cpu8@0.10 "
            "is one of eight cores. Repeat it to compare kinds.",
        ),
    ],
    within: Annotated[str | None, typer.Option("--within", metavar="TIME", help="Target duration: 6h, 90m.")] = None,
    usd: Annotated[
        float | None, typer.Option("--usd", min=0.0, help="Target price of the whole sweep, dollars.")
    ] = None,
    epoch_s: Annotated[
        float | None,
        typer.Option("--epoch-s", min=0.001, help="Duration of an epoch, in seconds, instead of measured ones."),
    ] = None,
    images_per_s: Annotated[
        float | None,
        typer.Option("--images-per-s", min=0.001, help="Training throughput, images a second; needs --images."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Number of training images in an epoch.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Number of simulated sweeps.")] = 10,
    profile: ProfileOption = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast a sweep on machines not yet rented, by simulation: epochs, GPU-hours, hours, dollars, idle share.

    The sweep's own search and scheduler run on simulated workers. The speed of each configuration is measured from
    earlier sweeps in the storage, or given. Figures are medians, with the 10 and 90 % quantiles over seeds.

    Example: agr plan sweeps/quickstart.yaml --nodes 1x0:cpu8@0.10 --epoch-s 2
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.planning.fleet import Nodes
        from orchestrator.planning.forecast import forecast
        from orchestrator.planning.recorded import recorded
        from orchestrator.planning.speeds import remembered
        from orchestrator.planning.targets import Target
        from orchestrator.spec.load import load_sweep
        from orchestrator.spec.model import seconds

        sweep = load_sweep(file, profile=profile, overrides=overrides or ())
        kinds = [Nodes.parse(text) for text in nodes]
        wanted_s = None if within is None else _duration(seconds, within)
        if within is not None or usd is not None:
            _refuse_unpriced(kinds, usd=usd)
        if (images_per_s is None) != (images is None):
            raise InputError(
                "--images-per-s and --images belong together: an epoch takes images / images-per-s seconds."
            )
        if images_per_s is not None and images is not None:
            epoch_s = images / images_per_s
        known = remembered(storage_at(storage))
        for sweep_id in known.unreadable:
            say(f"sweep {sweep_id} cannot be read and is left out; agr verify says why")
        if epoch_s is None and not known.speeds.samples:
            raise InputError(
                "no sweep of this storage has measured an epoch, so the speed is not known. Measure it on the machine "
                f"in question: agr check {file}, or a few trials: agr submit {file} --set search.trials=4; or give it: "
                "--epoch-s 30, or --images-per-s 500 --images 20000."
            )
        curves, of_sweeps = recorded(known.states, sweep.spec.objectives[0])

        def simulate(fleet: Nodes) -> Forecast:
            return forecast(
                sweep,
                [fleet],
                curves=_curves(sweep, curves, _epoch_s(known.speeds.on(fleet.label), epoch_s, seeds)),
                starts=known.speeds.on(fleet.label).starts(),
                around_s=known.speeds.sweep_s(),
                seeds=seeds,
            )

        target = Target(within_s=wanted_s, usd=usd)
        forecasts = [found for kind in kinds for found in target.forecasts(kind, simulate)]
        assumed = [
            *_of_speeds(known.speeds, kinds, epoch_s),
            *_of_curves(curves, of_sweeps, seeds),
            *_assumptions(sweep, kinds),
        ]
        wanted = wanted_s is not None or usd is not None
        cheapest = target.cheapest(forecasts) if wanted else None
        if as_json:
            named = {"cheapest": cheapest and cheapest.document()["nodes"]} if wanted else {}
            print_json({"fleets": [each.document() for each in forecasts], "assumed": assumed} | named)
            return
        _print(forecasts)
        for line in assumed:
            say(f"assumed: {line}")
        if wanted:
            typer.echo(_conclusion(cheapest, forecasts, target))


def _duration(seconds: Callable[[Any], Any], text: str) -> float:
    from agr_core.errors import InputError

    try:
        return float(seconds(text))
    except ValueError as error:
        raise InputError(f"--within: {error}") from error


def _epoch_s(speeds: Speeds, given: float | None, seeds: int) -> Callable[[int], EpochS]:
    """Return the durations of epochs by configuration, of a simulation by its number: as given, else as measured."""
    if given is None:
        return lambda number: speeds.in_simulation(number, seeds)
    every = given
    return lambda _: lambda _: every


def _curves(sweep: Sweep, curves: list[Recorded], epoch_s: Callable[[int], EpochS]) -> Callable[[int], CurveOf]:
    """Return the learning curves of a simulation by its number."""
    from orchestrator.planning.recorded import RecordedCurves, are_enough
    from orchestrator.simulation.curves import PowerLaws

    if are_enough(curves):
        return lambda seed: RecordedCurves(curves, epoch_s(seed), seed)
    return lambda seed: PowerLaws(sweep.spec.objectives, epoch_s(seed), seed=seed)


def _of_speeds(speeds: Speeds, kinds: list[Nodes], epoch_s: float | None) -> list[str]:
    from orchestrator.planning.speeds import CHECK_DEVIATION, TRAINED_DEVIATION

    starts = speeds.starts()
    lines = [f"{starts.cold_s:.1f} s from a trial's start to its first epoch, {starts.warm_s:.1f} s in a used worker"]
    if epoch_s is not None:
        return [f"{epoch_s:g} s an epoch of every configuration, as given", *lines]
    measured = [f"by {', '.join(speeds.sweeps[-3:])}"] if speeds.sweeps else []
    measured += [f"by `agr check` ({speeds.checked} combinations)"] if speeds.checked else []
    for kind in kinds:
        there = speeds.on(kind.label)
        where = f"on {', '.join(there.hardware)}" if there is not speeds else "whatever the machine"
        lines.insert(0, f"{kind.label or kind}: speeds measured {' and '.join(measured)}, {where}")
    return [
        *lines,
        f"an epoch takes up to {_up_to(TRAINED_DEVIATION)} more or less than that in eight of ten simulations, and "
        f"{_up_to(CHECK_DEVIATION)} where only `agr check` measured it",
        "a model that was not measured takes the median of all",
    ]


def _up_to(deviation: float) -> str:
    """Return the 90 % quantile of a relative error."""
    return f"{math.expm1(deviation * NormalDist().inv_cdf(0.9)):.0%}"


def _of_curves(curves: list[Recorded], sweeps: list[str], seeds: int) -> list[str]:
    from orchestrator.planning.recorded import are_enough

    if are_enough(curves):
        return [
            f"learning curves of {len(curves)} trials of the same objective ({', '.join(sweeps[-3:])}), drawn anew in "
            f"each of {seeds} simulations; one that was stopped early goes on as the others of its model"
        ]
    return [f"learning curves from a family of power laws, drawn anew in each of {seeds} simulations"]


def _assumptions(sweep: Sweep, kinds: list[Nodes]) -> list[str]:
    lines = []
    if sweep.spec.resources.cpus and any(not kind.label.startswith("cpu") for kind in kinds):
        lines.append("8 CPU cores for each GPU of a machine")
    if any(not kind.usd_per_hour for kind in kinds):
        lines.append("no price where --nodes has no @USD")
    return lines


def _refuse_unpriced(kinds: list[Nodes], *, usd: float | None) -> None:
    """Refuse a comparison of prices that are not all given.

    Raises:
        InputError: If a kind has no price, and dollars are limited or another kind has one.
    """
    from agr_core.errors import InputError

    unpriced = [str(kind) for kind in kinds if not kind.usd_per_hour]
    if unpriced and (usd is not None or len(unpriced) < len(kinds)):
        raise InputError(
            f"--nodes {unpriced[0]} has no price, so the cheapest fleet is not known; write dollars an hour of one "
            f"machine after an @: {unpriced[0]}@0.40."
        )


def _conclusion(cheapest: Forecast | None, forecasts: list[Forecast], target: Target) -> str:
    """Return the fleet that keeps the target, or what comes nearest to each of its limits."""
    within = [] if target.within_s is None else [_time(target.within_s / 3600)]
    said = " and ".join([*within, *([] if target.usd is None else [f"{target.usd:g} dollars"])])
    if cheapest is not None:
        return f"cheapest that keeps {said} in nine of ten simulations:\n  {_in_words(cheapest)}"
    nearest: dict[str, list[str]] = {}
    if target.within_s is not None:
        nearest.setdefault(_in_words(min(forecasts, key=lambda each: each.hours.p90)), []).append("fastest")
    if target.usd is not None:
        nearest.setdefault(_in_words(min(forecasts, key=lambda each: each.usd.p90)), []).append("cheapest")
    lines = [f"  {' and '.join(names)}: {words}" for words, names in nearest.items()]
    head = f"no fleet keeps {said} in nine of ten simulations. Allow more, give other machines, or lower search.trials:"
    return "\n".join([head, *lines])


def _in_words(forecast: Forecast) -> str:
    hours, usd = forecast.hours, forecast.usd
    price = f", {usd.p50:.3g} dollars (90 %: {usd.p90:.3g})" if usd.p50 else ""
    return f"{forecast.document()['nodes']}, {_time(hours.p50)} (90 %: {_time(hours.p90)}){price}"


def _time(hours: float) -> str:
    """Format a duration in the unit of its size."""
    unit, factor = _unit(hours)
    return f"{hours * factor:.3g} {unit}"


def _unit(hours: float) -> tuple[str, int]:
    return ("h", 1) if hours >= 1 else ("min", 60) if hours * 60 >= 1 else ("s", 3600)


def _spread(figure: Spread, factor: float = 1) -> str:
    return f"{figure.p50 * factor:.3g} ({figure.p10 * factor:.3g}-{figure.p90 * factor:.3g})"


def _print(forecasts: list[Forecast]) -> None:
    columns: dict[str, list[str]] = {"nodes": [each.document()["nodes"] for each in forecasts]}
    columns["epochs"] = [f"{each.p50:.0f} ({each.p10:.0f}-{each.p90:.0f})" for each in (f.epochs for f in forecasts)]
    unit, factor = _unit(max(each.hours.p50 for each in forecasts))
    columns[unit] = [_spread(each.hours, factor) for each in forecasts]
    if any(each.usd.p50 for each in forecasts):
        columns["dollars"] = [_spread(each.usd) for each in forecasts]
    if any(each.gpu_hours.p50 for each in forecasts):
        columns["GPU-hours"] = [f"{each.gpu_hours.p50:.3g}" for each in forecasts]
    columns["idle"] = [f"{each.idle_share.p50:.0%}" for each in forecasts]
    widths = {name: max(map(len, (name, *cells))) for name, cells in columns.items()}
    for cells in (tuple(columns), *zip(*columns.values(), strict=True)):
        first, *others = cells
        aligned = [cell.rjust(width) for cell, width in zip(others, list(widths.values())[1:], strict=True)]
        typer.echo("  ".join([first.ljust(widths["nodes"]), *aligned]))
