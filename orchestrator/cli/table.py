"""``agr table``: the paper's table of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import JsonOption, StorageOption, console, errors_in_one_line, print_json, storage_at

if TYPE_CHECKING:
    from orchestrator.table import Table


_WIDEST = 10_000


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(table)


def table(
    sweep: Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")],
    rows: Annotated[
        str, typer.Option("--rows", metavar="NAME,...", help="What a row is: variant, or fields such as model.name.")
    ] = "variant",
    cols: Annotated[
        str, typer.Option("--cols", metavar="METRIC,...", help="Metrics: age_mae (of the best epoch), test/age_mae.")
    ] = "",
    against: Annotated[
        str | None, typer.Option("--against", metavar="ROW", help="Compare with this row, not with what each is from.")
    ] = None,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a booktabs tabular.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with all digits.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print an HTML page.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print means with intervals over seeds, and paired differences to what each row builds on.

    Example: agr table ablation --cols age_mae,test/age_mae --latex
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.cli.table_formats import csv_text, html_page, latex
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_sweep
        from orchestrator.table import make_table

        formats = {"--latex": as_latex, "--csv": as_csv, "--html": as_html, "--json": as_json}
        asked = [name for name, given in formats.items() if given]
        if len(asked) > 1:
            raise InputError(f"{' and '.join(asked)} given; choose one format.")
        place = storage_at(storage)
        state = read_state(place, find_sweep(place, sweep))
        found = make_table(
            state, rows=_names(rows, "--rows"), columns=_names(cols, "--cols"), against=against, storage=place
        )
        if as_json:
            print_json(found.to_json())
        elif as_latex or as_csv or as_html:
            text = latex(found) if as_latex else csv_text(found) if as_csv else html_page(found)
            typer.echo(text, nl=False)
        else:
            _print(found)


def _names(text: str, option: str) -> tuple[str, ...]:
    from agr_core.errors import InputError

    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if "" in names or (option == "--rows" and not names):
        raise InputError(f"{option} {text!r} given; it takes names with a comma between them.")
    return names


def _print(found: Table) -> None:
    from orchestrator.cli.table_formats import caption, text_table
    from orchestrator.cli.terminal import Terminal

    out = console()
    drawn = text_table(found)
    width = max(out.width, Terminal(width=_WIDEST).measure(drawn).maximum)  # wrapped by the terminal rather than cut
    Terminal(width=width).print(drawn)
    out.print(caption(found), style="dim", highlight=False)
    longest = max(len(row.label) for row in found.rows)
    for row in found.rows:
        out.print(f"  {row.label:<{longest}}  {' '.join(row.trials)}", highlight=False, soft_wrap=True)
