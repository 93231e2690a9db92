"""Execute user commands: validate each, journal its author and time, and carry it out.

A command is journalled, and the journal stored, before it takes effect. So if a driver is killed right afterwards, the
next driver continues as if it had received the command itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agr_core.errors import InputError
from orchestrator.catalog import control
from orchestrator.catalog.annotate import check_annotation
from orchestrator.journal.annotations import COMMANDS as ANNOTATIONS
from orchestrator.journal.events import ControlReceived, Event, TrialResumed
from orchestrator.journal.segments import read_state
from orchestrator.storage.base import Storage
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.command_checks import (
    Extent,
    check_enqueue,
    check_extend,
    check_narrow,
    check_set,
    reopened,
    to_continue,
    to_retry,
)
from orchestrator.sweep.decisions import Decisions, Stop
from orchestrator.sweep.live_state import Standing

NAMES = ("stop", "kill", "pause", "resume", "extend", "enqueue", "retry", "continue", "narrow", "set", *ANNOTATIONS)
"""Commands that a driver of this version knows."""

_LOG = logging.getLogger(__name__)

_OF_ONE_DRIVER = ("stop", "pause", "resume")
"""Commands that a later driver ignores: starting it implies that the sweep is to continue."""


@dataclass
class Commands:
    """Execution of the commands to one running sweep."""

    standing: Standing
    decisions: Decisions
    storage: Storage
    budget: Budget
    record: Callable[[Event], None]
    flush: Callable[[], None]
    restart: Callable[[str], None]
    """Called with the ID of a reopened trial, which needs a worker."""
    surplus: Callable[[], list[str]]
    """Returns the newest trials (IDs) beyond the maximum number of concurrent trials."""
    clock: Callable[[], float]
    _ignored: set[str] = field(default_factory=set, init=False)

    def take_up(self) -> None:
        """Execute the commands that earlier drivers left undone, and new ones."""
        for trial_id in self.standing.steering.killed & self.standing.live.keys():
            self.decisions.end_trial(trial_id, "interrupted", "agr kill")
        self.obey_all()

    def ignore_old(self) -> None:
        """Ignore unexecuted stop and pause commands to an earlier driver."""
        for command in self._pending():
            if command.name in _OF_ONE_DRIVER:
                self._ignored.add(command.key)

    def obey_all(self) -> None:
        """Execute all new commands."""
        for command in self._pending():
            self._obey(command)

    def _pending(self) -> list[control.Command]:
        obeyed = self.standing.obeyed | self._ignored
        return control.pending(self.storage, self.standing.started.sweep_id, obeyed=obeyed)

    def _obey(self, command: control.Command) -> None:
        follow: Callable[[], None] = _nothing
        refused = command.damage
        try:
            if not refused:
                follow = self._checked(command.name, command.arguments)
        except InputError as error:
            refused = str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # `agr` does not send such arguments
            refused = f"its arguments are not those of {command.name}: {type(error).__name__}: {error}"
        if refused:
            _LOG.warning("%s/%s is not obeyed: %s", self.storage.uri, command.key, refused)
        self.record(
            ControlReceived(
                time=self.clock(),
                command=command.name,
                arguments=dict(command.arguments),
                key=command.key,
                sender=command.sender,
                sent=command.sent,
                refused=refused,
            )
        )
        if not refused:
            follow()
        self.flush()

    def _checked(self, name: str, arguments: Mapping[str, Any]) -> Callable[[], None]:
        """Return the action to take once the command is stored, beyond the effect of its event.

        Raises:
            InputError: If it cannot be carried out.
        """
        search = self.standing.search
        match name:
            case "stop":
                return lambda: self.decisions.stop_sweep(Stop("stopped", "agr stop"), self.standing.live)
            case "kill":
                return lambda: self._kill(str(arguments.get("trial_id")))
            case "pause":
                return lambda: self.decisions.end_for_now(self.standing.live, "agr pause")
            case "resume":
                return self.resume_trials
            case "extend":
                check_extend(arguments, self._extent())
                return self._reconsider
            case "enqueue":
                check_enqueue(search.algorithm, search.space, arguments["config"])
                return self._reconsider
            case "note" | "tag":
                check_annotation(name, arguments)
                return _nothing  # its event is all
            case "narrow":
                check_narrow(search.algorithm, search.space, arguments["domains"])
                return _nothing
            case "set":
                check_set(arguments)
                return self._set_surplus_aside
            case "retry":
                return self._retry([str(trial_id) for trial_id in arguments["trials"]])
            case "continue":
                return self._continue(str(arguments["trial_id"]), int(arguments["epochs"]))
            case _:
                raise InputError(f"{name!r} is not a command of this version: {', '.join(NAMES)}.")

    def _extent(self) -> Extent:
        search, spending, now = self.standing.search, self.standing.spending, self.clock()
        return Extent(
            algorithm=search.algorithm,
            trials=search.limit,
            limits={str(name): limit for name, limit in self.budget.limits.items()},
            usd=spending.usd(now),
            cheapest_usd=min(spending.usd_of_trials(now).values(), default=None),
        )

    def _set_surplus_aside(self) -> None:
        surplus = self.surplus()
        self.decisions.end_for_now(surplus, "agr set concurrency")
        self.decisions.waiting.update(surplus)

    def _kill(self, trial_id: str) -> None:
        if trial_id in self.standing.live and trial_id not in self.decisions.endings:
            self.decisions.end_trial(trial_id, "interrupted", "agr kill")

    def resume_trials(self) -> None:
        """Continue the trials that were ended for now, or are about to be."""
        if self.standing.steering.paused:
            return
        self.decisions.keep_going()
        for trial_id in list(self.standing.interrupted):
            self.record(TrialResumed(time=self.clock(), trial_id=trial_id))
            self.restart(trial_id)

    def _reconsider(self) -> None:
        """Clear the reason against new trials: there is more budget, or more to try."""
        self.decisions.closed = ""
        self.resume_trials()

    def _retry(self, trial_ids: list[str]) -> Callable[[], None]:
        self.flush()
        state = read_state(self.storage, self.standing.started.sweep_id)
        trials = to_retry(state, trial_ids, ())

        def follow() -> None:
            for trial in trials:
                self._reopen(
                    reopened(
                        trial,
                        state.started,
                        created=trial.created,
                        compared=True,
                        reason="agr retry",
                        time=self.clock(),
                    )
                )

        return follow

    def _continue(self, trial_id: str, epochs: int) -> Callable[[], None]:
        self.flush()
        state = read_state(self.storage, self.standing.started.sweep_id)
        created = to_continue(state, trial_id, epochs)
        trial = state.trials[trial_id]
        reason = f"agr continue --epochs {epochs}"

        def follow() -> None:
            event = reopened(trial, state.started, created=created, compared=False, reason=reason, time=self.clock())
            self._reopen(event)

        return follow

    def _reopen(self, event: Any) -> None:
        first = self.standing.first_attempt
        self.record(event.model_copy(update={"attempt": max(event.attempt, first)}))
        self.restart(event.trial_id)


def _nothing() -> None:
    """Do nothing."""
