"""The paper's table for people, as LaTeX, CSV and HTML."""

from __future__ import annotations

import csv
import html
import io
import math

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from orchestrator.intervals import LEVEL, SEEDS_WITHOUT_SPREAD, Estimate
from orchestrator.table import Cell, Table, TableRow
from orchestrator.tracking.describe import short

_STYLES = {"better": "green", "worse": "red", "tie": "dim", None: ""}
_MOST_DECIMALS = 6
_UNSPREAD = "at every seed"
"""Behind a difference that is the same under every seed."""

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


def text_table(table: Table) -> RichTable:
    """For a terminal: below each mean the difference to the row that this one builds on."""
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    against = any(row.base for row in table.rows)
    for name in table.row_names:
        drawn.add_column(name, no_wrap=True)
    if against:
        drawn.add_column("against", no_wrap=True)
    drawn.add_column("seeds", justify="right", no_wrap=True)
    for column in table.columns:
        drawn.add_column(_title(column.metric), no_wrap=True)
    for title in ("epochs", "seconds"):
        drawn.add_column(title, justify="right", no_wrap=True)
    for row in table.rows:
        cells = [_text_cell(row.cells.get(column.metric)) for column in table.columns]
        who = [*_keys(row), row.base or ""] if against else _keys(row)
        drawn.add_row(*who, seeds(row), *cells, str(row.epochs), f"{row.seconds:.0f}")
    return drawn


def latex(table: Table) -> str:
    """A ``tabular`` of the booktabs package; what is better than its base by more than chance is bold."""
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
    """One line a row, figures with all their digits; empty where there is none. Trial IDs are apart by blanks."""
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
    """A page of its own, with the trials behind each row."""
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
    """What the figures are, in one line."""
    differences = {
        column.metric: [cell.difference for row in table.rows if (cell := row.cells.get(column.metric)) is not None]
        for column in table.columns
    }
    over_seeds = [
        _title(metric)
        for metric, found in differences.items()
        if any(each is not None and each.margin is not None and each.images is None for each in found)
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
    return (
        f"{table.sweep_id}, split {table.split_digest[:8]}: mean and {LEVEL:.0%} interval over seeds"
        f"{compared if any(row.base for row in table.rows) else ''}.{same}{reads}"
    )


def seeds(row: TableRow) -> str:
    """How many seeds the figures are of."""
    return str(row.seeds) if row.completed == row.seeds else f"{row.completed} of {row.seeds}"


def figure(estimate: Estimate, *, signed: bool = False) -> str:
    """The mean to the second figure of its margin, ``7.12 ± 0.21``; four figures where there is no margin."""
    sign = "+" if signed else ""
    if estimate.margin is None:
        return f"{estimate.mean:{sign}#.4g}"
    decimals = min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(estimate.margin))))
    return f"{estimate.mean:{sign}.{decimals}f} ± {estimate.margin:.{decimals}f}"


def _keys(row: TableRow) -> list[str]:
    """What tells a row apart, by name; nothing for a field of another branch."""
    return ["" if value is None else short(value) for value in row.keys.values()]


def _title(metric: str) -> str:
    return metric.removeprefix("best/")


def _difference(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    same = _UNSPREAD if _stands_alone(cell) else None
    return " ".join(filter(None, (figure(cell.difference, signed=True), same, cell.verdict)))


def _stands_alone(cell: Cell | None) -> bool:
    """Whether its difference is the same under every seed, and not 0."""
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
    said = "tie" if cell.verdict == "tie" else _UNSPREAD if _stands_alone(cell) else None
    return mean, difference if said is None else f"{difference} ({said})"


def _latex_figure(estimate: Estimate, *, signed: bool = False) -> str:
    return figure(estimate, signed=signed).replace("±", r"\pm")
