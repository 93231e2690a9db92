"""Self-contained HTML page on a data set: ages, genders, races, joint counts, image sizes.

Figures are drawn by plotly from counts, so the size of the page depends on the number of classes, not of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from agr_core.bins import Bins, BinsSpec
from agr_core.data.decode import open_image
from agr_core.data.packed.pack import Packed
from agr_core.data.stats.stats import bin_ages

_COLORS = ("#1f5fa8", "#c2410c", "#2f855a", "#7c3aed", "#b7791f", "#0e7490", "#9d174d", "#64748b", "#65a30d", "#be185d")
_UNKNOWN, _UNKNOWN_COLOR = "not known", "#a8b0ba"
_MEASURED = 2_000
_SHOWN_SIZES = 12
_SHOWN_SKIPPED = 200

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #f3f5f8; margin: 0 auto; max-width: 1240px;
  padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; } h2 { font-size: 16px; margin: 0 0 8px; }
p { margin: 0 0 6px; } .quiet { color: #5b6875; font-size: 13px; overflow-wrap: anywhere; }
main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; margin-top: 16px; }
section { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 16px; min-width: 0; }
.wide { grid-column: 1 / -1; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid #edf0f4; }
th:first-child, td:first-child, .words th, .words td { text-align: left; overflow-wrap: anywhere; }
summary { cursor: pointer; color: #5b6875; font-size: 13px; margin: 8px 0; }
@media (max-width: 800px) { main { grid-template-columns: minmax(0, 1fr); } }
"""


def stats_page(
    packed: Packed, source: str, scheme: BinsSpec = "utk7", *, against: Mapping[str, Packed] | None = None
) -> str:
    """Return the page as HTML.

    Args:
        packed: The data set.
        source: Name of the data set in the heading.
        scheme: The age bins.
        against: Other data sets by name, whose races, genders and age bins are shown for comparison.

    Raises:
        ValueError: If the scheme is not known.
    """
    bins = Bins.from_spec(scheme)
    frame = _classes(packed, bins)
    name = scheme if isinstance(scheme, str) else ", ".join(map(str, scheme))
    genders = _present(frame["gender"], packed.vocabulary.genders)
    races = _present(frame["race"], packed.vocabulary.races)
    labels = _present(frame["bin"], bins.labels)
    parts = [_heading(packed, source)]
    if frame["years"].notna().any():
        parts += [
            _section("Ages", _stacked(frame, "label", _age_labels(frame), "gender", genders, "years"), wide=True),
            _section(f"Age bins ({name})", _stacked(frame, "bin", labels, "gender", genders, "years")),
            _section("Ages in each bin", _bin_table(packed.table, scheme)),
        ]
        for by, known, classes in (
            ("gender", packed.vocabulary.genders, genders),
            ("race", packed.vocabulary.races, races),
        ):
            if known:
                parts.append(_section(f"Age by {by}", _boxes(frame, by, classes)))
    if packed.vocabulary.genders:
        parts.append(_section("Gender", _stacked(frame, "gender", genders)))
    if packed.vocabulary.races:
        parts += [
            _section("Race", _stacked(frame, "race", races)),
            _section("Race and gender", _stacked(frame, "race", races, "gender", genders, grouped=True), wide=True),
        ]
        if frame["years"].notna().any():
            title = "Races in each age bin, share"
            parts.append(
                _section(title, _stacked(frame, "bin", labels, "race", races, "years", shares=True), wide=True)
            )
    parts += _comparison({source: packed, **(against or {})}, bins) if against else []
    parts.append(_section("Image sizes", _sizes(packed)))
    if packed.manifest["skipped"]:
        parts.append(_section("Files skipped", _skipped(packed.manifest["skipped"]), wide=True))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(source)}</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{parts[0]}<main>{''.join(parts[1:])}</main></body></html>\n"
    )


def _comparison(sets: Mapping[str, Packed], bins: Bins) -> list[str]:
    """Return charts of the shares of races, genders and age bins in several data sets."""
    frame = pd.concat([_classes(packed, bins).assign(data_set=name) for name, packed in sets.items()])
    known = [packed.vocabulary for packed in sets.values()]
    classes = {
        "race": dict.fromkeys(name for one in known for name in one.races),
        "gender": dict.fromkeys(name for one in known for name in one.genders),
        "bin": dict.fromkeys(bins.labels),
    }
    titles = {"race": "Races", "gender": "Genders", "bin": "Ages"}
    charts = {
        by: _stacked(frame, "data_set", list(sets), by, _present(frame[by], names), shares=True)
        for by, names in classes.items()
    }
    return [_section(f"{titles[by]} of each data set, share", chart, wide=True) for by, chart in charts.items()]


def _classes(packed: Packed, bins: Bins) -> pd.DataFrame:
    """Return ``years`` (middle of a range), ``label`` (age or range), ``bin``, ``gender``, ``race`` of each image."""
    table = packed.table
    known = table["age"].notna().to_numpy()
    bin_names = np.full(len(table), _UNKNOWN, dtype=object)
    bin_names[known] = np.array(bins.labels, dtype=object)[bins.index(table["age"][known])]
    labels = np.full(len(table), _UNKNOWN, dtype=object)
    ends = table.loc[known, ["age_low", "age_high"]].itertuples(index=False)
    labels[known] = [f"{low:g}" if low == high else f"{low:g}-{high:g}" for low, high in ends]
    return pd.DataFrame(
        {
            "years": table["age"].to_numpy(),
            "low": table["age_low"].to_numpy(),
            "label": labels,
            "bin": bin_names,
            "gender": table["gender"].astype(object).where(table["gender"].notna(), _UNKNOWN),
            "race": table["race"].astype(object).where(table["race"].notna(), _UNKNOWN),
        }
    )


def _present(values: pd.Series, names: Iterable[str]) -> list[str]:
    """Return the classes in order, with ``not known`` if some labels are unknown."""
    return [*names, *([_UNKNOWN] if (values == _UNKNOWN).any() else [])]


def _age_labels(frame: pd.DataFrame) -> list[str]:
    """Return every year from the lowest to the highest, or the ranges of the labels, in order."""
    known = frame[frame["years"].notna()]
    if _whole_years(frame):
        return [str(year) for year in range(int(known["years"].min()), int(known["years"].max()) + 1)]
    return list(dict.fromkeys(known.sort_values(["low", "years"])["label"]))


def _whole_years(frame: pd.DataFrame) -> bool:
    """Return whether every known age is a whole year and none is a range."""
    known = frame[frame["years"].notna()]
    return not known["label"].str.contains("-").any() and bool((known["years"] % 1 == 0).all())


def _stacked(
    frame: pd.DataFrame,
    along: str,
    names: Sequence[str],
    by: str | None = None,
    classes: Sequence[str] = (),
    axis: str = "",
    *,
    grouped: bool = False,
    shares: bool = False,
) -> str:
    """Return a bar chart of ``names``, stacked (or grouped) by the ``classes`` of another label."""
    figure = go.Figure()
    if by is None:
        counts = frame[along].value_counts().reindex(list(names), fill_value=0)
        total = max(1, int(counts.sum()))
        texts = [f"{count:,}<br>{count / total:.1%}" for count in counts]
        colors = [_UNKNOWN_COLOR if name == _UNKNOWN else _COLORS[0] for name in names]
        figure.add_bar(
            x=list(names), y=counts.tolist(), text=texts, textposition="outside", cliponaxis=False, marker_color=colors
        )
        return _html(figure, axis, legend=False)
    joint = pd.crosstab(frame[along], frame[by]).reindex(index=list(names), columns=list(classes), fill_value=0)
    totals = joint.sum(axis=1).clip(lower=1)
    for index, name in enumerate(classes):
        counts = joint[name]
        figure.add_bar(
            name=name,
            x=list(names),
            y=((counts / totals) if shares else counts).tolist(),
            customdata=counts.tolist(),
            hovertemplate="%{x}, " + escape(name) + ": %{customdata:,}<extra></extra>",
            marker_color=_UNKNOWN_COLOR if name == _UNKNOWN else _COLORS[index % len(_COLORS)],
        )
    figure.update_layout(barmode="group" if grouped else "stack", bargap=0.12)
    if along == "label" and _whole_years(frame):
        figure.update_xaxes(tickmode="array", tickvals=[name for name in names if int(name) % 10 == 0])
    return _html(figure, axis, shares=shares)


def _boxes(frame: pd.DataFrame, by: str, classes: Sequence[str]) -> str:
    """Return a box plot of the ages of each class: quartiles, mean and 1.5 IQR whiskers (Tukey)."""
    figure = go.Figure()
    for index, name in enumerate(classes):
        years = frame.loc[(frame[by] == name) & frame["years"].notna(), "years"].to_numpy()
        if not len(years):
            continue
        first, median, third = np.quantile(years, [0.25, 0.5, 0.75])
        reach = 1.5 * (third - first)
        figure.add_box(
            name=name,
            x=[f"{name}<br>n={len(years):,}"],
            q1=[first],
            median=[median],
            q3=[third],
            mean=[years.mean()],
            lowerfence=[years[years >= first - reach].min()],
            upperfence=[years[years <= third + reach].max()],
            marker_color=_UNKNOWN_COLOR if name == _UNKNOWN else _COLORS[index % len(_COLORS)],
        )
    return _html(figure, "", legend=False, values="years")


def _bin_table(table: pd.DataFrame, scheme: BinsSpec) -> str:
    rows = bin_ages(table, scheme)
    total = sum(row["images"] for row in rows.values()) or 1
    body = [
        (
            label,
            f"{row['images']:,}",
            f"{row['images'] / total:.1%}",
            "" if row["mean"] is None else f"{row['mean']:.2f}",
            "" if row["mode"] is None else f"{row['mode']:g}",
        )
        for label, row in rows.items()
    ]
    note = (
        "" if (table["age_low"] == table["age_high"])[table["age"].notna()].all() else _quiet("of the middle of ranges")
    )
    return _table(("years", "images", "share", "mean", "mode"), body) + note


def _sizes(packed: Packed) -> str:
    rows = np.unique(np.linspace(0, len(packed) - 1, num=min(_MEASURED, len(packed)), dtype=np.int64))
    sizes: Counter[tuple[int, int]] = Counter()
    data_bytes = 0
    for data in packed.image_bytes(rows):
        data_bytes += len(data)
        with open_image(data) as image:
            sizes[image.size] += 1
    body = [
        (f"{width} x {height}", f"{count:,}", f"{count / len(rows):.1%}")
        for (width, height), count in sizes.most_common(_SHOWN_SIZES)
    ]
    if (others := len(sizes) - _SHOWN_SIZES) > 0:
        count = sum(count for _, count in sizes.most_common()[_SHOWN_SIZES:])
        body.append((f"{others:,} other sizes", f"{count:,}", f"{count / len(rows):.1%}"))
    sides = np.array([min(size) for size, count in sizes.items() for _ in range(count)])
    of = "all" if len(rows) == len(packed) else f"{len(rows):,} evenly spaced of {len(packed):,}"
    note = (
        f"of {of} images; shorter side {sides.min()} to {sides.max()} pixels, median {np.median(sides):g}; "
        f"{data_bytes / len(rows) / 1000:.1f} kB a file on average"
    )
    return _table(("width x height, pixels", "images", "share"), body) + _quiet(note)


def _skipped(skipped: Sequence[Mapping[str, str]]) -> str:
    """Return the number of skipped files by reason, with an expandable list of them."""
    reasons = Counter(entry["reason"] for entry in skipped)
    counts = _table(("reason", "files"), [(reason, f"{count:,}") for reason, count in reasons.most_common()])
    files = _table(("file", "reason"), [(entry["file"], entry["reason"]) for entry in skipped[:_SHOWN_SKIPPED]])
    more = len(skipped) - _SHOWN_SKIPPED
    note = _quiet(f"and {more:,} more, which `agr data stats` lists") if more > 0 else ""
    return f'{counts}<details><summary>which files</summary><div class="words">{files}</div>{note}</details>'


def _heading(packed: Packed, source: str) -> str:
    ages = packed.table["age"].dropna()
    kind = "ages are ranges; figures in years are of their middle" if packed.label_kind == "range" else "exact ages"
    lines = [f"{len(packed):,} images, {len(packed.manifest['skipped']):,} files skipped, {kind}"]
    if len(ages):
        lines.append(f"{ages.min():g} to {ages.max():g} years, mean {ages.mean():.1f}, median {ages.median():g}")
    if (crop := packed.manifest.get("crop")) is not None:
        aligned = ", eyes level" if crop.get("align") else ""
        lines.append(f"cropped to the face by {crop['version']}, margin {crop['margin']:g}{aligned}")
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines)
    digest = _quiet(f"{packed.manifest['kind']}, data digest {packed.digest}")
    return f"<header><h1>{escape(source)}</h1>{paragraphs}{digest}</header>"


def _section(title: str, content: str, *, wide: bool = False) -> str:
    shape = "wide" if wide else "half"
    return f'<section class="{shape}"><h2>{escape(title)}</h2>{content}</section>'


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _html(figure: go.Figure, axis: str, *, legend: bool = True, values: str = "images", shares: bool = False) -> str:
    figure.update_layout(
        template="plotly_white",
        height=340,
        margin={"l": 60, "r": 10, "t": 36, "b": 50 if axis else 30},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1c2733"},
    )
    figure.update_xaxes(title=axis, type="category", automargin=True)
    figure.update_yaxes(title="" if shares else values, tickformat=".0%" if shares else ",", rangemode="tozero")
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, config=config)
    return html
