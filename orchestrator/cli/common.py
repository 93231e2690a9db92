"""What the commands share: output, errors, exit codes, the options that several take."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

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
    sys.stderr.write(message + "\n")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn errors into one clear message on standard error and the right exit code; tracebacks with ``--debug``."""
    from agr_core.errors import AgrError, InputError

    try:
        yield
    except InputError as error:
        _report(error)
        raise typer.Exit(EXIT_INPUT) from error
    except AgrError as error:
        _report(error)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt as error:
        say("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from error


def _report(error: Exception) -> None:
    if _debug:
        traceback.print_exception(error)
    else:
        say(f"error: {error}")
