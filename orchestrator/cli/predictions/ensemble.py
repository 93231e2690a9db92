"""``agr ensemble``: trained trials averaged on the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    TrialsArgument,
    console,
    errors_in_one_line,
    print_json,
    storage_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.results.ensemble import Against, Ensemble

_COMBINED = "ensemble"
_DIFFERENCE = "to best member"


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(ensemble)


def ensemble(
    trials: TrialsArgument,
    part: Annotated[
        str, typer.Option("--part", metavar="PART", help="Part whose predictions to average: test, test.NAME or val.")
    ] = "test",
    tasks: Annotated[
        str,
        typer.Option("--tasks", metavar="TASK,...", help="Tasks to average; default: those that all trials predict."),
    ] = "",
    cols: Annotated[
        str, typer.Option("--cols", metavar="METRIC,...", help="Metrics to show: age_mae, age_f1.utk7.")
    ] = "",
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Average the stored predictions of trials on the same images; print the figures of each and of the ensemble.

    Example: agr ensemble 1f3a 77c0 --tasks age
    """
    with errors_in_one_line():
        from orchestrator.results.ensemble import make_ensemble
        from orchestrator.tracking.runs import trial_of_run

        combined = make_ensemble(
            storage_at(storage), trials, part=part, tasks=_names(tasks, "--tasks"), trial_of_run=trial_of_run
        )
        columns = _columns(combined, _names(cols, "--cols"))
        if as_json:
            print_json(combined.to_json())
        else:
            _print(combined, columns)


def _names(text: str, option: str) -> tuple[str, ...]:
    from agr_core.errors import InputError

    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if "" in names:
        raise InputError(f"{option} {text!r} given; it takes names with a comma between them.")
    return names


def _columns(combined: Ensemble, asked: Sequence[str]) -> list[str]:
    """Return the metrics to show.

    Raises:
        InputError: If one that is asked for is not among the figures.
    """
    from agr_core.errors import InputError
    from agr_core.registry import did_you_mean
    from orchestrator.results.wording import KEY_METRICS

    for name in asked:
        if name not in combined.figures:
            raise InputError(
                f"--cols: no figure {name!r} of the ensemble.{did_you_mean(name, combined.figures)} Known: "
                f"{', '.join(combined.figures)}."
            )
    return list(asked) or [name for name in KEY_METRICS if name in combined.figures]


def _print(combined: Ensemble, names: Sequence[str]) -> None:
    from orchestrator.cli.render.fitted_table import Column, print_table
    from orchestrator.cli.render.table_formats import figure
    from orchestrator.stats.intervals import LEVEL

    columns = [
        Column("trial", [*(member.name for member in combined.members), _COMBINED, _DIFFERENCE]),
        Column("setting", [*combined.settings, "", ""], rank=len(names) + 1),
    ]
    for rank, name in enumerate(names, start=1):
        cells = [figure(estimates[name]) for estimates in (*combined.of_members, combined.figures)]
        columns.append(Column(name, [*cells, _difference(combined.against[name])], right=True, rank=rank))
    out = console()
    left_out = print_table(columns, out)
    if "age" in combined.tasks:
        how = "mean of the members' years" if combined.decode is None else f"{combined.decode} of the mean distribution"
        out.print(f"ages: {how}.", style="dim", highlight=False)
    out.print(
        f"±: half of the {LEVEL:.0%} interval over the {combined.images:,} images of the part {combined.part!r}, not "
        "over seeds. Differences are paired by image.",
        style="dim",
        highlight=False,
    )
    if left_out:
        missing = ", ".join(column.title for column in left_out)
        out.print(f"no room for: {missing}; --cols chooses, and --json has all.", style="dim", highlight=False)


def _difference(against: Against) -> str:
    """Return the difference to the best member, its verdict, and in a second line which member that is."""
    from orchestrator.cli.render.table_formats import figure

    verdict = against.difference.verdict(against.direction)
    return f"{figure(against.difference, signed=True)}{f' {verdict}' if verdict else ''}\nto {against.member}"
