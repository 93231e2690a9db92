"""``agr check``: measure a sweep's combinations where it would run, before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    EXIT_FAILED,
    JsonOption,
    ProfileOption,
    StorageOption,
    errors_in_one_line,
    print_json,
    say,
)
from orchestrator.cli.validate import SetOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.planning.check_sweep import Row

_LIMIT = 40


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(check)


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file.")],
    address: Annotated[
        str | None,
        typer.Option("--address", help="Ray cluster, as HOST:PORT; default: RAY_ADDRESS, else this machine."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Largest number of combinations to measure.")] = _LIMIT,
    profile: ProfileOption = None,
    overrides: SetOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train three steps and one evaluation of each different model, image size and batch where the sweep would run.

    Prints whether each fits, its peak memory, images a second and seconds to start, on each kind of node, and what
    follows. The exit code is 1 if one cannot run. The figures are kept in the storage, and `agr plan` uses them.

    Example: agr check sweeps/quickstart.yaml
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.cli.driving import check_cluster
        from orchestrator.planning.check_sweep import check_sweep, consequences
        from orchestrator.planning.loads import combinations
        from orchestrator.ray_tune.check import kinds
        from orchestrator.ray_tune.machine import check_machine
        from orchestrator.ray_tune.session import ray_for, tune_environment
        from orchestrator.settings import Settings
        from orchestrator.spec.load import load_sweep
        from orchestrator.storage import open_patiently

        sweep = load_sweep(file, profile=profile, overrides=overrides or ())
        settings = Settings.from_environment()
        settings = replace(settings, storage=storage or settings.storage, ray_address=address or settings.ray_address)
        if (settings.ray_address or "").startswith("http"):
            raise InputError(
                f"--address {settings.ray_address}: `agr check` runs from a machine of the cluster. Give HOST:PORT of "
                "its head there."
            )
        check_cluster(settings.ray_address, "RAY_ADDRESS" if address is None else "--address")
        check_machine(settings)
        found = combinations(sweep.space, limit=limit)
        say(found.explained or f"{found.total} combination{'s' if found.total > 1 else ''} of model, image and batch")
        rows: list[Row] = []
        with tune_environment(), ray_for(settings):
            usable, others = kinds(sweep.spec.resources)
            for kind in others:
                say(f"no trial fits on {kind.name} ({kind.count} node{'s' if kind.count > 1 else ''}); left out")
            number = len(found.chosen) * len(usable)
            told: list[Row] = []

            def done(row: Row) -> None:
                told.append(row)
                say(f"{len(told)} of {number}: {row.branch}: {_words(row)}")

            rows = check_sweep(
                sweep,
                found.chosen,
                usable,
                storage=open_patiently(settings.storage),
                settings=settings,
                done=done,
            )
        if as_json:
            print_json([row.document() for row in rows])
        else:
            _print(rows)
        for line in consequences(rows, sweep.spec.resources):
            (say if as_json else typer.echo)(line)
        if not all(row.fits for row in rows):
            raise typer.Exit(EXIT_FAILED)


def _words(row: Row) -> str:
    measured = row.checked.measured
    if measured is None:
        return f"does not run: {row.checked.problem}"
    return f"{measured.images_per_s:.3g} images/s"


def _print(rows: Sequence[Row]) -> None:
    from rich.table import Table

    from orchestrator.cli.render.terminal import Terminal

    on_gpu = any(row.checked.measured is not None and row.checked.measured.gpu_gb for row in rows)
    several = len({row.checked.kind.name for row in rows}) > 1
    table = Table(title="" if several else f"On {rows[0].checked.kind.name}", title_justify="left")
    table.add_column("combination")
    if several:
        table.add_column("node")
    for name in ("fits", "memory", *(("GPU memory",) if on_gpu else ()), "images/s", "start"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = row.document()
        cells = [_cell(figures["main_gb"], "GB")]
        cells += [_cell(figures["gpu_gb"], "GB")] if on_gpu else []
        cells += [_cell(figures["images_per_s"]), _cell(figures["start_s"], "s")]
        where = [row.checked.kind.name] if several else []
        table.add_row(row.branch, *where, "yes" if row.fits else "no", *cells)
    Terminal(soft_wrap=False, highlight=False).print(table)


def _cell(value: object, unit: str = "") -> str:
    return "" if value is None else f"{value:.3g} {unit}".strip()
