"""The effect of user commands on a sweep: a fold of its journal, kept by its driver and by its readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.journal.events import ControlReceived, DriverStarted, Event, TrialCreated, TrialEnded, TrialReported
from orchestrator.journal.steering_events import BudgetName


@dataclass
class Steering:
    """Changes to the sweep since its start; the sweep file itself stays unchanged."""

    paused: bool = False
    added_trials: int = 0
    """Number of configurations beyond the sweep file's: by ``agr extend``, and one per enqueued configuration."""
    added_budget: dict[BudgetName, float] = field(default_factory=dict)
    """Additions to each budget by ``agr extend``: seconds, hours, dollars."""
    enqueued: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Enqueued configurations in order: partial TrialConfigs by the key of the command."""
    concurrency: int | str | None = None
    """Maximum number of concurrent trials, or their share of the slots; None: as in the sweep file."""
    killed: set[str] = field(default_factory=set)
    """IDs of trials that ``agr kill`` is to end and that still run."""
    narrowed: list[Mapping[str, Any]] = field(default_factory=list)
    """Domains by path, in the form of a sweep file, one mapping per command."""

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        match event:
            case TrialReported():  # nearly all events
                pass
            case DriverStarted():
                self.paused = False  # resuming a paused sweep also unpauses it
            case TrialCreated() if event.enqueued is not None:
                self.enqueued.pop(event.enqueued, None)
            case TrialEnded():
                self.killed.discard(event.trial_id)
            case ControlReceived() if not event.refused:
                self._obey(event.command, event.arguments, event.key)
            case _:
                pass

    def _obey(self, command: str, arguments: Mapping[str, Any], key: str) -> None:
        match command:
            case "pause" | "resume":
                self.paused = command == "pause"
            case "extend":
                self.added_trials += int(arguments.get("trials") or 0)
                budgets: tuple[BudgetName, ...] = ("wall", "gpu_hours", "usd")
                for name in budgets:
                    if arguments.get(name):
                        self.added_budget[name] = self.added_budget.get(name, 0.0) + float(arguments[name])
            case "enqueue":
                self.added_trials += 1
                self.enqueued[key] = arguments["config"]
            case "set":
                self.concurrency = arguments["concurrency"]
            case "narrow":
                self.narrowed.append(arguments["domains"])
            case "kill":
                self.killed.add(str(arguments.get("trial_id")))
            case _:
                pass  # retry and continue reopen trials, which have events of their own; notes and tags steer nothing
