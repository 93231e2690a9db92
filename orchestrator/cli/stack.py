"""``agr stack``: local PostgreSQL, S3 and MLflow services from pip packages."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.common import EXIT_FAILED, JsonOption, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    from orchestrator.services.stack import ServiceStatus, Stack

commands = typer.Typer(
    help="Run local services: PostgreSQL, an S3 store and an MLflow server on both.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add ``agr stack`` and its commands to ``app``."""
    app.add_typer(commands, name="stack")


@commands.command()
def up() -> None:
    """Start the services that are not running and wait until all answer.

    Ports and data persist across restarts. Afterwards: eval "$(agr stack env)"

    Example: agr stack up
    """
    with errors_in_one_line():
        begun = time.monotonic()
        stack = _stack(make_home=True)
        started = stack.up()
        _print_table(stack.status())
        what = f"started {', '.join(started)}" if started else "all services were already running"
        say(f'{what} ({time.monotonic() - begun:.1f} s). To use it in this shell: eval "$(agr stack env)"')


@commands.command()
def down() -> None:
    """Stop the services and their child processes. The data stays.

    Example: agr stack down
    """
    with errors_in_one_line():
        say("the stack is down" if _stack().down() else "the stack was not up")


@commands.command()
def status(as_json: JsonOption = False) -> None:
    """Check that every service answers. Exit code 1 unless all do.

    Example: agr stack status --json
    """
    with errors_in_one_line():
        stack = _stack()
        services = stack.status()
        is_up = bool(services) and all(service.state == "up" for service in services)
        if as_json:
            rows = [{**asdict(service), "log": str(service.log)} for service in services]
            print_json({"up": is_up, "folder": str(stack.folder.path), "services": rows})
        elif services:
            _print_table(services)
        else:
            say(f"there is no stack in {stack.folder.path}: run `agr stack up` first.")
        if not is_up:
            raise typer.Exit(EXIT_FAILED)


@commands.command()
def env() -> None:
    """Print shell exports that select the stack: eval "$(agr stack env)".

    Example: eval "$(agr stack env)"
    """
    with errors_in_one_line():
        stack = _stack()
        for name, value in stack.environment().items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        # Variables left from another account would be combined with the new keys and rejected.
        sys.stdout.write("unset AWS_SESSION_TOKEN AWS_PROFILE\n")
        missing = [service.name for service in stack.status() if service.state != "up"]
        _say_what_stays(stack)
        if missing:
            say(f"warning: not up: {', '.join(missing)}. Run `agr stack up`.")
            raise typer.Exit(EXIT_FAILED)


def _say_what_stays(stack: Stack) -> None:
    """Print the number of sweeps in the folder used so far, because the stack is a separate storage."""
    from orchestrator.settings import home_folder, home_storage
    from orchestrator.storage import layout, open_storage

    folder = home_storage(home_folder())
    sweeps = open_storage(str(folder)).folders(layout.SWEEPS) if folder.is_dir() else ()
    if sweeps:
        there = stack.environment()["AGR_STORAGE"]
        say(f"{len(sweeps)} earlier sweeps stay in {folder}. Bring them along: agr storage copy {folder} {there}")


def _stack(*, make_home: bool = False) -> Stack:
    from orchestrator.services.stack import Stack
    from orchestrator.settings import Settings, home_folder

    return Stack(Settings.from_environment().home if make_home else home_folder(), say)


def _print_table(services: Sequence[ServiceStatus]) -> None:
    sys.stdout.write(f"{'service':<10}{'state':<8}{'pid':<8}address\n")
    for service in services:
        sys.stdout.write(f"{service.name:<10}{service.state:<8}{service.pid or '-':<8}{service.address}\n")
        if service.state != "up":
            say(f"{service.name}: {service.problem or 'does not run'}; log: {service.log}")
