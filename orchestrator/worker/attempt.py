"""Store and fetch the files of one attempt of a trial.

A checkpoint is stored under its epoch, its ``state.json`` last, and only then is the one before it removed. So there is
always a whole one to resume from, whenever the worker dies. Best weights that a better epoch has superseded are removed
once the report of that epoch is in the journal. So the best epoch of the journal always has its weights, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from agr_core.config import TrialConfig
from agr_core.disk import writing
from agr_core.errors import CheckpointError
from agr_core.evaluation.guards import warnings
from agr_core.identity import file_digest
from agr_core.objective import BEST, Label
from orchestrator.errors import NotFoundError
from orchestrator.results.wording import KEY_METRICS
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

if TYPE_CHECKING:
    from agr_core.labels.attributes import Vocabulary
    from agr_core.reporting import EpochReport
    from agr_core.trainer.loop import Training

STATE = layout.STATE
LAST = layout.LAST
"""Files of a checkpoint folder, as ``agr_core.trainer.checkpoint`` writes it (which imports torch; we need not)."""

WHEN_FULL = "free some of it, or set TMPDIR to a larger one"
"""Remedy for a full disk before an attempt's files are stored."""

JOURNALLED_AFTER_S = 10.0
"""Time after which a report that the driver has taken is in the journal, in seconds. It stores events every second, and
takes no further reports while it cannot."""

_VAL = "val"
_LOGGED = ("train/loss", "val/loss", *(f"val/{name}" for name in KEY_METRICS), "val/attributes_acc", "time/epoch_s")


def kept_file(label: str) -> str:
    """Return the checkpoint file of the weights kept for ``label``."""
    return f"{label}.safetensors"


def predictions_file(label: str) -> str:
    """Return the checkpoint file of the val predictions of the weights kept for ``label``."""
    return f"{label}.parquet"


class _State(BaseModel):
    """The part of ``state.json`` that names the files beside it; the training validates all of it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    kept_epochs: dict[Label, PositiveInt] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict)


class Attempt:
    """The files that attempt ``number`` of a training writes.

    Args:
        storage: The target storage.
        parent: The trial's folder there, or the stage's.
        number: Number of the attempt, from 0.
        scratch: Local space; ``folder`` in it is for the checkpoint.
        about: Fields of ``trial.json`` that identify the trial.
        clock: Returns a time in seconds that never runs backwards.
    """

    def __init__(
        self,
        storage: Storage,
        parent: str,
        number: int,
        *,
        scratch: Path,
        about: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._parent = parent
        self._about = dict(about or {})
        self._key = f"{parent}/attempt-{number}"
        self._number = number
        self.folder = scratch / "checkpoint"
        self.folder.mkdir()
        self._log = scratch / "log.txt"
        self._saved_epoch: int | None = None
        self._clock = clock
        self._stored: set[int] = set()  # epochs whose weights are kept
        self._superseded: dict[int, int] = {}  # epoch of stored weights -> epoch after which no label kept them
        self._taken: dict[int, float] = {}  # reported epoch -> when the driver had taken its report
        self._unannounced: dict[str, str] = {}  # SHA-256 of what was stored, by name
        self._lines: list[bytes] = []  # of metrics.jsonl
        self._handler = logging.FileHandler(self._log)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for name in ("agr_core", "orchestrator", "py.warnings"):
            logging.getLogger(name).addHandler(self._handler)

    def describe(self, config: TrialConfig, *, provenance: Mapping[str, Any]) -> None:
        """Store ``trial.json``: the full configuration and the provenance."""
        document = {
            **self._about,
            "attempt": self._number,
            "config": config.to_document(),
            "provenance": dict(provenance),
        }
        self._write("trial.json", json.dumps(document, indent=1).encode("utf-8"))

    def describe_labels(self, vocabulary: Vocabulary, crop: Mapping[str, Any] | None, *, drawn: bool) -> None:
        """Store ``labels.json``: the meaning of the model's outputs, the face crop, and whether all faces are drawn."""
        document = {**asdict(vocabulary), "crop": crop, "drawn": drawn}
        self._write(layout.LABELS, json.dumps(document, indent=1).encode("utf-8"))

    def _write(self, name: str, data: bytes) -> None:
        self._storage.write(f"{self._key}/{name}", data)
        self._unannounced[name] = hashlib.sha256(data).hexdigest()

    def _upload(self, file: Path, key: str) -> None:
        self._storage.upload(file, key)
        self._unannounced[key.removeprefix(f"{self._key}/")] = file_digest(file)

    def stored_files(self, epoch: int) -> dict[str, str]:
        """Return the SHA-256 of the files stored since the last call, by name in the attempt's folder.

        The journal records them with the report of ``epoch``. For ``metrics.jsonl`` it covers the lines up to that
        epoch.
        """
        files, self._unannounced = self._unannounced, {}
        if self._lines:
            files["metrics.jsonl"] = hashlib.sha256(b"".join(self._lines[:epoch])).hexdigest()
        return files

    def log(self, text: str) -> None:
        """Add a line to the trial's log."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(text.rstrip("\n") + "\n")

    def upload_log(self) -> None:
        """Store the current log."""
        self._storage.upload(self._log, f"{self._key}/log.txt")

    def save(self, training: Training) -> None:
        """Store the state after the finished epoch: weights, reports, log."""
        with writing(self.folder, when_full=WHEN_FULL):
            training.save(self.folder)
        epoch = training.epochs_done
        kept = training.kept_epochs
        for label, kept_epoch in kept.items():
            if kept_epoch not in self._stored:
                predictions = self.folder / predictions_file(label)
                if predictions.exists():  # missing if the trial continues from a checkpoint of an earlier version
                    self._upload(predictions, layout.predictions(self._key, _VAL, kept_epoch))
                self._upload(self.folder / kept_file(label), layout.best_weights(self._key, kept_epoch))
                self._stored.add(kept_epoch)
        checkpoint = layout.checkpoint(self._key, epoch)
        self._storage.upload(self.folder / LAST, f"{checkpoint}/{LAST}")
        self._storage.upload(self.folder / STATE, f"{checkpoint}/{STATE}")
        self._lines = [json.dumps(report.to_json()).encode("utf-8") + b"\n" for report in training.reports]
        self._storage.write(f"{self._key}/metrics.jsonl", b"".join(self._lines))
        self.log(_line(training))
        if training.reports[-1].finished:
            self._log_warnings(training.reports, kept[BEST])
        self.upload_log()
        if self._saved_epoch is not None and self._saved_epoch != epoch:
            before = layout.checkpoint(self._key, self._saved_epoch)
            self._storage.delete(f"{before}/{STATE}")
            self._storage.delete(f"{before}/{LAST}")
        self._superseded.update(dict.fromkeys(self._stored - set(kept.values()), epoch))
        self._saved_epoch, self._stored = epoch, set(kept.values())

    def report_taken(self, epoch: int) -> None:
        """Remove the weights that were superseded by epochs whose reports are in the journal.

        Call it when the driver asks for the next epoch: then it has taken the report of ``epoch``.
        """
        now = self._clock()
        self._taken[epoch] = now
        journalled = [taken for taken, at in self._taken.items() if now - at >= JOURNALLED_AFTER_S]
        if journalled:
            self.remove_superseded(max(journalled))
            self._taken = {taken: at for taken, at in self._taken.items() if taken > max(journalled)}

    def remove_superseded(self, epoch: int) -> None:
        """Remove the weights that were superseded by ``epoch`` or an earlier one, and their predictions."""
        for kept_epoch in [kept_epoch for kept_epoch, by in self._superseded.items() if by <= epoch]:
            self._storage.delete(layout.best_weights(self._key, kept_epoch))
            self._storage.delete(layout.predictions(self._key, _VAL, kept_epoch))
            del self._superseded[kept_epoch]

    def _log_warnings(self, reports: Sequence[EpochReport], best: int) -> None:
        for report in reports:
            for words in warnings(report.metrics) if report.epoch == best else ():
                self.log(f"warning, epoch {best}, whose weights are kept: {words}")

    def fetch_newest_checkpoint(self) -> str | None:
        """Fetch the most advanced checkpoint of the earlier attempts into ``folder``.

        Returns:
            The folder of the attempt that stored it; None if there is none.

        Raises:
            CheckpointError: If its ``state.json`` is not valid.
            NotFoundError: If one of its files is missing.
        """
        newest = newest_checkpoint(self._storage, self._parent)
        if newest is None:
            return None
        attempt, epoch = newest
        checkpoint = layout.checkpoint(attempt, epoch)
        self._storage.download(f"{checkpoint}/{STATE}", self.folder / STATE)
        self._storage.download(f"{checkpoint}/{LAST}", self.folder / LAST)
        # Not the newest of the kept weights: a worker that died may have stored better ones than its checkpoint knows.
        state = self._fetched_state(checkpoint)
        for label, kept_epoch in state.kept_epochs.items():
            self._storage.download(layout.best_weights(attempt, kept_epoch), self.folder / kept_file(label))
            predictions = predictions_file(label)
            if predictions in state.sha256:
                self._storage.download(layout.predictions(attempt, _VAL, kept_epoch), self.folder / predictions)
        return attempt

    def copy_superseded(self, earlier: str, training: Training) -> None:
        """Copy the weights that ``earlier`` still holds from before its checkpoint, with their predictions.

        Call it before the checkpoint is stored here. The driver may be killed after it has journalled the reports of
        some epochs of the checkpoint and not of all; then the best of those are the weights to keep.
        """
        kept = set(training.kept_epochs.values())
        copied = self.folder / "superseded"
        names = (Path(info.key).stem for info in list(self._storage.list(layout.all_best_weights(earlier))))
        for epoch in map(int, filter(str.isdecimal, names)):  # others are not ours
            if epoch in kept or epoch > training.epochs_done:
                continue
            weights, predictions = layout.best_weights("", epoch), layout.predictions("", _VAL, epoch)
            try:
                self._storage.download(earlier + weights, copied)
                self._upload(copied, self._key + weights)
                self._stored.add(epoch)
                if self._storage.exists(earlier + predictions):  # missing as in `save`
                    self._storage.download(earlier + predictions, copied)
                    self._upload(copied, self._key + predictions)
            except NotFoundError as error:
                self.log(f"the worker of {earlier} still lives and has removed what was being copied: {error}")
            copied.unlink(missing_ok=True)

    def _fetched_state(self, checkpoint: str) -> _State:
        """Fetch and validate a checkpoint's state.

        Its labels become file names here, and others can write to the bucket.
        """
        try:
            return _State.model_validate_json((self.folder / STATE).read_bytes())
        except ValidationError as error:
            raise CheckpointError(
                f"{self._storage.uri}/{checkpoint}/{STATE} is not of a checkpoint: {error.errors()[0]['msg']}."
            ) from error

    def close(self) -> None:
        """Detach from the log."""
        for name in ("agr_core", "orchestrator", "py.warnings"):
            logging.getLogger(name).removeHandler(self._handler)
        self._handler.close()


class SilentAttempt(Attempt):
    """An attempt that stores nothing: of several processes that train together only one does."""

    def describe(self, config: TrialConfig, *, provenance: Mapping[str, Any]) -> None:
        """Do nothing."""

    def describe_labels(self, vocabulary: Vocabulary, crop: Mapping[str, Any] | None, *, drawn: bool) -> None:
        """Do nothing."""

    def upload_log(self) -> None:
        """Do nothing."""

    def copy_superseded(self, earlier: str, training: Training) -> None:
        """Do nothing."""

    def save(self, training: Training) -> None:
        """Do nothing."""


def resume(attempt: Attempt, training: Training, *, journalled: int) -> None:
    """Continue from the newest checkpoint of the earlier attempts, if a usable one exists.

    Args:
        attempt: The attempt that begins.
        training: Its training, with no epoch.
        journalled: Last epoch whose report is in the journal.
    """
    try:
        earlier = attempt.fetch_newest_checkpoint()
        if earlier is None:
            return
        training.restore(attempt.folder)  # changes nothing unless all of it can be read
    except (CheckpointError, NotFoundError) as error:
        # Training from the start gives the same result; only the time is lost.
        attempt.log(f"the checkpoint of an earlier attempt cannot be used, so training restarts: {error}")
    else:
        if training.epochs_done > journalled:
            attempt.copy_superseded(earlier, training)
        attempt.save(training)


def newest_checkpoint(storage: Storage, parent: str) -> tuple[str, int] | None:
    """Return attempt folder and epoch of the most advanced whole checkpoint below ``parent``; None without one."""
    best: tuple[int, str] | None = None
    for attempt in storage.folders(parent):
        folder = f"{parent}/{attempt}"
        for epoch in filter(str.isdecimal, storage.folders(layout.checkpoints(folder))):  # others are not ours
            complete = storage.exists(f"{layout.checkpoints(folder)}/{epoch}/{STATE}")
            if complete and (best is None or int(epoch) > best[0]):
                best = (int(epoch), folder)
    return None if best is None else (best[1], best[0])


def _line(training: Training) -> str:
    """Return an epoch's line in the log; ``metrics.jsonl`` beside it has all metrics."""
    report = training.reports[-1]
    shown = ", ".join(f"{name} {report.metrics[name]:.4g}" for name in _LOGGED if name in report.metrics)
    return f"epoch {report.epoch}: {shown}"
