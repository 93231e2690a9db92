"""``agr sync`` and ``agr ui``: from journals to MLflow, and MLflow in the browser."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import StorageOption, errors_in_one_line, say

if TYPE_CHECKING:
    from orchestrator.settings import Settings
    from orchestrator.storage.base import Storage
    from orchestrator.sync import Place
    from orchestrator.tracking.base import Tracker

_NICENESS = 10


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(sync)
    app.command()(ui)


def sync(
    storage: Annotated[
        str | None, typer.Argument(help="Storage with the journals; default: AGR_STORAGE, else a folder of AGR_HOME.")
    ] = None,
    follow: Annotated[
        str | None, typer.Option("--follow", metavar="SWEEP", help="Deliver this sweep while it runs, until it ends.")
    ] = None,
) -> None:
    """Bring MLflow up to the journals of all sweeps; an empty MLflow is built up anew.

    What is in MLflow already is not doubled. Example: agr sync s3://agr
    """
    with errors_in_one_line():
        from orchestrator.settings import Settings
        from orchestrator.storage import open_storage
        from orchestrator.tracking import open_tracker

        logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
        settings = Settings.from_environment()
        place = open_storage(storage or settings.storage)
        tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
        if follow is None:
            _sync_all(place, tracker, settings)
        else:
            _follow(place, tracker, settings, follow)


def _sync_all(storage: Storage, tracker: Tracker, settings: Settings) -> None:
    from agr_core.errors import IntegrityError
    from orchestrator.errors import DeliveryOwnedError, NotFoundError, TrackerError, TrackerUnavailableError
    from orchestrator.storage import layout
    from orchestrator.sync import Syncer, exclusive

    tracker.check()
    refused = []
    for sweep_id in storage.folders(layout.SWEEPS):
        try:
            with exclusive(settings.home, sweep_id, timeout_s=0):
                Syncer(storage, tracker, sweep_id).run_once()
            say(f"{sweep_id}: delivered")
        except (DeliveryOwnedError, NotFoundError) as error:  # somebody else's business; a driver only just began
            say(f"{sweep_id}: {error}")
        except TrackerUnavailableError:
            raise
        except (TrackerError, IntegrityError) as error:  # the other sweeps may be fine
            refused.append(sweep_id)
            say(f"{sweep_id}: {error}")
    if refused:
        raise TrackerError(f"{len(refused)} sweeps were not delivered: {', '.join(refused)}.")


def _follow(storage: Storage, tracker: Tracker, settings: Settings, sweep_id: str) -> None:
    from orchestrator.sync import Syncer, exclusive

    os.nice(_NICENESS)  # training on the same cores goes first
    parent = os.getppid()
    with exclusive(settings.home, sweep_id, timeout_s=-1):
        Syncer(storage, tracker, sweep_id).follow(
            announce=_announce,
            driver_lives=lambda: os.getppid() == parent,  # an orphan is given another parent
        )


def _announce(place: Place) -> None:
    """One line of JSON, which the driver reads."""
    sys.stdout.write(json.dumps(asdict(place)) + "\n")
    sys.stdout.flush()


def ui(
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Default: a free one.")] = None,
    storage: StorageOption = None,
) -> None:
    """Open MLflow in the browser: prints the link of the newest sweep's leaderboard.

    Without an MLflow server, one is run on 127.0.0.1 over the embedded database until Ctrl-C.
    """
    with errors_in_one_line():
        from orchestrator.settings import Settings
        from orchestrator.storage import open_storage
        from orchestrator.tracking import open_tracker
        from orchestrator.tracking.ui import serve

        settings = Settings.from_environment()
        tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
        tracker.check()
        place = open_storage(storage or settings.storage)
        newest = _newest(place, tracker)
        if tracker.uri.startswith("http"):
            typer.echo(_link(tracker.uri, newest))
            return
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server ends with us
        say("starting MLflow ...")
        with serve(settings.tracking_uri, port=port, log=settings.home / "logs" / "mlflow-ui.log") as address:
            typer.echo(_link(address, newest))
            say("Ctrl-C ends it.")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                say("ended")


def _newest(storage: Storage, tracker: Tracker) -> tuple[str, str] | None:
    """Experiment and ID of the newest sweep that MLflow has."""
    from orchestrator.lookup import read_start, summaries

    for summary in summaries(storage, now=time.time()):
        sweep_id = summary["sweep_id"]
        experiment_id = tracker.find_experiment(read_start(storage, sweep_id).experiment)
        if experiment_id is not None:
            return experiment_id, sweep_id
    return None


def _link(address: str, newest: tuple[str, str] | None) -> str:
    from orchestrator.tracking.view import view_link

    return address if newest is None else view_link(address, *newest)
