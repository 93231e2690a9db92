"""Repair of a sweep: truncate its journal to the last intact segment and rebuild its summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.catalog.liveness import Silences
from orchestrator.catalog.ownership import refuse_if_driven
from orchestrator.catalog.rebuilt import rebuild_summary
from orchestrator.catalog.summary import SummaryError, is_silent, read_summary, write_summary
from orchestrator.errors import DamagedError, NotFoundError, SweepOwnedError
from orchestrator.journal.events import Event, SweepEnded, TrialCreated, TrialEnded
from orchestrator.journal.segments import JournalWriter, Segment, parse_segment, read_head, whole_segments
from orchestrator.journal.sweep_state import SweepState
from orchestrator.journal.totals import WallClock
from orchestrator.storage import layout
from orchestrator.storage.base import Storage


@dataclass(frozen=True)
class Plan:
    """Planned effects of a repair."""

    sweep_id: str
    kept: tuple[Segment, ...]
    state: SweepState
    """State of the sweep after the repair."""
    damage: str | None
    """Damage of the journal; None if it is intact."""
    cut: tuple[str, ...] = ()
    """Keys of the objects to remove from the journal."""
    missing: int = 0
    """Number of segments that are already missing."""
    lost_ends: tuple[str, ...] = ()
    """Trials whose end is in the removed part, as far as it is readable."""
    lost_trials: tuple[str, ...] = ()
    """Trials that were created in the removed part."""
    summary_problem: str | None = field(default=None)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to repair."""
        return self.damage is None and self.summary_problem is None


def plan(storage: Storage, sweep_id: str) -> Plan:
    """Determine the damage of a sweep's journal and summary, and what a repair would keep and lose.

    Raises:
        NotFoundError: If there is no such sweep.
        DamagedError: If the first segment is damaged, so that nothing can be kept.
    """
    kept, damage = whole_segments(storage, sweep_id)
    if not kept:
        if damage is None:
            raise NotFoundError(f"there is no sweep {sweep_id!r} in {storage.uri}. `agr list` shows what there is.")
        raise DamagedError(
            f"{damage} No segment before it is whole, so nothing can be kept. Restore the file from a copy of the "
            f"storage, or remove the sweep: agr rm {sweep_id}"
        )
    state = SweepState.from_events(event for segment in kept for event in segment.events)
    cut = tuple(_after(storage, sweep_id, len(kept)))
    lost = list(_readable(storage, cut))
    head = read_head(storage, sweep_id)
    return Plan(
        sweep_id,
        tuple(kept),
        state,
        None if damage is None else str(damage),
        cut,
        missing=0 if head is None else max(0, head.segment - len(kept) - len(cut)),
        lost_ends=tuple(
            event.trial_id for event in lost if isinstance(event, TrialEnded) and event.trial_id in state.trials
        ),
        lost_trials=tuple(
            event.trial_id for event in lost if isinstance(event, TrialCreated) and event.trial_id not in state.trials
        ),
        summary_problem=_summary_problem(storage, sweep_id),
    )


def repair(storage: Storage, repair_plan: Plan) -> None:
    """Carry out a plan. Segments removed from the journal are kept beside it, below ``cut/``.

    If the sweep's end is not among the kept events, the sweep is closed as interrupted, so that ``agr resume`` can
    continue it.

    Raises:
        SweepOwnedError: If a driver may be running the sweep, or wrote to its journal meanwhile.
    """
    sweep_id = repair_plan.sweep_id
    refuse_if_driven(storage, repair_plan.state)
    if repair_plan.damage is not None:
        refuse_if_written_lately(storage, sweep_id)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for key in reversed(repair_plan.cut):  # from the end: an interrupted repair can be repeated
        storage.write(f"{layout.cut(sweep_id, stamp)}/{key.rpartition('/')[2]}", storage.read(key))
        storage.delete(key)
    storage.delete(layout.summary(sweep_id))  # it refers to a removed segment
    if repair_plan.damage is not None and repair_plan.state.ended is None:
        _end(storage, repair_plan)
    write_summary(storage, rebuild_summary(storage, sweep_id))


def refuse_if_written_lately(storage: Storage, sweep_id: str) -> None:
    """Raise ``SweepOwnedError`` if a driver may be running a sweep whose journal is unreadable."""
    silence_s = Silences(storage).of(sweep_id)
    if not is_silent(silence_s):
        raise SweepOwnedError(
            f"something of sweep {sweep_id} was written {silence_s:.0f} s ago, so a driver may be running it. Stop it, "
            "and try again in half a minute."
        )


def readable_state(storage: Storage, sweep_id: str) -> SweepState | None:
    """Return the state from the intact segments of a damaged journal; None if the first one is damaged."""
    kept, _ = whole_segments(storage, sweep_id)
    return SweepState.from_events(event for segment in kept for event in segment.events) if kept else None


def _end(storage: Storage, repair_plan: Plan) -> None:
    wall = WallClock()
    for segment in repair_plan.kept:
        for event in segment.events:
            wall.apply(event)
    last = wall.last_event or repair_plan.state.started.time
    writer = JournalWriter(storage, repair_plan.sweep_id, next_segment=len(repair_plan.kept) + 1)
    reason = f"agr repair cut the journal after segment {len(repair_plan.kept)}"
    writer.append(SweepEnded(time=time.time(), status="interrupted", reason=reason, wall_s=wall.seconds(last)))
    writer.flush()


def _after(storage: Storage, sweep_id: str, kept: int) -> Iterator[str]:
    """Yield the keys of the journal's folder except its first ``kept`` segments."""
    kept_keys = {layout.segment(sweep_id, number) for number in range(1, kept + 1)}
    return (info.key for info in storage.list(layout.journal(sweep_id)) if info.key not in kept_keys)


def _readable(storage: Storage, keys: tuple[str, ...]) -> Iterator[Event]:
    """Yield the events of those segments among ``keys`` that are readable on their own."""
    for key in keys:
        number = key.rpartition("/")[2].removesuffix(".jsonl")
        try:
            yield from parse_segment(storage.read(key), int(number), key).events
        except (DamagedError, ValueError):  # none of its events can be trusted
            continue


def _summary_problem(storage: Storage, sweep_id: str) -> str | None:
    try:
        read_summary(storage, sweep_id)
    except NotFoundError:
        return f"there is no {layout.summary(sweep_id)}."
    except SummaryError as error:
        return str(error)
    return None
