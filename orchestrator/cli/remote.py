"""``agr submit`` and ``resume`` with ``--address http://HEAD:8265``: the driver is a job on the head."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import EXIT_FAILED, StorageOption, errors_in_one_line, print_json, say
from orchestrator.cli.driving import engine_of, exit_code_of, print_result, result_document, run_new, started_of

if TYPE_CHECKING:
    from orchestrator.cluster.jobs import Head
    from orchestrator.ray_tune.driver import SweepResult
    from orchestrator.spec.load import Sweep
    from orchestrator.storage.base import Storage

_BEGIN_S = 120.0
_LOOK_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command that jobs run."""
    app.command(hidden=True)(drive)


def drive(
    sweep: Annotated[str, typer.Argument(help="ID of a sweep that was left in the storage.")],
    storage: StorageOption = None,
) -> None:
    """Run a sweep that was submitted from elsewhere; what a job on the head does."""
    with errors_in_one_line():
        from orchestrator.cluster.submission import take_submission

        settings, engine = engine_of(storage, None)
        taken = take_submission(engine.storage, sweep)
        code = run_new(taken, started_of(taken, sweep_id=sweep), settings, engine, as_json=False)
    raise typer.Exit(code)


def submit_to_head(sweep: Sweep, storage: Storage, url: str, *, detach: bool, as_json: bool) -> int:
    """Give a sweep to the head at ``url``; returns the exit code, once it has begun (``detach``) or is over."""
    from orchestrator.cluster.jobs import Head
    from orchestrator.cluster.submission import leave_submission
    from orchestrator.ids import new_sweep_id

    head = Head(url)
    sweep_id = new_sweep_id(sweep.spec.name)
    leave_submission(storage, sweep_id, sweep)
    job = _Job(head, sweep_id, sweep_id, storage, after_segment=0)
    job.start("agr", "drive", sweep_id, "--storage", storage.uri)
    return job.go_on(detach=detach, as_json=as_json)


def resume_on_head(sweep: str, storage: Storage, url: str, *, detach: bool, as_json: bool) -> int:
    """Let the head at ``url`` finish a sweep; returns the exit code, as ``submit_to_head``."""
    from orchestrator.cluster.jobs import Head
    from orchestrator.journal import read_events
    from orchestrator.lookup import find_sweep

    head = Head(url)
    sweep_id = find_sweep(storage, sweep)
    _, last = read_events(storage, sweep_id)
    job = _Job(head, f"{sweep_id}-resumed-{secrets.token_hex(2)}", sweep_id, storage, after_segment=last)
    job.start("agr", "resume", sweep_id, "--storage", storage.uri)
    return job.go_on(detach=detach, as_json=as_json)


class _Job:
    """A driver on the head, watched through the storage: its journal says all that is to be known."""

    def __init__(self, head: Head, job_id: str, sweep_id: str, storage: Storage, *, after_segment: int) -> None:
        self._head = head
        self._id = job_id
        self._sweep_id = sweep_id
        self._storage = storage
        self._segment = after_segment

    def start(self, *command: str) -> None:
        """Start it, and say where everything is."""
        self._head.run(self._id, command, {"sweep": self._sweep_id})
        say(f"sweep    {self._sweep_id}")
        say(f"storage  {self._storage.uri}")
        say(f"driver   job {self._id} at {self._head.url}")

    def go_on(self, *, detach: bool, as_json: bool) -> int:
        """Wait until the driver has written its first words, then leave it alone or follow it."""
        if not self._wait_for_journal():
            return self._say_failure()
        if not detach:
            return self._follow(as_json=as_json)
        if as_json:
            print_json(result_document(self._result(), None))
        else:
            typer.echo(self._sweep_id)
        say(f"runs without this machine. Next: agr status {self._sweep_id}")
        return 0

    def _wait_for_journal(self) -> bool:
        from orchestrator.storage import layout

        def begun() -> bool:
            written = (layout.segment(self._sweep_id, self._segment + 1), layout.summary(self._sweep_id))
            return all(map(self._storage.exists, written))

        until = time.monotonic() + _BEGIN_S
        while not begun():
            if self._head.state(self._id).over and not begun():
                return False
            if time.monotonic() > until:
                say("its data is being prepared still ...")
                until = time.monotonic() + _BEGIN_S
            time.sleep(_LOOK_S)
        return True

    def _say_failure(self) -> int:
        """The driver ended without a word in the journal, so its own words are all there is."""
        state = self._head.state(self._id)
        for line in self._head.last_words(self._id).splitlines():
            say(f"head: {line}")
        say(f"error: the driver on the head {state.words}; nothing was started.")
        return 0 if state.succeeded else EXIT_FAILED

    def _follow(self, *, as_json: bool) -> int:
        from orchestrator.cli.progress import Progress
        from orchestrator.journal import read_state
        from orchestrator.records import SweepEnded

        before = read_state(self._storage, self._sweep_id)
        progress = Progress(before.started.objectives, None)
        try:
            with progress:
                ended = self._hear(progress, lambda event: isinstance(event, SweepEnded))
        except KeyboardInterrupt:
            say(f"this machine no longer follows; the sweep goes on. `agr stop {self._sweep_id}` ends it.")
            raise
        if not ended:
            say(f"error: the driver is gone. Go on with: agr resume {self._sweep_id} --address {self._head.url}")
            return EXIT_FAILED
        result = self._result()
        if as_json:
            print_json(result_document(result, None))
        else:
            print_result(result, self._storage)
        return exit_code_of(result)

    def _hear(self, listener: Callable[[Any], None], is_last: Callable[[Any], bool]) -> bool:
        """Tell ``listener`` each event from the first one on; whether the last came before the driver's end."""
        from orchestrator.journal import read_journal

        mine, self._segment = self._segment, 0
        while True:
            over = self._head.state(self._id).over  # asked first: after its end nothing is added
            for number, events in read_journal(self._storage, self._sweep_id, after_segment=self._segment):
                self._segment = number
                for event in events:
                    listener(event)
                if number > mine and any(map(is_last, events)):
                    return True
            if over:
                return False
            time.sleep(_LOOK_S)

    def _result(self) -> SweepResult:

        from orchestrator.journal import read_state
        from orchestrator.pareto import point_of
        from orchestrator.ray_tune.driver import SweepResult
        from orchestrator.storage import layout

        summary = json.loads(self._storage.read(layout.summary(self._sweep_id)))
        state = read_state(self._storage, self._sweep_id)
        best = summary["best"]
        counts = {name: count for name, count in summary["trials"].items() if name != "running"}
        return SweepResult(
            sweep_id=self._sweep_id,
            status=summary["status"],
            reason="" if state.ended is None else state.ended.reason,
            counts=counts,
            best=None if best is None else (best["trial_id"], point_of(best["value"])),
            wall_s=summary["wall_s"],
        )
