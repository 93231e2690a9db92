"""``agr table``: ablation table of a sweep, for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    SweepArgument,
    console,
    errors_in_one_line,
    print_json,
    storage_at,
    sweep_of,
)

if TYPE_CHECKING:
    from orchestrator.results.ablation_table import Table


_WIDEST = 10_000


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(table)


def table(
    sweep: SweepArgument,
    rows: Annotated[
        str, typer.Option("--rows", metavar="NAME,...", help="Row keys: variant, or fields such as model.name.")
    ] = "variant",
    cols: Annotated[
        str, typer.Option("--cols", metavar="METRIC,...", help="Metrics: age_mae (of the best epoch), test/age_mae.")
    ] = "",
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="ROW", help="Base row of all differences; default: each row's own base."),
    ] = None,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a booktabs tabular.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with all digits.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print an HTML page.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print means with intervals over seeds, and paired differences to each row's base.

    Example: agr table ablation --cols age_mae,test/age_mae --latex
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.cli.render.table_formats import csv_text, html_page, latex
        from orchestrator.journal.segments import read_state
        from orchestrator.results.ablation_table import make_table

        formats = {"--latex": as_latex, "--csv": as_csv, "--html": as_html, "--json": as_json}
        asked = [name for name, given in formats.items() if given]
        if len(asked) > 1:
            raise InputError(f"{' and '.join(asked)} given; choose one format.")
        opened = storage_at(storage)
        state = read_state(opened, sweep_of(opened, sweep))
        ablation = make_table(
            state, rows=_names(rows, "--rows"), columns=_names(cols, "--cols"), against=against, storage=opened
        )
        if as_json:
            print_json(ablation.to_json())
        elif as_latex or as_csv or as_html:
            text = latex(ablation) if as_latex else csv_text(ablation) if as_csv else html_page(ablation)
            typer.echo(text, nl=False)
        else:
            _print(ablation)


def _names(text: str, option: str) -> tuple[str, ...]:
    from agr_core.errors import InputError

    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if "" in names or (option == "--rows" and not names):
        raise InputError(f"{option} {text!r} given; it takes names with a comma between them.")
    return names


def _print(ablation: Table) -> None:
    from rich.text import Text

    from orchestrator.cli.render.table_formats import caption, text_tables
    from orchestrator.cli.render.terminal import Terminal

    out = console()
    room = out.width if out.is_terminal else _WIDEST  # a file or another program takes lines of any length
    tables, same = text_tables(ablation, room)
    for number, drawn in enumerate(tables):
        if number:
            out.print()
        needed = Terminal(width=_WIDEST).measure(drawn).maximum  # the terminal wraps lines; nothing is truncated
        (out if needed <= out.width else Terminal(width=needed)).print(drawn)
    if same:
        out.print(f"each row: {', '.join(same)}", style="dim", highlight=False)
    out.print(caption(ablation), style="dim", highlight=False)
    longest = max(len(row.label) for row in ablation.rows)
    for row in ablation.rows:
        line = f"  {row.label:<{longest}}  {' '.join(row.trials)}"
        out.print(Text(line), soft_wrap=not out.is_terminal)  # a terminal wraps between IDs
