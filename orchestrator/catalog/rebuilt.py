"""Rebuild a sweep's summary from its journal if the driver's own is missing or damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

from agr_core.errors import InputError, IntegrityError
from orchestrator.catalog.summary import (
    BestTrial,
    CopyFigure,
    QuarantinedNode,
    Summary,
    SummaryError,
    TrialCounts,
    annotation_fields,
    read_summary,
)
from orchestrator.errors import NotFoundError
from orchestrator.journal.events import DataStaged, Event, SweepStarted
from orchestrator.journal.segments import JournalHead, read_segments
from orchestrator.journal.steering import Steering
from orchestrator.journal.steering_events import Spent
from orchestrator.journal.sweep_state import SweepState
from orchestrator.journal.totals import WallClock
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import layout
from orchestrator.storage.base import Storage


@dataclass(frozen=True)
class Unreadable:
    """A sweep whose summary and journal are both unreadable."""

    sweep_id: str
    error: IntegrityError


def summary_of(storage: Storage, sweep_id: str, *, warn: Callable[[str], None]) -> Summary:
    """Return the sweep's summary, rebuilt from its journal if need be; ``warn`` then gets one line.

    Raises:
        NotFoundError: If the sweep has neither.
        DamagedError: If neither can be read.
    """
    try:
        return read_summary(storage, sweep_id)
    except NotFoundError:
        rebuilt = rebuild_summary(storage, sweep_id)
        warn(
            f"sweep {sweep_id} has no {layout.summary(sweep_id)}: it is rebuilt from its journal, whose end may be "
            "missing."
        )
    except SummaryError as error:
        rebuilt = rebuild_summary(storage, sweep_id)
        warn(f"{error} The summary of sweep {sweep_id} is rebuilt from its journal.")
    return rebuilt


def rebuild_summary(storage: Storage, sweep_id: str) -> Summary:
    """Return the summary that a driver would have written after the last segment of the journal.

    Raises:
        NotFoundError: If the sweep has no journal.
        DamagedError: If the journal cannot be read.
    """
    wall, copies = WallClock(), Counter[CopyFigure]()
    state: SweepState | None = None
    head: JournalHead | None = None
    for segment in read_segments(storage, sweep_id):
        head = None if segment.header is None else JournalHead(segment=segment.number, sha256=segment.sha256)
        for event in segment.events:
            wall.apply(event)
            copies.update(_copied(event))
            if state is None:
                state = SweepState.from_events([event])
            else:
                state.apply(event)
    if state is None:
        raise NotFoundError(f"there is no sweep {sweep_id!r} in {storage.uri}. `agr list` shows what there is.")
    started, best = state.started, state.best_result()
    last = wall.last_event or started.time
    planned, budget_wall_s = _plan(started, state.steering)
    return Summary(
        sweep_id=sweep_id,
        name=started.name,
        status=state.status,
        started=started.time,
        heartbeat=last,
        wall_s=round(wall.seconds(last), 3),
        budget_wall_s=budget_wall_s,
        objective=started.objective if not started.further else started.objectives,
        trials=TrialCounts(**state.counts(), running=state.running),
        stages=state.totals.by_stage(),
        data={name: round(copies[name], 3) for name in get_args(CopyFigure)} if copies else {},
        quarantined=tuple(QuarantinedNode(node=event.node, error=event.error) for event in state.quarantined),
        planned=planned,
        test_reads=state.test_reads,
        best=None if best is None else BestTrial.of(*best),
        rerun_of=started.rerun_of,
        **annotation_fields(state.annotations),
        journal=head,
        spent=Spent(
            usd=state.spending.usd(last),
            gpu_hours=round(state.spending.gpu_hours(last), 6),
            wall_s=round(wall.seconds(last), 3),
        ),
    )


def read_summaries(storage: Storage, *, warn: Callable[[str], None] = lambda _: None) -> Iterator[Summary | Unreadable]:
    """Return the summaries of all sweeps, newest first, and the unreadable sweeps. A starting sweep is left out.

    ``warn`` gets one line for each missing or damaged summary, which is rebuilt from the journal.
    """
    summaries: list[Summary] = []
    unreadable: list[Unreadable] = []
    for sweep_id in storage.folders(layout.SWEEPS):
        try:
            summaries.append(summary_of(storage, sweep_id, warn=warn))
        except NotFoundError:
            continue
        except IntegrityError as error:
            unreadable.append(Unreadable(sweep_id, error))
    yield from sorted(summaries, key=lambda summary: (-summary.started, summary.sweep_id))
    yield from unreadable


def _copied(event: Event) -> dict[CopyFigure, float]:
    if not isinstance(event, DataStaged):
        return {}
    return {"fetched_bytes": event.fetched_bytes, "spent_s": event.spent_s, "saved_s": event.saved_s}


def _plan(started: SweepStarted, steering: Steering) -> tuple[int | None, float | None]:
    """Return the number of trials requested, confirmations included, and the budget in seconds; None if unlimited.

    Both are None if this version no longer accepts the sweep's document.
    """
    try:
        spec = sweep_from_document(started.document).spec
    except InputError:
        return None, None
    limit = None if spec.search is None else spec.search.trials
    confirmations = 0 if spec.confirm is None else spec.confirm.trials
    trials = None if limit is None else (limit + steering.added_trials) * started.seeds + confirmations
    wall = spec.budget.wall
    return trials, None if wall is None else wall + steering.added_budget.get("wall", 0.0)
