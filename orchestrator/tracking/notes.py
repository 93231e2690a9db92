"""Descriptions of a sweep and its trials in MLflow: Markdown notes, and the sweep's report with its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.journal.events import SweepStarted, TrialCreated
from orchestrator.results.wording import rerun_command, short
from orchestrator.storage.base import Storage

NOTE = "mlflow.note.content"
"""MLflow shows this tag of a run, or of an experiment, as its description."""

FOLDER = "report"
"""Artifact folder of the sweep's report and pictures."""

WriteReport = Callable[[Path, Storage, str], str]
"""Writes the report of a sweep of a storage into a folder; returns the sweep's description."""


def experiment_note(sweep: SweepStarted) -> str:
    """Return the description of an experiment."""
    return (
        f"Sweeps named `{sweep.name}`, started by `agr submit`. The newest: {sweep.description or sweep.sweep_id}\n\n"
        "A run is a sweep or, beneath it, one of its trials. **Views** has a ranked table of each sweep and one of its "
        "gaps between groups. Everything here is derived from the sweeps' journals; `agr sync` restores it."
    )


def running_note(sweep: SweepStarted) -> str:
    """Return the description of a running sweep."""
    sweep_id = sweep.sweep_id
    return _joined(
        sweep.description,
        "Running. Results and pictures appear here after its end.",
        _commands([f"agr leaderboard {sweep_id}", f"agr board {sweep_id}"]),
    )


def trial_note(sweep: SweepStarted, created: TrialCreated, storage_uri: str) -> str:
    """Return the description of a trial: its settings, and the command that trains it again."""
    rows = [f"| `{path}` | {_cell(short(value))} |" for path, value in created.params.items()]
    table = ["| setting | value |", "|---|---|", *rows] if rows else []
    return _joined(
        f"Trial {created.number} of sweep `{sweep.sweep_id}`.",
        "\n".join(table),
        _commands(
            [
                rerun_command(sweep.sweep_id, created.trial_id, storage_uri),
                f"agr show {sweep.sweep_id}/{created.trial_id}",
            ]
        ),
        "Once it has ended, learning curves and confusion matrices are among the artifacts, in `plots`.",
    )


def write_report(folder: Path, storage: Storage, sweep_id: str) -> str:
    """Write the report of an ended sweep, and its pictures, into ``folder``; return the sweep's description.

    The cost is bounded: the page draws a limited number of trials, however many there are.

    Raises:
        IntegrityError: If the files of the two best trials are damaged.
    """
    from orchestrator.report.evidence import Evidence
    from orchestrator.report.page import figures_of, page_html
    from orchestrator.report.pictures import pictures

    evidence = Evidence(storage)
    states = evidence.states([sweep_id])
    ends = [state.ended.time for state in states if state.ended is not None]
    # As of the sweep's end, so that the same journal gives the same page whenever it is delivered.
    figures = figures_of(evidence, states, now=max(ends, default=None))
    (folder / "report.html").write_text(page_html(figures, title=sweep_id), encoding="utf-8")
    for name, picture in pictures(figures).items():
        (folder / f"{name}.png").write_bytes(picture)
    return ended_note(figures)


def ended_note(figures: Mapping[str, Any]) -> str:
    """Return the description of an ended sweep: winner and its certainty, search, cost, commands."""
    sweep = figures["sweeps"][0]
    sweep_id = sweep["sweep_id"]
    head = figures["head"]
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sweep["counts"].items()) or "no trial"
    searched = f"**Search.** {counts}; {'; '.join(sweep['objectives'])}. {_importance(figures['importance'])}"
    cost = f"**Cost.** {_duration(sweep['spent_s'])} of driver time; reads of the test part: {sweep['test_reads']}."
    commands = [f"agr report {sweep_id} -o report.html", f"agr leaderboard {sweep_id}"]
    if head is not None:
        rows = figures["leaderboard"]["rows"]
        commands.insert(0, next(row["rerun"] for row in rows if row["trial"] == head["trial_id"]))
        others = [row["trial"] for row in rows if row["rank"] == 2][:1]
        commands += [f"agr compare {sweep_id}/{head['trial_id']} {sweep_id}/{other}" for other in others]
        commands.append(f"agr serve --model {sweep_id}/{head['trial_id']}")
    return _joined(
        sweep["description"],
        sweep["message"] or "",
        "" if head is None else _won(head),
        searched,
        cost,
        _commands(commands),
        f"The whole report with curves, importance, groups and workers is among the artifacts: `{FOLDER}/report.html`.",
    )


def _won(head: Mapping[str, Any]) -> str:
    interval = head["interval"]
    sure = interval["over"]
    if interval["low"] is not None:
        sure = f"95 % interval {interval['low']:.4g} to {interval['high']:.4g} over {interval['over']}"
    baseline = "" if head["baseline"] is None else f" The mean / majority predictor has {head['baseline']:.4g}."
    trial = f"{_cell(head['name'])} (`{head['trial_id']}`)"
    return f"**Winner.** {trial}: {head['metric']} {head['value']:.4g}, {sure}.{baseline}"


def _importance(importance: Mapping[str, Any]) -> str:
    if importance["message"] is not None:
        return ""
    rows = importance["rows"][:3]
    shares = ", ".join(f"`{row['path']}` {row['share']:.0%} ({row['low']:.0%} to {row['high']:.0%})" for row in rows)
    return f"Importance: {shares}."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cell(text: str) -> str:
    """Escape text so that it neither ends a table cell nor begins markup."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _commands(commands: Sequence[str]) -> str:
    return "\n".join(("```bash", *commands, "```"))


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
