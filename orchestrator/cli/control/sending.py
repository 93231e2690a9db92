"""Delivery of control commands to a sweep's driver, or to a new driver where none runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.cli.common import print_json, say, storage_at, sweep_of, warn

if TYPE_CHECKING:
    from orchestrator.journal.sweep_state import SweepState
    from orchestrator.spec.load import Sweep
    from orchestrator.spec.space import Space
    from orchestrator.storage.base import Storage
    from orchestrator.sweep.command_checks import Extent


@dataclass(frozen=True)
class Target:
    """Sweep to control, with the state read from its journal and its summary."""

    sweep_id: str
    storage: Storage
    state: SweepState
    sweep: Sweep
    status: str

    @classmethod
    def of(cls, sweep: str, storage: str | None) -> Target:
        """Find a sweep by the text given on the command line.

        Raises:
            NotFoundError: If there is none.
        """
        from orchestrator.catalog.liveness import Silences
        from orchestrator.catalog.rebuilt import summary_of
        from orchestrator.errors import NotFoundError
        from orchestrator.journal.segments import read_state
        from orchestrator.spec.load import sweep_from_document

        opened = storage_at(storage)
        sweep_id = sweep_of(opened, sweep)
        state = read_state(opened, sweep_id)
        try:
            summary = summary_of(opened, sweep_id, warn=warn)
            status: str = summary.status_after(Silences(opened).of(sweep_id))
        except NotFoundError:  # its driver has only just started
            status = state.status
        return cls(sweep_id, opened, state, sweep_from_document(state.started.document), status)

    @property
    def driven(self) -> bool:
        """Whether a live driver reads the sweep's commands."""
        from orchestrator.catalog.summary import DRIVEN

        return self.status in DRIVEN

    @property
    def algorithm(self) -> str:
        """Name of its search algorithm."""
        assert self.sweep.spec.search is not None, "a loaded sweep has a search"
        return self.sweep.spec.search.algorithm

    def space(self) -> Space:
        """Its search space, with all narrowing applied."""
        from orchestrator.spec.narrow import narrowed

        space = self.sweep.space
        for domains in self.state.steering.narrowed:
            space = narrowed(space, domains)
        return space

    def extent(self) -> Extent:
        """Its limits, and how much of each is used."""
        from orchestrator.sweep.command_checks import Extent

        search, steering = self.sweep.spec.search, self.state.steering
        assert search is not None, "a loaded sweep has a search"
        spending, now = self.state.spending, time.time()
        limits = {name: value for name, value in self.sweep.spec.budget.model_dump().items() if value is not None}
        added = {str(name): amount for name, amount in steering.added_budget.items()}
        return Extent(
            algorithm=search.algorithm,
            trials=None if search.trials is None else search.trials + steering.added_trials,
            limits={name: value + added.get(name, 0.0) for name, value in limits.items()},
            usd=spending.usd(now),
            cheapest_usd=min(spending.usd_of_trials(now).values(), default=None),
        )

    def send(self, name: str, arguments: Mapping[str, Any], *, done: str) -> None:
        """Store a command for its current driver or the next one."""
        from orchestrator.catalog import control

        control.send(self.storage, self.sweep_id, name, arguments)
        if self.driven:
            say(f"asked sweep {self.sweep_id} {done}; its driver checks every 2 s (`agr status {self.sweep_id}`).")
        else:
            say(f"sweep {self.sweep_id} is {self.status}; `agr resume {self.sweep_id}` starts with this command.")


def send_or_take_up(
    target: Target, name: str, arguments: Mapping[str, Any], address: str | None, *, detach: bool, as_json: bool
) -> int:
    """Send a command that adds work to the sweep's driver, or drive the sweep if none runs; return the exit code."""
    from orchestrator.catalog.ownership import refuse_if_driven
    from orchestrator.cli.run import go_on, head_of

    if target.driven:
        target.send(name, arguments, done=f"to {name}")
        if as_json:
            print_json({"sweep_id": target.sweep_id, "command": name, "arguments": dict(arguments)})
        return 0
    head = head_of(address)
    refuse_if_driven(target.storage, target.state)
    from orchestrator.catalog import control

    control.send(target.storage, target.sweep_id, name, arguments)
    return go_on(target.sweep_id, target.state, target.storage, address, head, detach=detach, as_json=as_json)
