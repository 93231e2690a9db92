"""``agr leaderboard``, ``list``, ``status`` and ``logs``: what was found, and what runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    TrialArgument,
    console,
    errors_in_one_line,
    print_json,
    print_pairs,
    run_ids_of,
    say,
    storage_at,
)

if TYPE_CHECKING:
    from orchestrator.leaderboard import Row
    from orchestrator.state import SweepState, TrialState
    from orchestrator.storage.base import Storage

SweepArgument = Annotated[str, typer.Argument(help="Sweep ID, or a unique beginning of one.")]
_FOLLOW_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(leaderboard)
    app.command("list")(list_sweeps)
    app.command()(status)
    app.command()(logs)


def leaderboard(
    sweeps: Annotated[list[str], typer.Argument(help="Sweep IDs, or unique beginnings of them.")],
    metric: Annotated[
        str | None, typer.Option("--metric", help="Rank by this metric: age_cs5 (of the best epoch), test/age_mae.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Only so many ranks.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the trials of one sweep, or of several on the same split.

    Only completed trials have a rank. Example: agr leaderboard quickstart --top 5
    """
    with errors_in_one_line():
        from agr_core.objective import objective_names
        from orchestrator import leaderboard as board
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_sweep
        from orchestrator.trial_metrics import metric_direction, resolve_metric

        place = storage_at(storage)
        states = [read_state(place, sweep_id) for sweep_id in dict.fromkeys(find_sweep(place, s) for s in sweeps)]
        if len(states) == 1 and len(states[0].splits) > 1:
            say("warning: this sweep varies the split, so its trials were validated on different images.")
        run_ids = run_ids_of(states) if as_json else {}
        rows = board.rows(states, metric=metric, top=top, run_ids=run_ids, storage=place)
        if as_json:
            print_json([row.to_json() for row in rows])
            return
        objectives = states[0].started.objectives
        names = [metric] if metric is not None else list(objective_names(objectives))
        reported = {name for row in rows for name in row.metrics}
        values = {name: resolve_metric(name, reported) if rows else name for name in names}
        _print_leaderboard(rows, states, {value: metric_direction(value, objectives) for value in values.values()})


def _print_leaderboard(rows: list[Row], states: list[SweepState], values: Mapping[str, str]) -> None:
    """Print the ranked trials; ``values``: the direction of each metric that they are ranked by."""
    from orchestrator.cli.leaderboard_table import STOPPED_EARLY, WARNED, leaderboard_table
    from orchestrator.tracking.describe import varying

    out = console()
    params = varying(trial.created for state in states for trial in state.trials.values())
    table, omitted = leaderboard_table(rows, value_titles=list(values), params=params, width=out.width)
    out.print(table)
    reads = sum(state.test_reads for state in states)
    ranked_by = "; ".join(f"{name}, {direction}" for name, direction in values.items())
    out.print(f"{ranked_by}; reads of the test part: {reads}.", style="dim")
    if len(values) > 1:
        out.print(
            "front 1: no trial is better in one objective and no worse in all others; front 2: only some of front 1. "
            "The first objective orders each front, and tells the best epoch of each trial.",
            style="dim",
            highlight=False,
        )
    for mark, shown, words in (
        (STOPPED_EARLY, any(row.stopped_early for row in rows), "stopped by its own early stopping"),
        (WARNED.strip(), any(row.warnings for row in rows), "look at its warnings: `agr show TRIAL`"),
    ):
        if shown:
            out.print(f"{mark} {words}", style="dim")
    if any(row.margin is not None and not row.confirmed for row in rows):
        out.print("±: half of the 95 % interval of the mean over seeds", style="dim", highlight=False)
    if any(row.confirmed for row in rows):
        out.print(
            "confirmed: means over fresh seeds, of the value with its 95 % interval; the trial is the first of them. "
            "tie: the difference to the winner, over the same seeds and images, may be 0. Others: what the search saw, "
            "which flatters.",
            style="dim",
            highlight=False,
        )
    if omitted:
        more = f"{omitted} more params vary" if omitted > 1 else "1 more param varies"
        out.print(f"{more}; `agr show TRIAL` and --json have the rest.", style="dim")
    for state in states:
        for line in baseline_lines(state):
            out.print(line, soft_wrap=True)
        out.print(_where(state), style="dim", soft_wrap=True)


def baseline_lines(state: SweepState) -> list[str]:
    """The best trial's figures above those of a predictor that looks at no image; nothing where there are none."""
    from orchestrator.trial_metrics import against_baseline

    figures = against_baseline(state)
    best = state.best()
    if not figures or best is None:
        return []
    names = (f"best trial, {best.trial_id}", "mean / majority predictor")
    return [
        f"{name:<26}" + "  ".join(f"{metric} {values[which]:<6.4g}" for metric, values in figures.items())
        for which, name in enumerate(names)
    ]


def _where(state: SweepState) -> str:
    """Link of the saved view, or how to get one."""
    from orchestrator.errors import TrackerError
    from orchestrator.settings import Settings
    from orchestrator.tracking import open_tracker
    from orchestrator.tracking.view import view_link

    settings = Settings.from_environment()
    tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
    if not tracker.uri.startswith("http"):
        return "In MLflow: `agr ui`"
    try:
        experiment_id = tracker.find_experiment(state.started.experiment)
    except TrackerError as error:
        return f"No link: {error}"
    if experiment_id is None:
        return f"MLflow at {tracker.uri} does not have it; `agr sync` brings it there."
    return f"In MLflow: {view_link(tracker.uri, experiment_id, state.started.sweep_id)}"


def list_sweeps(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the sweeps of a storage, newest first."""
    with errors_in_one_line():
        from orchestrator.lookup import summaries

        place = storage_at(storage)
        found = list(summaries(place, now=time.time(), unreadable=lambda error: say(f"warning: {error}")))
        if as_json:
            names = ("sweep_id", "name", "status", "trials", "best")
            print_json([{name: summary[name] for name in names} for summary in found])
            return
        if not found:
            say(f"no sweeps in {place.uri} yet. Start one: agr submit sweeps/quickstart.yaml")
            return
        _print_sweeps(found)


def _print_sweeps(found: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("sweep", "status", "best", "trials"):
        table.add_column(title, no_wrap=True)
    for summary in found:
        best = summary["best"]
        table.add_row(
            summary["sweep_id"],
            summary["status"],
            "" if best is None else f"{_figures(best['value'], '.4g')} ({best['trial_id']})",
            _progress(summary),
        )
    console().print(table)


def status(sweep: SweepArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Say how far a sweep is, what runs where, and whether its driver lives."""
    with errors_in_one_line():
        from orchestrator.lookup import find_sweep, read_summary
        from orchestrator.retention import usage

        place = storage_at(storage)
        now = time.time()
        summary = read_summary(place, find_sweep(place, sweep), now=now)
        summary["heartbeat_age_s"] = round(now - summary["heartbeat"], 1)
        live = _live(place, summary)
        summary["nodes"] = _by_node(live, lambda trial: trial.trial_id)
        summary["waiting"] = sum(not trial.running for trial in live)
        used = usage(place, summary["sweep_id"])
        summary["storage"] = {"weights_bytes": used.weights, "other_bytes": used.others}
        if as_json:
            print_json(summary)
        else:
            _print_status(summary, _by_node(live, _epoch_of))


def _live(storage: Storage, summary: dict[str, Any]) -> list[TrialState]:
    """Trials that run, or wait for a worker; only the journal knows, so it is read only if there are any."""
    from orchestrator.journal import read_state

    if summary["status"] != "running" or not summary["trials"]["running"]:
        return []
    return [trial for trial in read_state(storage, summary["sweep_id"]).trials.values() if trial.ended is None]


def _by_node(live: Sequence[TrialState], words: Callable[[TrialState], str]) -> dict[str, list[str]]:
    """``words`` of each trial that runs, by the address of its node."""
    nodes: dict[str, list[str]] = {}
    for trial in live:
        if trial.running and trial.node is not None:
            nodes.setdefault(trial.node, []).append(words(trial))
    return nodes


def _epoch_of(trial: TrialState) -> str:
    epoch = trial.reports[-1].epoch if trial.reports else 0
    return f"{trial.trial_id} (epoch {epoch} of {trial.created.config['schedule']['epochs']})"


def _print_status(summary: dict[str, Any], nodes: Mapping[str, Sequence[str]]) -> None:
    from agr_core.objective import Objective, objective_names

    given = summary["objective"]
    objectives = [Objective.model_validate(each) for each in (given if isinstance(given, list) else [given])]
    best, budget = summary["best"], summary["budget_wall_s"]
    lines = {"status": summary["status"], "trials": _progress(summary, waiting=summary["waiting"])}
    if best is not None:
        names = ", ".join(objective_names(objectives))
        lines["best"] = f"{names} {_figures(best['value'], '.5g')} by trial {best['trial_id']}"
    stages = summary.get("stages") or {}
    if stages:
        lines["stages"] = f"{stages['trained']} trained, {stages['reused']} reused"
    if summary.get("test_reads"):
        lines["test part"] = f"reads: {summary['test_reads']}"
    data = summary.get("data") or {}
    if data:
        lines["data"] = (
            f"{data['fetched_bytes'] / 1e6:.1f} MB fetched, {data['spent_s']:.1f} s spent on fetching, checking and "
            f"decoding, {data['saved_s']:.1f} s saved by what was on the node"
        )
    lines["ran"] = f"{summary['wall_s']:.0f} s" + ("" if budget is None else f" of {budget:.0f} s")
    used = summary["storage"]
    lines["storage"] = f"{used['weights_bytes'] / 1e6:.1f} MB of weights, {used['other_bytes'] / 1e6:.1f} MB of records"
    if summary["status"] in ("running", "lost"):
        lines["driver"] = f"last heard of {summary['heartbeat_age_s']:.0f} s ago"
    for node, trials in sorted(nodes.items()):
        lines[f"on {node}"] = ", ".join(trials)
    for quarantine in summary.get("quarantined", ()):
        lines[f"{quarantine['node']} (quarantined)"] = f"no more trials; the last error: {quarantine['error']}"
    print_pairs(summary["sweep_id"], lines)
    if summary["status"] in ("lost", "interrupted"):
        say(f"Its state is kept. Go on with: agr resume {summary['sweep_id']}")


def _figures(value: float | Sequence[float], precision: str) -> str:
    """The value of one objective, or those of several."""
    from orchestrator.pareto import point_of

    return ", ".join(format(each, precision) for each in point_of(value))


def _progress(summary: dict[str, Any], *, waiting: int = 0) -> str:
    """Trials by outcome; ``waiting``: of those that the summary calls running so many wait for a worker."""
    shown = {**summary["trials"], "running": summary["trials"]["running"] - waiting, "waiting": waiting}
    counts = ", ".join(f"{count} {name}" for name, count in shown.items() if count) or "none"
    return counts if summary["planned"] is None else f"{counts} (of {summary['planned']})"


def logs(
    trial: TrialArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial has ended.")] = False,
    storage: StorageOption = None,
) -> None:
    """Print what a trial's last attempt said."""
    with errors_in_one_line():
        from orchestrator.cli.terminal import harmless
        from orchestrator.errors import NotFoundError
        from orchestrator.lookup import find_trial

        place = storage_at(storage)
        sweep_id, trial_id = find_trial(place, trial)
        printed = ""
        while True:
            # Asked before the log is read: after the end nothing is added to it.
            over = not follow or _is_over(place, sweep_id, trial_id)
            text = _last_log(place, sweep_id, trial_id)
            if text is None and over:
                raise NotFoundError(f"trial {trial_id} of sweep {sweep_id} never wrote a log.")
            text = text or ""
            typer.echo(harmless(text.removeprefix(printed)), nl=False)
            printed = text
            if over:
                break
            time.sleep(_FOLLOW_S)


def _last_log(storage: Storage, sweep_id: str, trial_id: str) -> str | None:
    from orchestrator.errors import NotFoundError
    from orchestrator.storage import layout

    attempts = [int(name.removeprefix("attempt-")) for name in storage.folders(layout.trial(sweep_id, trial_id))]
    try:
        key = f"{layout.attempt(sweep_id, trial_id, max(attempts, default=0))}/log.txt"
        return storage.read(key).decode("utf-8", errors="replace")
    except NotFoundError:
        return None


def _is_over(storage: Storage, sweep_id: str, trial_id: str) -> bool:
    from orchestrator.journal import read_state

    return read_state(storage, sweep_id).trials[trial_id].ended is not None
