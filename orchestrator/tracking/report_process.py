"""Write a sweep's report in a child process, so that Optuna is never loaded into the follower.

The follower lives as long as its sweep; what a module takes of its memory is not returned.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from agr_core.errors import AgrError
from orchestrator.errors import TrackerError
from orchestrator.storage import open_storage
from orchestrator.storage.base import Storage
from orchestrator.tracking.notes import write_report


def write_report_in_child(folder: Path, storage: Storage, sweep_id: str) -> str:
    """Do as ``notes.write_report`` in a child process, which opens the storage by its URI.

    Raises:
        AgrError: What ``notes.write_report`` raises.
        TrackerError: If the child ends without a result, for instance for lack of memory.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_report, args=(sender, folder, storage.uri, sweep_id), daemon=True)
    child.start()
    sender.close()  # the child's copy remains, so that its end is the end of the pipe
    try:
        result: str | AgrError = receiver.recv()
    except EOFError as error:
        child.join()
        raise TrackerError(
            f"the process that writes the report of sweep {sweep_id} ended with exit code {child.exitcode}; its errors "
            "are above. `agr sync` delivers what is missing."
        ) from error
    finally:
        receiver.close()
    child.join()
    if isinstance(result, AgrError):
        raise result
    return result


def _send_report(sender: Connection, folder: Path, storage_uri: str, sweep_id: str) -> None:
    """Send the description that ``write_report`` returns, or its error."""
    try:
        sender.send(write_report(folder, open_storage(storage_uri), sweep_id))
    except AgrError as error:
        sender.send(error)
