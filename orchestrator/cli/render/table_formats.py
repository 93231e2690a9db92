"""Text, LaTeX, CSV and HTML formats of the ablation table."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from orchestrator.cli.render.fitted_table import PADDING, Column
from orchestrator.results.ablation_table import Cell, Table, TableRow
from orchestrator.results.wording import short
from orchestrator.stats.intervals import LEVEL, SEEDS_WITHOUT_SPREAD, Estimate

_STYLES = {"better": "green", "worse": "red", "tie": "dim", None: ""}
_MOST_DECIMALS = 6
_UNSPREAD = "at every seed"
"""Suffix of a difference that is equal for every seed."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)

_HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .3rem .8rem; text-align: right; vertical-align: top; border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
.better {{ color: #17692f; }} .worse {{ color: #a31515; }} .tie {{ color: #666; }}
.trials {{ text-align: left; font-family: ui-monospace, monospace; font-size: 12px; }}
</style>
<table><caption>{caption}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table>
</html>
"""


def text_tables(table: Table, width: int) -> tuple[list[RichTable], list[str]]:
    """Build the table for a terminal, with each mean above its difference to the base row.

    Returns:
        Tables that fit ``width`` and begin with the row's keys, as many as the metrics need; and what is the same
        in all of several rows, such as ``3 seeds``, which has no column.
    """
    keys = [Column(name, [_keys(row)[which] for row in table.rows]) for which, name in enumerate(table.row_names)]
    figures = [
        Column(_title(column.metric), [_text_cell(row.cells.get(column.metric)) for row in table.rows])
        for column in table.columns
    ]
    base = [row.base or "" for row in table.rows]
    counted = "folds" if table.folds else "seeds"
    counts = {
        counted: [seeds(row) for row in table.rows],
        "epochs": [str(row.epochs) for row in table.rows],
        "seconds": [f"{row.seconds:.0f}" for row in table.rows],
    }
    same = [name for name, cells in counts.items() if len(cells) > 1 and len(set(cells)) == 1]
    rest = [Column(name, cells, right=True) for name, cells in counts.items() if name not in same]
    against = [Column("against", base)] if any(base) else []
    before, after = [column for column in rest if column.title == counted], [c for c in rest if c.title != counted]
    blocks = _blocks(keys, [*against, *before, *figures, *after], width)
    return [_drawn(block, len(table.rows)) for block in blocks], [_counted(counts[name][0], name) for name in same]


def _counted(number: str, names: str) -> str:
    return f"{number} {names.removesuffix('s') if number == '1' else names}"


def _blocks(keys: Sequence[Column], columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Distribute the columns over blocks that begin with ``keys``; a block is wider only if one column is."""
    room = width + PADDING - sum(column.width for column in keys)
    blocks: list[list[Column]] = [[]]
    for column in columns:
        if blocks[-1] and sum(each.width for each in blocks[-1]) + column.width > room:
            blocks.append([])
        blocks[-1].append(column)
    return [[*keys, *block] for block in blocks]


def _drawn(columns: Sequence[Column], rows: int) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        drawn.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for number in range(rows):
        drawn.add_row(*(column.cells[number] for column in columns))
    return drawn


def latex(table: Table) -> str:
    """Return a ``tabular`` for the booktabs package; significant improvements over the base row are bold."""
    lines = [
        f"% {caption(table)}",
        *(f"% {row.label}: {' '.join(row.trials)}" for row in table.rows),
        rf"\begin{{tabular}}{{{'l' * len(table.row_names)}r{'rr' * len(table.columns)}rr}}",
        r"\toprule",
        " & ".join(
            [
                *(name.translate(_LATEX) for name in table.row_names),
                "seeds",
                *(f"{_title(column.metric).translate(_LATEX)} & $\\Delta$" for column in table.columns),
                "epochs",
                "seconds",
            ]
        )
        + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [part for column in table.columns for part in _latex_cell(row.cells.get(column.metric))]
        who = [text.translate(_LATEX) for text in (*_keys(row), seeds(row))]
        lines.append(" & ".join([*who, *cells, str(row.epochs), f"{row.seconds:.0f}"]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_text(table: Table) -> str:
    """Return CSV with full-precision figures and empty cells for missing ones; trial IDs are separated by blanks."""
    parts = ("mean", "low", "high", "difference", "difference_low", "difference_high", "verdict")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = [f"{column.metric}.{part}" for column in table.columns for part in parts]
    writer.writerow([*table.row_names, "from", "seeds", "completed", *figures, "epochs", "seconds", "trials"])
    for row in table.rows:
        cells: list[float | str | None] = []
        for column in table.columns:
            cell = row.cells.get(column.metric)
            if cell is None:
                cells += [None] * len(parts)
                continue
            for estimate in (cell.estimate, cell.difference):
                cells += [None] * 3 if estimate is None else [estimate.mean, estimate.low, estimate.high]
            cells.append(cell.verdict)
        keys = [row.keys[name] for name in table.row_names]
        cost = [row.epochs, round(row.seconds, 3), " ".join(row.trials)]
        writer.writerow([*keys, row.base, row.seeds, row.completed, *cells, *cost])
    return out.getvalue()


def html_page(table: Table) -> str:
    """Return a self-contained HTML page that also lists the trials of each row."""
    titles = [*table.row_names, "against", "seeds", *(_title(column.metric) for column in table.columns)]
    head = "".join(f"<th>{html.escape(title)}</th>" for title in [*titles, "epochs", "seconds", "trials"])
    body = "\n".join(
        "<tr>"
        + "".join(f"<td>{html.escape(text)}</td>" for text in (*_keys(row), row.base or "", seeds(row)))
        + "".join(f"<td>{_html_cell(row.cells.get(column.metric))}</td>" for column in table.columns)
        + f'<td>{row.epochs}</td><td>{row.seconds:.0f}</td><td class="trials">{"<br>".join(row.trials)}</td></tr>'
        for row in table.rows
    )
    return _HTML.format(title=html.escape(table.sweep_id), caption=html.escape(caption(table)), head=head, body=body)


def caption(table: Table) -> str:
    """Return one line that explains the figures."""
    differences = {
        column.metric: [cell.difference for row in table.rows if (cell := row.cells.get(column.metric)) is not None]
        for column in table.columns
    }
    over_seeds = [
        _title(metric)
        for metric, of_metric in differences.items()
        if any(
            difference is not None and difference.margin is not None and difference.images is None
            for difference in of_metric
        )
    ]
    alone = f" (of {', '.join(over_seeds)}: over the seeds alone)" if over_seeds else ""
    alike = any(_stands_alone(cell) for row in table.rows for cell in row.cells.values())
    rule = f"has no interval, and a verdict from {SEEDS_WITHOUT_SPREAD} seeds on."
    same = f" A difference that is the same {_UNSPREAD} {rule}" if alike else ""
    reads = f" Reads of the test part: {table.test_reads}." if table.test_reads else ""
    compared = (
        f"; with it the difference to the row it builds on, over the same seeds and images{alone}, a tie where its "
        "interval contains 0"
    )
    measured = f"split {table.split_digest[:8]}" if table.split_digest else _different_splits(table.shared_parts)
    if table.folds:
        measured = f"{table.folds} folds, test figures of all test images together"
        compared = "; with it the difference to the row it builds on, fold by fold, a tie where its interval contains 0"
    return (
        f"{table.sweep_id}, {measured}: mean and {LEVEL:.0%} interval over {'folds' if table.folds else 'seeds'}"
        f"{compared if any(row.base for row in table.rows) else ''}.{same}{reads}"
    )


def _different_splits(shared: Sequence[str]) -> str:
    return (
        f"rows trained on different data ({' and '.join(shared)} of the same images for all; other figures of each "
        "row's own images, compared with no row of another split)"
    )


def seeds(row: TableRow) -> str:
    """Return the number of seeds behind the figures, as text."""
    return str(row.seeds) if row.completed == row.seeds else f"{row.completed} of {row.seeds}"


def figure(estimate: Estimate, *, signed: bool = False) -> str:
    """Format a mean to the second significant digit of its margin, ``7.12 ± 0.21``; to four digits without one."""
    sign = "+" if signed else ""
    if estimate.margin is None:
        return f"{estimate.mean:{sign}#.4g}"
    decimals = min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(estimate.margin))))
    return f"{estimate.mean:{sign}.{decimals}f} ± {estimate.margin:.{decimals}f}"


def _keys(row: TableRow) -> list[str]:
    """Return the row's key values as text; empty for a field of another branch."""
    return ["" if value is None else short(value) for value in row.keys.values()]


def _title(metric: str) -> str:
    return metric.removeprefix("best/")


def _difference(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    same = _UNSPREAD if _stands_alone(cell) else None
    return " ".join(filter(None, (figure(cell.difference, signed=True), same, cell.verdict)))


def _stands_alone(cell: Cell | None) -> bool:
    """Return whether the difference is equal for every seed and not 0."""
    return cell is not None and cell.difference is not None and cell.difference.unspread and cell.difference.mean != 0


def _text_cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    below = _difference(cell)
    text = Text(figure(cell.estimate))
    return text.append(f"\n{below}", style=_STYLES[cell.verdict]) if below else text


def _html_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    below = _difference(cell)
    return figure(cell.estimate) + (f'<br><span class="{cell.verdict or ""}">{below}</span>' if below else "")


def _latex_cell(cell: Cell | None) -> tuple[str, str]:
    if cell is None:
        return "", ""
    mean = f"${_latex_figure(cell.estimate)}$"
    if cell.difference is None:
        return mean, ""
    difference = _latex_figure(cell.difference, signed=True)
    difference = rf"$\mathbf{{{difference}}}$" if cell.verdict == "better" else f"${difference}$"
    note = "tie" if cell.verdict == "tie" else _UNSPREAD if _stands_alone(cell) else None
    return mean, difference if note is None else f"{difference} ({note})"


def _latex_figure(estimate: Estimate, *, signed: bool = False) -> str:
    return figure(estimate, signed=signed).replace("±", r"\pm")
