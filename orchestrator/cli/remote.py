"""``agr submit`` and ``resume`` with a driver elsewhere: a job on the head, or a background process here."""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from orchestrator.cli.common import (
    EXIT_FAILED,
    StorageOption,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
    sweep_of,
)
from orchestrator.cli.driving import engine_of, exit_code_of, print_result, result_document, run_new, started_of
from orchestrator.cli.process.background import BackgroundDriver
from orchestrator.cli.process.follow import follow

if TYPE_CHECKING:
    from orchestrator.cluster.jobs import Head, JobState
    from orchestrator.ray_tune.driver import SweepResult
    from orchestrator.spec.load import Sweep
    from orchestrator.storage.base import Storage

_BEGIN_S = 120.0
_LOOK_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the commands that jobs run to ``app``."""
    app.command(hidden=True)(drive)
    app.command(hidden=True)(keep)


def keep(
    sweep: Annotated[str, typer.Argument(help="ID of a sweep submitted to the storage, or of one to resume.")],
    storage: StorageOption = None,
) -> None:
    """Drive a sweep in a child process, and start it again if it dies; jobs on the head run this."""
    with errors_in_one_line():
        from orchestrator.cli.process.keeper import keep as keep_driver
        from orchestrator.storage import layout

        opened = storage_at(storage)

        def command(restart: int) -> tuple[str, ...]:
            begun = opened.exists(layout.segment(sweep, 1))
            how = ("resume", sweep, "--restart", str(restart)) if begun else ("drive", sweep)
            return (sys.executable, "-P", "-m", "orchestrator.cli.main", *how, "--storage", opened.uri)

        code = keep_driver(command, tell=say)
    raise typer.Exit(code)


def drive(
    sweep: Annotated[str, typer.Argument(help="ID of a sweep submitted to the storage.")],
    storage: StorageOption = None,
) -> None:
    """Drive a sweep already submitted to the storage; jobs on the head run this."""
    with errors_in_one_line():
        from orchestrator.cluster.submission import take_submission

        settings, engine = engine_of(storage, None)
        taken = take_submission(engine.storage, sweep)
        code = run_new(taken, started_of(taken, sweep_id=sweep), settings, engine, as_json=False)
    raise typer.Exit(code)


def submit_to_head(sweep: Sweep, storage: Storage, url: str, *, detach: bool, as_json: bool) -> int:
    """Submit a sweep to the head at ``url``; return the exit code after its start (``detach``) or its end."""
    from orchestrator.catalog.ids import new_sweep_id
    from orchestrator.cluster.jobs import Head
    from orchestrator.cluster.submission import leave_submission
    from orchestrator.storage.check import prove_storage

    prove_storage(storage)
    head = Head(url)
    sweep_id = new_sweep_id(sweep.spec.name)
    leave_submission(storage, sweep_id, sweep)
    job = _HeadJob(head, sweep_id)
    head.run(job.job_id, ("agr", "keep", sweep_id, "--storage", storage.uri), {"sweep": sweep_id})
    started = _Started(job, sweep_id, storage, after_segment=0, again=f" --address {url}")
    return started.go_on(detach=detach, as_json=as_json)


def submit_in_background(sweep: Sweep, storage: Storage, address: str | None, *, as_json: bool) -> int:
    """Drive a sweep in a background process of this machine; return the exit code after its start."""
    from orchestrator.catalog.ids import new_sweep_id
    from orchestrator.cluster.submission import leave_submission_here

    sweep_id = new_sweep_id(sweep.spec.name)
    leave_submission_here(storage, sweep_id, sweep)
    driver = BackgroundDriver(_log_of(sweep_id), address)
    driver.run(("drive", sweep_id, "--storage", storage.uri))
    return _Started(driver, sweep_id, storage, after_segment=0).go_on(detach=True, as_json=as_json)


def resume_in_background(sweep_id: str, storage: Storage, address: str | None, *, as_json: bool) -> int:
    """Resume a sweep in a background process of this machine; return the exit code after its start."""
    from orchestrator.journal.segments import read_events

    _, last = read_events(storage, sweep_id)
    driver = BackgroundDriver(_log_of(sweep_id), address)
    driver.run(("resume", sweep_id, "--storage", storage.uri))
    return _Started(driver, sweep_id, storage, after_segment=last).go_on(detach=True, as_json=as_json)


def resume_on_head(sweep: str, storage: Storage, url: str, *, detach: bool, as_json: bool) -> int:
    """Resume a sweep on the head at ``url``; return the exit code as ``submit_to_head``."""
    from orchestrator.cluster.jobs import Head
    from orchestrator.journal.segments import read_events

    head = Head(url)
    sweep_id = sweep_of(storage, sweep)
    _, last = read_events(storage, sweep_id)
    job = _HeadJob(head, f"{sweep_id}-resumed-{secrets.token_hex(2)}")
    head.run(job.job_id, ("agr", "keep", sweep_id, "--storage", storage.uri), {"sweep": sweep_id})
    started = _Started(job, sweep_id, storage, after_segment=last, again=f" --address {url}")
    return started.go_on(detach=detach, as_json=as_json)


def _log_of(sweep_id: str) -> Path:
    from orchestrator.settings import Settings

    return Settings.from_environment().home / "logs" / f"{sweep_id}.log"


class _Driver(Protocol):
    """Driver outside this process: a job on a head, or another process of this machine."""

    @property
    def where(self) -> str:
        """Where it runs, as text."""

    def state(self) -> JobState:
        """Return the state of the driver."""

    def last_words(self) -> str:
        """Return the last lines of its output."""


@dataclass(frozen=True)
class _HeadJob:
    """Driver that runs as a job on a head."""

    head: Head
    job_id: str

    @property
    def where(self) -> str:
        return f"job {self.job_id} at {self.head.url}"

    def state(self) -> JobState:
        return self.head.state(self.job_id)

    def last_words(self) -> str:
        return self.head.last_words(self.job_id)


class _Started:
    """Started driver, observed through its journal in the storage."""

    def __init__(
        self, driver: _Driver, sweep_id: str, storage: Storage, *, after_segment: int, again: str = ""
    ) -> None:
        self._driver = driver
        self._sweep_id = sweep_id
        self._storage = storage
        self._segment = after_segment
        self._again = again
        """Options that ``agr resume`` needs."""

    def go_on(self, *, detach: bool, as_json: bool) -> int:
        """Wait for the driver's first event, then detach from it or follow it; return the exit code."""
        say(f"sweep    {self._sweep_id}")
        say(f"storage  {self._storage.uri}")
        say(f"driver   {self._driver.where}")
        if not self._wait_for_journal():
            return self._say_failure()
        if not detach:
            return self._follow(as_json=as_json)
        if as_json:
            print_json(result_document(result_of(self._storage, self._sweep_id), None))
        else:
            typer.echo(self._sweep_id)
        say(f"The driver continues without this terminal. Watch it: agr attach {self._sweep_id}")
        return 0

    def _wait_for_journal(self) -> bool:
        from orchestrator.storage import layout

        def begun() -> bool:
            written = (layout.segment(self._sweep_id, self._segment + 1), layout.summary(self._sweep_id))
            return all(map(self._storage.exists, written))

        say("waiting for the driver, which prepares the data first ...")
        until = time.monotonic() + _BEGIN_S
        while not begun():
            if self._driver.state().over and not begun():
                return False
            if time.monotonic() > until:
                say("the driver is still preparing the data ...")
                until = time.monotonic() + _BEGIN_S
            time.sleep(_LOOK_S)
        return True

    def _say_failure(self) -> int:
        """Print the output of a driver that ended without an event in the journal; return the exit code."""
        state = self._driver.state()
        for line in self._driver.last_words().splitlines():
            say(f"driver: {line}")
        say(f"error: the driver, {self._driver.where}, {state.words}; nothing was started.")
        return 0 if state.succeeded else EXIT_FAILED

    def _follow(self, *, as_json: bool) -> int:
        over = follow(
            self._storage, self._sweep_id, again=self._again, driver_is_gone=lambda: self._driver.state().over
        )
        if not over:
            return EXIT_FAILED
        result = result_of(self._storage, self._sweep_id)
        if as_json:
            print_json(result_document(result, None))
        else:
            print_result(result, self._storage)
        return exit_code_of(result)


def result_of(storage: Storage, sweep_id: str) -> SweepResult:
    """Return the result of a sweep so far, from its summary and journal."""
    from orchestrator.catalog.summary import read_summary
    from orchestrator.journal.best import Best
    from orchestrator.journal.segments import read_state
    from orchestrator.ray_tune.driver import SweepResult

    summary = read_summary(storage, sweep_id)
    state = read_state(storage, sweep_id)
    return SweepResult(
        sweep_id=sweep_id,
        status=summary.status,
        reason="" if state.ended is None else state.ended.reason,
        counts=summary.trials.model_dump(exclude={"running"}),
        best=None if summary.best is None else Best(summary.best.trial_id, summary.best.point),
        wall_s=summary.wall_s,
        spent=summary.spent,
    )
