"""PNG images of the page's figures, for uses without scripts: MLflow artifacts, papers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agr_core.evaluation.plots import confusions_png, empty_figure, png

_GREY, _ACCENT, _WARN = "#b8c2cc", "#0f766e", "#b45309"
_OUTCOME = {"completed": _ACCENT, "pruned": "#94a3b8", "diverged": "#d97706", "failed": "#dc2626"}
_GROUPS = 6
_NAMED = 12
"""Number of trials of the front that have their ID beside them."""


def pictures(figures: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw PNG images, by name, of the figures that have data.

    ``curves``, ``rung_survival``, ``pareto_front``, ``importance``, ``parallel_coordinates``, ``groups``, ``workers``,
    and ``confusion_<task>``, the winner's confusion matrix beside that of the runner-up.
    """
    made = {
        "curves": _curves(figures) if figures["curves"]["best"] or figures["curves"]["others"] else None,
        "rung_survival": _survival(figures["survival"]) if figures["survival"]["trials"] else None,
        "pareto_front": _front(figures["front"]) if figures["front"]["points"] else None,
        "importance": _importance(figures["importance"]) if figures["importance"]["rows"] else None,
        "parallel_coordinates": _parallel(figures) if figures["parallel"]["axes"] else None,
        "groups": _groups(figures["groups"]) if figures["groups"]["figures"] else None,
        "workers": _workers(figures["timeline"]) if figures["timeline"]["lanes"] else None,
        **{f"confusion_{data['task']}": _confusion(data) for data in figures["confusion"]},
    }
    return {name: picture for name, picture in made.items() if picture is not None}


def _curves(figures: Mapping[str, Any]) -> bytes:
    data = figures["curves"]
    figure = empty_figure(width=9, height=5)
    axes = figure.add_subplot()
    for curve in data["others"]:
        axes.plot(
            *_columns(curve["points"]), color=_GREY, linewidth=0.8, marker="." if len(curve["points"]) == 1 else ""
        )
    for curve in reversed(data["best"]):
        axes.plot(*_columns(curve["points"]), linewidth=2, marker=".", label=f"{curve['rank']}  {curve['name']}")
    if data["baseline"] is not None:
        axes.axhline(data["baseline"], color=_WARN, linestyle="--", label="baseline")
    axes.set(xlabel="epoch", ylabel=figures["objective"], title=f"{figures['title']}: the best over all others")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
    return png(figure)


def _columns(points: list[list[float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]


def _survival(data: Mapping[str, Any]) -> bytes:
    figure = empty_figure(width=6, height=4)
    axes = figure.add_subplot()
    epochs, counts = _columns(data["reached"])
    colors = [_WARN if epoch in data["rungs"] else _ACCENT for epoch in epochs]
    axes.bar(epochs, counts, color=colors)
    axes.set(xlabel="epoch", ylabel="trials", title="Trials that reported each epoch (amber: rungs)")
    return png(figure)


def _front(data: Mapping[str, Any]) -> bytes:
    """Draw the first objective against each further one; the front's trials are joined in order of the first."""
    first, *further = data["objectives"]
    figure = empty_figure(width=6.5, height=4.5 * len(further))
    for number, objective in enumerate(further, start=1):
        axes = figure.add_subplot(len(further), 1, number)
        points = [(point, point["values"][0], point["values"][number]) for point in data["points"]]
        best = sorted((x, y) for point, x, y in points if point["front"] == 1)
        others = [(x, y) for point, x, y in points if point["front"] != 1]
        if others:
            axes.plot(*zip(*others, strict=True), "o", color=_GREY, label="dominated")
        axes.plot(*zip(*best, strict=True), "o-", color=_ACCENT, linewidth=1, label="front")
        for point, x, y in [each for each in points if each[0]["front"] == 1][:_NAMED]:
            axes.annotate(point["trial"], (x, y), xytext=(4, 4), textcoords="offset points", fontsize="x-small")
        axes.set(
            xlabel=f"{first['name']} ({first['direction']})", ylabel=f"{objective['name']} ({objective['direction']})"
        )
        axes.legend(fontsize="small")
    figure.suptitle("Pareto front: no other trial is better in every objective")
    return png(figure)


def _confusion(data: Mapping[str, Any]) -> bytes:
    """Draw a task's confusion matrices of the winner and of the runner-up, as far as both have one."""
    sides = zip(("winner", "runner-up"), data["sides"], strict=False)
    return confusions_png(
        [(side, f"{data['task']}, {place}\n{side['name']} ({side['trial']})") for place, side in sides]
    )


def _importance(data: Mapping[str, Any]) -> bytes:
    rows = data["rows"][::-1]
    figure = empty_figure(width=7, height=1.6 + 0.35 * len(rows))
    axes = figure.add_subplot()
    axes.barh([row["path"] for row in rows], [row["share"] for row in rows], color=_ACCENT)
    for row_number, row in enumerate(rows):
        axes.plot([row["low"], row["high"]], [row_number, row_number], color="black", linewidth=1.5)
    axes.set(
        xlabel="share of importance, 95 % range",
        title=f"PED-ANOVA over {data['trials']} trials, {data['predicted']} by predicted ends",
    )
    return png(figure)


def _parallel(figures: Mapping[str, Any]) -> bytes:
    data = figures["parallel"]
    lines = [line for line in data["lines"] if line["value"] is not None]
    values = [line["value"] for line in lines]
    value_axis = {"path": figures["objective"], "kind": "number", "low": min(values), "high": max(values), "log": False}
    axes_of = [*data["axes"], value_axis]
    figure = empty_figure(width=max(7.0, 1.7 * len(axes_of)), height=4.5)
    axes = figure.add_subplot()
    for line in reversed(lines):  # best first in the list; drawn last to be on top
        points = [
            (position, _height(axis, value))
            for position, (axis, value) in enumerate(zip(axes_of, [*line["settings"], line["value"]], strict=True))
            if value is not None
        ]
        first, stopped = line["rank"] == 1, line["outcome"] != "completed"
        color = "#dc2626" if first else _GREY if stopped else _ACCENT
        axes.plot(
            *zip(*points, strict=True), color=color, linewidth=2.5 if first else 0.9, alpha=0.4 if stopped else 0.9
        )
    axes.set_xticks(range(len(axes_of)), [axis["path"] for axis in axes_of], rotation=20, fontsize="small")
    axes.set_yticks([])
    for position, axis in enumerate(axes_of):
        axes.axvline(position, color="black", linewidth=0.6)
        if axis["kind"] == "choice":
            for choice in axis["choices"]:
                axes.annotate(choice, (position, _height(axis, choice)), fontsize="x-small")
        else:
            axes.annotate(f"{axis['low']:.3g}", (position, 0), fontsize="x-small")
            axes.annotate(f"{axis['high']:.3g}", (position, 1), fontsize="x-small")
    axes.set_title("Settings and value of each trial (red: the best; grey: stopped)")
    return png(figure)


def _height(axis: Mapping[str, Any], value: Any) -> float:
    """Return the position of a value on its axis, from 0 to 1."""
    if axis["kind"] == "choice":
        return float((axis["choices"].index(value) + 0.5) / len(axis["choices"]))
    low, high = axis["low"], axis["high"]
    if low == high:
        return 0.5
    if axis["log"]:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low))


def _groups(data: Mapping[str, Any]) -> bytes:
    shown = data["figures"][:_GROUPS]
    figure = empty_figure(width=9, height=2.6 * ((len(shown) + 1) // 2))
    for number, of_group in enumerate(shown, start=1):
        axes = figure.add_subplot((len(shown) + 1) // 2, 2, number)
        names = [group["name"] for group in of_group["groups"]]
        axes.plot([group["mean"] for group in of_group["groups"]], names, "o", color=_ACCENT)
        for group in of_group["groups"]:
            if group["low"] is not None:
                axes.plot([group["low"], group["high"]], [group["name"]] * 2, color=_ACCENT)
        axes.set_title(f"{of_group['figure']} by {of_group['by']}: gap {of_group['gap']:.4g}", fontsize="small")
        axes.invert_yaxis()
    return png(figure)


def _workers(data: Mapping[str, Any]) -> bytes:
    lanes = data["lanes"]
    figure = empty_figure(width=9, height=1.4 + 0.3 * len(lanes))
    axes = figure.add_subplot()
    for lane_number, lane in enumerate(lanes):
        spans = [((bar["from"] - data["start"]) / 60, (bar["to"] - bar["from"]) / 60) for bar in lane["bars"]]
        colors = [_OUTCOME.get(bar["outcome"] or "", "#0284c7") for bar in lane["bars"]]
        axes.broken_barh(spans, (lane_number - 0.4, 0.8), facecolors=colors, edgecolor="white", linewidth=0.4)
    axes.set_yticks(range(len(lanes)), [lane["node"] for lane in lanes], fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="minutes", title="Trials on their nodes (green: completed, grey: stopped, red: failed)")
    return png(figure)
