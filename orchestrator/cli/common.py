"""What the commands share: output, errors, exit codes, the options that several take."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.cli.terminal import Terminal
    from orchestrator.state import SweepState
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
    typer.Option("--profile", metavar="LABEL", help="Lay this profile of the file over it, before --set."),
]
TrialArgument = Annotated[
    str,
    typer.Argument(
        help="Trial ID, a unique beginning of one, SWEEP/TRIAL, or its MLflow run ID; TRIAL@LABEL: an epoch it keeps."
    ),
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
    """Print a line for people on standard error."""
    from orchestrator.cli.terminal import harmless

    sys.stderr.write(harmless(message) + "\n")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn errors into one clear message on standard error and the right exit code; tracebacks with ``--debug``."""
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
    """The storage of an address, else the one of the environment."""
    from orchestrator.settings import Settings
    from orchestrator.storage import open_storage

    return open_storage(uri or Settings.from_environment().storage)


def run_ids_of(states: list[SweepState]) -> dict[tuple[str, str], str]:
    """MLflow's runs of the sweeps' trials; results are shown without them when MLflow is not there."""
    from orchestrator.errors import TrackerError
    from orchestrator.lookup import run_ids
    from orchestrator.settings import Settings
    from orchestrator.tracking import open_tracker

    settings = Settings.from_environment()
    try:
        tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
        tracker.check()
        return {key: run for state in states for key, run in run_ids(tracker, state.started).items()}
    except TrackerError as error:
        say(f"warning: run_id is null: {error}")
        return {}


def console() -> Terminal:
    """A console of the terminal's width; 100 characters where there is no terminal."""
    from orchestrator.cli.terminal import Terminal

    return Terminal()


def print_pairs(title: str, pairs: dict[str, str]) -> None:
    """Print names and values below each other, under a title."""
    out = console()
    out.print(f"\n{title}", style="bold")
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        out.print(f"  {name:<{width}}  {value}", highlight=False, soft_wrap=True)
