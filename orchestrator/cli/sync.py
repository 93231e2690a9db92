"""``agr sync`` and ``agr ui``: deliver journals to MLflow, and open MLflow in the browser."""

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

from orchestrator.cli.common import StorageOption, errors_in_one_line, say, warn

if TYPE_CHECKING:
    from orchestrator.settings import Settings
    from orchestrator.storage.base import Storage
    from orchestrator.tracking.base import Tracker
    from orchestrator.tracking.delivered.trials import Place

_NICENESS = 10


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(sync)
    app.command()(ui)


def sync(
    storage: Annotated[
        str | None, typer.Argument(help="Storage with the journals; default: AGR_STORAGE, else a folder of AGR_HOME.")
    ] = None,
    follow: Annotated[
        str | None, typer.Option("--follow", metavar="SWEEP", help="Deliver this sweep continuously until it ends.")
    ] = None,
) -> None:
    """Update MLflow from the journals of all sweeps; an empty MLflow is rebuilt.

    Runs that MLflow already has are not duplicated. Example: agr sync s3://agr
    """
    with errors_in_one_line():
        from orchestrator.settings import Settings
        from orchestrator.storage import open_storage
        from orchestrator.tracking import open_tracker

        logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
        settings = Settings.from_environment()
        opened = open_storage(storage or settings.storage)
        tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
        if follow is None:
            _sync_all(opened, tracker, settings)
        else:
            _follow(opened, tracker, settings, follow)


def _sync_all(storage: Storage, tracker: Tracker, settings: Settings) -> None:
    from agr_core.errors import IntegrityError
    from orchestrator.errors import (
        DeliveryOwnedError,
        NotFoundError,
        TrackerError,
        TrackerFaultError,
        TrackerUnavailableError,
    )
    from orchestrator.storage import layout
    from orchestrator.tracking.delivery import Syncer
    from orchestrator.tracking.exclusive import exclusive

    tracker.check()
    refused = []
    for sweep_id in storage.folders(layout.SWEEPS):
        try:
            with exclusive(settings.home, sweep_id, timeout_s=0):
                Syncer(storage, tracker, sweep_id).run_once()
            say(f"{sweep_id}: delivered")
        except (DeliveryOwnedError, NotFoundError) as error:  # delivered by another process, or only just started
            say(f"{sweep_id}: {error}")
        except TrackerFaultError as error:  # MLflow answers; other sweeps may succeed
            refused.append(sweep_id)
            say(f"{sweep_id}: {error}")
        except TrackerUnavailableError:
            raise
        except (TrackerError, IntegrityError) as error:  # other sweeps may succeed
            refused.append(sweep_id)
            say(f"{sweep_id}: {error}")
    if refused:
        raise TrackerError(f"{len(refused)} sweeps were not delivered: {', '.join(refused)}.")


def _follow(storage: Storage, tracker: Tracker, settings: Settings, sweep_id: str) -> None:
    from orchestrator.tracking.delivery import Syncer
    from orchestrator.tracking.exclusive import exclusive
    from orchestrator.tracking.report_process import write_report_in_child

    os.nice(_NICENESS)  # training on the same cores has priority
    parent = os.getppid()
    with exclusive(settings.home, sweep_id, timeout_s=-1):
        Syncer(storage, tracker, sweep_id, write_report=write_report_in_child).follow(
            announce=_announce,
            driver_lives=lambda: os.getppid() == parent,  # the parent ID changes when the parent ends
        )


def _announce(target: Place) -> None:
    """Print one line of JSON for the driver."""
    sys.stdout.write(json.dumps(asdict(target)) + "\n")
    sys.stdout.flush()


def ui(
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Default: a free one.")] = None,
    storage: StorageOption = None,
) -> None:
    """Print the MLflow link of the newest sweep's leaderboard, and serve MLflow if no server is configured.

    The server runs on 127.0.0.1 with the embedded database until Ctrl-C.

    Example: agr ui --port 5001
    """
    with errors_in_one_line():
        from orchestrator.settings import Settings
        from orchestrator.storage import open_storage
        from orchestrator.tracking import open_tracker
        from orchestrator.tracking.ui import serve

        settings = Settings.from_environment()
        tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
        tracker.check()
        opened = open_storage(storage or settings.storage)
        newest = _newest(opened, tracker)
        if tracker.uri.startswith("http"):
            typer.echo(_link(tracker.uri, newest))
            return
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server ends with this process
        say("starting MLflow ...")
        with serve(settings.tracking_uri, port=port, log=settings.home / "logs" / "mlflow-ui.log") as address:
            try:
                typer.echo(_link(address, newest))
                say("Ctrl-C ends it.")
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                say("ended")


def _newest(storage: Storage, tracker: Tracker) -> tuple[str, str] | None:
    """Return experiment and ID of the newest sweep in MLflow, a re-run only if there is no other; None without one."""
    from orchestrator.catalog.find import read_start
    from orchestrator.catalog.rebuilt import Unreadable, read_summaries

    readable = [summary for summary in read_summaries(storage, warn=warn) if not isinstance(summary, Unreadable)]
    for summary in sorted(readable, key=lambda summary: summary.rerun_of is not None):
        sweep_id = summary.sweep_id
        experiment_id = tracker.find_experiment(read_start(storage, sweep_id).experiment)
        if experiment_id is not None:
            return experiment_id, sweep_id
    return None


def _link(address: str, newest: tuple[str, str] | None) -> str:
    from orchestrator.tracking.view import view_link

    return address if newest is None else view_link(address, *newest)
