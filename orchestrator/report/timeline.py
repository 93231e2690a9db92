"""Timeline of trials on nodes, and list of errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.journal.sweep_state import SweepState, TrialState

_BARS = 1500
"""Maximum number of trials drawn, newest first."""

_ERRORS = 50
"""Maximum number of errors listed, newest first."""


def timeline(states: Sequence[SweepState], now: float) -> dict[str, Any]:
    """Return bars of trials on lanes; the number of lanes of a node is its highest number of concurrent trials.

    A bar spans from a trial's first attempt to its end, or to ``now`` while it runs, on the trial's last node.
    """
    trained = [(trial, state) for state in states for trial in state.trials.values() if trial.started_at is not None]
    trained.sort(key=lambda state_and_trial: state_and_trial[0].started_at or 0.0)
    left_out = max(0, len(trained) - _BARS)
    lanes: dict[str, list[tuple[float, list[dict[str, Any]]]]] = {}
    for trial, state in trained[left_out:]:
        begin, end = trial.started_at or 0.0, _end(trial, state, now)
        of_node = lanes.setdefault(trial.node or "unknown node", [])
        free = next((number for number, (until, _) in enumerate(of_node) if until <= begin), None)
        if free is None:
            of_node.append((end, []))
            free = len(of_node) - 1
        bars = of_node[free][1]
        bars.append(
            {
                "trial": trial.trial_id,
                "number": trial.created.number,
                "from": begin,
                "to": end,
                "outcome": trial.outcome,
            }
        )
        of_node[free] = (end, bars)
    rows: list[dict[str, Any]] = [{"node": node, "bars": bars} for node in sorted(lanes) for _, bars in lanes[node]]
    times = [time for row in rows for bar in row["bars"] for time in (bar["from"], bar["to"])]
    return {"lanes": rows, "start": min(times, default=0.0), "end": max(times, default=0.0), "left_out": left_out}


def _end(trial: TrialState, state: SweepState, now: float) -> float:
    if trial.ended is not None:
        return trial.ended.time
    last = max([trial.started_at or 0.0, *(report.time for report in trial.reports[-1:])])
    return last if state.ended is not None else max(last, now)


def errors(states: Sequence[SweepState]) -> dict[str, Any]:
    """Return failed attempts, trials that ended with an error, and quarantined nodes, newest first."""
    rows: list[dict[str, Any]] = []
    for state in states:
        for trial in state.trials.values():
            where = {"sweep": state.started.sweep_id, "trial": trial.trial_id}
            rows += [
                {
                    **where,
                    "time": failed.time,
                    "what": f"attempt {failed.attempt}: {failed.cause}",
                    "text": failed.error,
                }
                for failed in trial.failures
            ]
            ended = trial.ended
            if ended is not None and ended.outcome in ("failed", "diverged"):
                rows.append({**where, "time": ended.time, "what": ended.outcome, "text": ended.error or ""})
        rows += [
            {
                "sweep": state.started.sweep_id,
                "trial": None,
                "time": node.time,
                "what": f"node {node.node} quarantined",
                "text": node.error,
            }
            for node in state.quarantined
        ]
    rows.sort(key=lambda error: -float(error["time"]))
    return {"rows": rows[:_ERRORS], "left_out": max(0, len(rows) - _ERRORS)}
