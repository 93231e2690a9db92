"""``agr board``: local live web page about sweeps."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from orchestrator.cli.common import StorageOption, SweepsArgument, errors_in_one_line, say, storage_at, sweep_of


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(board)


def board(
    sweeps: SweepsArgument,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any free port.")] = 8100,
    storage: StorageOption = None,
) -> None:
    """Serve a local live web page about sweeps: curves, importance, leaderboard, workers, errors.

    Works also for ended sweeps, and for several on the same split. Ctrl-C ends it. Example: agr board last
    """
    with errors_in_one_line():
        from agr_core.errors import InputError, how_to_install

        try:
            from orchestrator.board.app import HOST, build_app, server_of
        except ModuleNotFoundError as error:
            raise InputError(
                f"agr board needs {error.name}, which is not installed. {how_to_install('serve')}"
            ) from error
        from orchestrator.board.follower import Follower
        from orchestrator.listening import listen

        opened = storage_at(storage)
        sweep_ids = list(dict.fromkeys(sweep_of(opened, text) for text in sweeps))
        follower = Follower(opened, sweep_ids)
        follower.drawn()  # raise errors of the first page before the server starts
        listener = listen(HOST, port)
        app = build_app(follower, title=", ".join(sweep_ids))
        say(f"http://{HOST}:{listener.getsockname()[1]} follows {', '.join(sweep_ids)}; Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):  # the normal end; uvicorn raises it again after closing
            server_of(app).run(sockets=[listener])
