"""Output, error handling, exit codes and options shared by the commands."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.cli.render.terminal import Terminal
    from orchestrator.journal.events import SweepStarted
    from orchestrator.storage.base import Storage

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
StorageOption = Annotated[
    str | None,
    typer.Option("--storage", help="Storage of sweeps and data sets; default: AGR_STORAGE, else a folder of AGR_HOME."),
]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", metavar="LABEL", help="Apply this profile of the sweep file, before --set."),
]
_SWEEP_HELP = "Sweep: its name (the newest of that name), its ID, a beginning of either, or `last`."
_TRIAL_HELP = (
    "Trial: its ID, a unique beginning of one, SWEEP/TRIAL, its MLflow run ID, or its rank in the newest sweep: "
    "`best`, `2nd`, `3rd` (SWEEP/2nd: in that sweep); TRIAL@LABEL: an epoch it keeps."
)


def _complete_sweep(incomplete: str) -> list[tuple[str, str]]:
    from orchestrator.cli.arguments.completion import sweeps

    return sweeps(incomplete)


def _complete_trial(incomplete: str) -> list[tuple[str, str]]:
    from orchestrator.cli.arguments.completion import trials

    return trials(incomplete)


SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help=_SWEEP_HELP, autocompletion=_complete_sweep)]
SweepsArgument = Annotated[
    list[str], typer.Argument(metavar="SWEEP...", help=_SWEEP_HELP, autocompletion=_complete_sweep)
]
TrialArgument = Annotated[str, typer.Argument(metavar="TRIAL", help=_TRIAL_HELP, autocompletion=_complete_trial)]
TrialsArgument = Annotated[
    list[str], typer.Argument(metavar="TRIAL...", help=_TRIAL_HELP, autocompletion=_complete_trial)
]

_debug = False


def set_debug(on: bool) -> None:
    """Show tracebacks instead of one-line errors."""
    global _debug
    _debug = on


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def say(message: str) -> None:
    """Print a line on standard error."""
    from orchestrator.cli.render.terminal import harmless

    sys.stderr.write(harmless(message) + "\n")


def warn(message: str) -> None:
    """Print a warning on standard error."""
    say(f"warning: {message}")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn errors into a one-line message on standard error and an exit code; with ``--debug``, show tracebacks."""
    from agr_core.disk import is_full
    from agr_core.errors import AgrError, DiskFullError, InputError

    try:
        yield
    except InputError as error:
        _report(error)
        raise typer.Exit(EXIT_INPUT) from error
    except AgrError as error:
        _report(error)
        raise typer.Exit(EXIT_FAILED) from error
    except OSError as error:
        if not is_full(error):
            raise
        _report(DiskFullError(f"a disk of this machine is full: {error}. Free some of it, and try again."))
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt as error:
        say("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from error


def _report(error: Exception) -> None:
    if _debug:
        traceback.print_exception(error)
    else:
        say(f"error: {error}")


def storage_at(uri: str | None) -> Storage:
    """Open the storage at ``uri``, or the one of the environment if None."""
    from orchestrator.settings import Settings
    from orchestrator.storage import open_storage

    return open_storage(uri or Settings.from_environment().storage)


def sweep_of(storage: Storage, text: str) -> str:
    """Return the ID of the sweep named by ``text``; among sweeps of that name the newest, with a notice."""
    from orchestrator.catalog.find import find_sweep

    passed_over: list[str] = []
    sweep_id = find_sweep(storage, text, older=passed_over.extend)
    if passed_over:
        say(f"{sweep_id} ({len(passed_over)} older: {', '.join(passed_over[:3])}{', ...' if passed_over[3:] else ''})")
    return sweep_id


def run_ids_of(trials: Sequence[tuple[SweepStarted, str]]) -> dict[tuple[str, str], str]:
    """Return MLflow run IDs by sweep ID and trial ID; empty where MLflow does not answer.

    Args:
        trials: Sweep and trial ID of each trial whose run is needed.
    """
    from orchestrator.errors import TrackerError
    from orchestrator.settings import Settings
    from orchestrator.tracking import open_tracker
    from orchestrator.tracking.runs import run_ids

    settings = Settings.from_environment()
    sweeps = {sweep.sweep_id: sweep for sweep, _ in trials}
    trial_ids = {sweep_id: [trial for sweep, trial in trials if sweep.sweep_id == sweep_id] for sweep_id in sweeps}
    try:
        tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
        tracker.check()
        found = (run_ids(tracker, sweep, trial_ids[sweep_id]) for sweep_id, sweep in sweeps.items())
        return {trial: run for of_sweep in found for trial, run in of_sweep.items()}
    except TrackerError as error:
        say(f"warning: run_id is null: {error}")
        return {}


def console() -> Terminal:
    """Return a console of the terminal's width; 100 columns without a terminal."""
    from orchestrator.cli.render.terminal import Terminal

    return Terminal()


def print_pairs(title: str, pairs: dict[str, str]) -> None:
    """Print a title and one line for each name and value."""
    out = console()
    out.print(f"\n{title}", style="bold")
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        out.print(f"  {name:<{width}}  {value}", highlight=False, soft_wrap=True)
