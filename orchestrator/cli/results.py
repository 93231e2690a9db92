"""``agr leaderboard``, ``status`` and ``logs``: results and progress of sweeps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    SweepArgument,
    SweepsArgument,
    TrialArgument,
    console,
    errors_in_one_line,
    print_json,
    print_pairs,
    run_ids_of,
    say,
    storage_at,
    sweep_of,
    warn,
)

if TYPE_CHECKING:
    from orchestrator.catalog.summary import Summary
    from orchestrator.cleanup.retention import Usage
    from orchestrator.journal.sweep_state import SweepState, TrialState
    from orchestrator.results.leaderboard import Row
    from orchestrator.storage.base import Storage

_FOLLOW_S = 2.0
_SHOWN = 100
"""Configurations that ``leaderboard`` shows without ``--top``; the others are counted."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(leaderboard)
    app.command()(status)
    app.command()(logs)


def leaderboard(
    sweeps: SweepsArgument,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Rank by this metric: age_cs5 (of the best epoch), test/age_mae.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Number of ranks to show.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="NAME[=VALUE]", help="Only trials with this tag (`agr tag`); may be repeated."),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the trials of one sweep, or of several on the same split.

    Only completed trials have a rank. Example: agr leaderboard quickstart --top 5
    """
    with errors_in_one_line():
        from agr_core.objective import objective_names
        from orchestrator.journal.annotations import has_tags
        from orchestrator.journal.segments import read_state
        from orchestrator.results import leaderboard as board
        from orchestrator.results.trial_metrics import metric_direction, resolve_metric

        opened = storage_at(storage)
        states = [read_state(opened, sweep_id) for sweep_id in dict.fromkeys(sweep_of(opened, s) for s in sweeps)]
        if len(states) == 1 and len(states[0].splits) > max(1, states[0].started.folds):
            say("warning: this sweep varies the split, so its trials were validated on different images.")
        rows = board.rows(states, metric=metric, top=top, storage=opened)
        rows = [row for row in rows if has_tags(row.tags, tag or ())]
        if tag and not rows:
            say(f"no trial here has all of: {', '.join(tag)}. Set a tag with: agr tag TRIAL {tag[0]}")
        for state in states:
            if state.leaks:
                say(f"warning: {leaks_line(state)}")
        if as_json:
            of_sweep = {state.started.sweep_id: state.started for state in states}
            run_ids = run_ids_of([(of_sweep[row.sweep_id], row.trial_id) for row in rows])
            print_json([row.to_json(run_ids.get((row.sweep_id, row.trial_id))) for row in rows])
            return
        objectives = states[0].started.objectives
        names = [metric] if metric is not None else list(objective_names(objectives))
        reported = {name for row in rows for name in row.metrics}
        values = {name: resolve_metric(name, reported) if reported else name for name in names}
        directions = {value: metric_direction(value, objectives) for value in values.values()}
        shown = rows if top is not None else board.of_first_configurations(rows, _SHOWN)
        _print_leaderboard(shown, states, directions, further=rows[len(shown) :])


def _print_leaderboard(
    rows: list[Row], states: list[SweepState], values: Mapping[str, str], *, further: Sequence[Row]
) -> None:
    """Print the ranked trials.

    Args:
        rows: Trials to show.
        states: Their sweeps.
        values: Direction of each ranking metric.
        further: Trials to count only.
    """
    from orchestrator.cli.render.fitted_table import print_table
    from orchestrator.cli.render.leaderboard_table import STOPPED_EARLY, WARNED, leaderboard_columns
    from orchestrator.results.wording import constants

    out = console()
    of_trials = [trial.created.params for state in states for trial in state.trials.values()]
    same = constants(of_trials)
    params = dict.fromkeys(path for params in of_trials for path in params if path not in same)
    ended = {state.started.sweep_id for state in states if state.ended is not None}
    columns, styles = leaderboard_columns(rows, value_titles=list(values), params=list(params), ended=ended)
    left_out = [column.title for column in print_table(columns, out, styles=styles)]
    if further:
        counts = Counter(row.outcome or "open" for row in further)
        words = ", ".join(f"{number:,} {outcome}" for outcome, number in counts.items())
        out.print(
            f"and {words}: --top {len(rows) + len(further)} shows those with a rank, --json all.",
            style="dim",
            highlight=False,
        )
    reads = sum(state.test_reads for state in states)
    ranked_by = "; ".join(f"{name}, {direction}" for name, direction in values.items())
    out.print(f"{ranked_by}; reads of the test part: {reads}.", style="dim")
    if len(values) > 1:
        out.print(
            "front 1: the non-dominated trials; front 2: those that only trials of front 1 dominate. "
            "The first objective orders each front and selects each trial's best epoch.",
            style="dim",
            highlight=False,
        )
    for mark, shown, words in (
        (STOPPED_EARLY, any(row.stopped_early for row in rows), "stopped by its own early stopping"),
        (WARNED.strip(), any(row.warnings for row in rows), "has warnings: `agr show TRIAL`"),
    ):
        if shown:
            out.print(f"{mark} {words}", style="dim")
    if any(row.margin is not None and not row.confirmed for row in rows):
        over = states[0].started.trained_over
        out.print(f"±: half of the 95 % interval of the mean over {over}", style="dim", highlight=False)
    if any(name.startswith("test/") for row in rows for name in row.pooled):
        out.print("test/...: of the test images of all folds together", style="dim", highlight=False)
    if any(row.confirmed for row in rows):
        out.print(
            "confirmed: means over fresh seeds, for the value with its 95 % interval; the trial is that of the first "
            "seed. tie: the interval of the difference to the winner, over the same seeds and images, contains 0. "
            "Others: values of the search, which are optimistic.",
            style="dim",
            highlight=False,
        )
    if left_out:
        out.print(f"no room for: {', '.join(left_out)}; `agr show TRIAL` and --json include them.", style="dim")
    for state in states:
        for line in baseline_lines(state):
            out.print(line, soft_wrap=True)
        out.print(_where(state), style="dim", soft_wrap=True)


def leaks_line(state: SweepState) -> str:
    """Return the warning for a sweep with trials on a leaking split."""
    leaking = sum(state.leaks_of(trial) > 0 for trial in state.trials.values())
    return (
        f"{leaking:,} of {len(state.trials):,} trials of {state.started.sweep_id} train on a split that leaks: up to "
        f"{state.leaks:,} groups of one picture or one subject are in several parts. Their val and test figures are "
        "optimistic."
    )


def baseline_lines(state: SweepState) -> list[str]:
    """Return the best configuration's figures above those of a predictor that ignores the image; empty if missing."""
    from orchestrator.results.trial_metrics import against_baseline

    figures = against_baseline(state)
    winner = state.winner() if figures else None
    if winner is None:
        return []
    seeds = len(winner.judged)
    best = (
        f"best trial, {winner.best.trial_id}" if seeds == 1 else f"best, mean of {seeds} {state.started.trained_over}"
    )
    names = (best, "mean / majority predictor")
    return [
        f"{name:<26}" + "  ".join(f"{metric} {values[which]:<6.4g}" for metric, values in figures.items())
        for which, name in enumerate(names)
    ]


def _where(state: SweepState) -> str:
    """Return the link of the saved MLflow view, or the command that creates one."""
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
        return f"MLflow at {tracker.uri} does not have it; `agr sync` delivers it."
    return f"In MLflow: {view_link(tracker.uri, experiment_id, state.started.sweep_id)}"


def status(sweep: SweepArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Show a sweep's progress, its running trials by node, and whether its driver is alive.

    Example: agr status quickstart
    """
    with errors_in_one_line():
        from orchestrator.catalog.liveness import Silences
        from orchestrator.catalog.rebuilt import summary_of
        from orchestrator.cleanup.retention import usage

        opened = storage_at(storage)
        summary = summary_of(opened, sweep_of(opened, sweep), warn=warn)
        silence = Silences(opened).of(summary.sweep_id)
        live = _live(opened, summary, silence)
        used = usage(opened, summary.sweep_id)
        if as_json:
            print_json(
                {
                    **summary.document(silence),
                    "heartbeat_age_s": round(silence, 1),
                    "nodes": _by_node(live, lambda trial: trial.trial_id),
                    "waiting": _waiting(live),
                    "storage": {"weights_bytes": used.weights, "other_bytes": used.others},
                }
            )
        else:
            _print_status(summary, live, used, silence)


def _live(storage: Storage, summary: Summary, silence: float) -> list[TrialState]:
    """Return the trials that run or wait for a worker; the journal is read only if the summary counts any."""
    from orchestrator.journal.segments import read_state

    if summary.status_after(silence) != "running" or not summary.trials.running:
        return []
    return [trial for trial in read_state(storage, summary.sweep_id).trials.values() if trial.ended is None]


def _by_node(live: Sequence[TrialState], words: Callable[[TrialState], str]) -> dict[str, list[str]]:
    """Return ``words`` of each running trial, grouped by node address."""
    nodes: dict[str, list[str]] = {}
    for trial in live:
        if trial.running and trial.node is not None:
            nodes.setdefault(trial.node, []).append(words(trial))
    return nodes


def _epoch_of(trial: TrialState) -> str:
    epoch = trial.reports[-1].epoch if trial.reports else 0
    return f"{trial.trial_id} (epoch {epoch} of {trial.created.config['schedule']['epochs']})"


def _waiting(live: Sequence[TrialState]) -> int:
    """Return the number of trials that wait for a worker."""
    return sum(not trial.running for trial in live)


def _print_status(summary: Summary, live: Sequence[TrialState], used: Usage, silence: float) -> None:
    from agr_core.objective import objective_names
    from orchestrator.cli.render.costs import cost_lines
    from orchestrator.journal.annotations import tag_words

    best, budget, status = summary.best, summary.budget_wall_s, summary.status_after(silence)
    lines: dict[str, Any] = {"status": status, "trials": _progress(summary, silence, waiting=_waiting(live))}
    if best is not None:
        names = ", ".join(objective_names(summary.objectives))
        lines["best"] = f"{names} {_figures(best.point, '.5g')} by trial {best.trial_id}"
    if summary.stages:
        lines["stages"] = f"{summary.stages['trained']} trained, {summary.stages['reused']} reused"
    if summary.test_reads:
        lines["test part"] = f"reads: {summary.test_reads}"
    data = summary.data
    if data:
        lines["data"] = (
            f"{data['fetched_bytes'] / 1e6:.1f} MB fetched, {data['spent_s']:.1f} s spent on fetching, checking and "
            f"decoding, {data['saved_s']:.1f} s saved by the node's cache"
        )
    lines["ran"] = f"{summary.wall_s:.0f} s" + ("" if budget is None else f" of {budget:.0f} s")
    lines |= cost_lines(summary)
    lines["storage"] = f"{used.weights / 1e6:.1f} MB of weights, {used.others / 1e6:.1f} MB of records"
    if status in ("running", "paused", "lost"):
        lines["driver"] = f"last heartbeat {silence:.0f} s ago"
    if summary.tags:
        lines["tags"] = ", ".join(tag_words(summary.tags))
    if summary.notes:
        lines["note"] = "; ".join(summary.notes)
    for node, trials in sorted(_by_node(live, _epoch_of).items()):
        lines[f"on {node}"] = ", ".join(trials)
    for quarantined in summary.quarantined:
        lines[f"{quarantined.node} (quarantined)"] = f"no more trials; the last error: {quarantined.error}"
    print_pairs(summary.sweep_id, lines)
    if status in ("lost", "interrupted"):
        say(f"Its state is kept. Continue with: agr resume {summary.sweep_id}")


def _figures(point: Sequence[float], precision: str) -> str:
    """Format the value of each objective."""
    return ", ".join(format(value, precision) for value in point)


def _progress(summary: Summary, silence: float, *, waiting: int) -> str:
    """Format the number of trials by outcome; ``waiting`` of the running trials wait for a worker."""
    shown = summary.trial_counts(silence)
    if waiting:
        shown |= {"running": shown["running"] - waiting, "waiting": waiting}
    counts = ", ".join(f"{count} {name}" for name, count in shown.items() if count) or "none"
    return counts if summary.planned is None else f"{counts} (of {summary.planned})"


def logs(
    trial: TrialArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until the trial ends.")] = False,
    storage: StorageOption = None,
) -> None:
    """Print the log of a trial's last attempt.

    Example: agr logs best --follow
    """
    with errors_in_one_line():
        from orchestrator.catalog.find import find_trial
        from orchestrator.cli.render.terminal import harmless
        from orchestrator.errors import NotFoundError
        from orchestrator.tracking.runs import trial_of_run

        opened = storage_at(storage)
        sweep_id, trial_id = find_trial(opened, trial, trial_of_run)
        printed = ""
        while True:
            # Checked before the log is read: after the end, no line is added.
            over = not follow or _is_over(opened, sweep_id, trial_id)
            text = _last_log(opened, sweep_id, trial_id)
            if text is None and over:
                raise NotFoundError(
                    f"trial {trial_id} of sweep {sweep_id} has no log; a trial writes one once it starts."
                )
            text = text or ""
            typer.echo(harmless(text.removeprefix(printed)), nl=False)
            printed = text
            if over:
                break
            time.sleep(_FOLLOW_S)


def _last_log(storage: Storage, sweep_id: str, trial_id: str) -> str | None:
    from orchestrator.errors import NotFoundError
    from orchestrator.storage import layout

    attempts = layout.attempt_numbers(storage.folders(layout.trial(sweep_id, trial_id)))
    try:
        key = f"{layout.attempt(sweep_id, trial_id, max(attempts, default=0))}/log.txt"
        return storage.read(key).decode("utf-8", errors="replace")
    except NotFoundError:
        return None


def _is_over(storage: Storage, sweep_id: str, trial_id: str) -> bool:
    from orchestrator.catalog.find import trial_in
    from orchestrator.journal.segments import read_state

    return trial_in(read_state(storage, sweep_id), trial_id).ended is not None
