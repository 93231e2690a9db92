"""The files of one attempt of a trial, in the sweep's storage.

A checkpoint is stored under its epoch, its ``state.json`` last, and only then is the one before it removed. So there is
always a whole one to resume from, whenever the worker dies.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from agr_core.config import TrialConfig
from agr_core.disk import writing
from agr_core.errors import CheckpointError
from agr_core.evaluation.guards import warnings
from agr_core.objective import BEST, Label
from orchestrator.errors import NotFoundError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.tracking.describe import KEY_METRICS

if TYPE_CHECKING:
    from agr_core.labels.attributes import Vocabulary
    from agr_core.reporting import EpochReport
    from agr_core.trainer.loop import Training

STATE = "state.json"
LAST = "last.safetensors"
"""Files of a checkpoint folder, as ``agr_core.trainer.checkpoint`` writes it (which imports torch; we need not)."""

WHEN_FULL = "free some of it, or set TMPDIR to a larger one"
"""What to do where there is no room for the files of an attempt before they are stored."""

_VAL = "val"
_LOGGED = ("train/loss", "val/loss", *(f"val/{name}" for name in KEY_METRICS), "val/attributes_acc", "time/epoch_s")


def kept_file(label: str) -> str:
    """The file of a checkpoint folder with the weights kept for ``label``."""
    return f"{label}.safetensors"


def predictions_file(label: str) -> str:
    """The file of a checkpoint folder with what the weights kept for ``label`` said of each image of the val part."""
    return f"{label}.parquet"


class _State(BaseModel):
    """What has to be known of ``state.json`` to fetch the files beside it; the training checks all of it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    kept_epochs: dict[Label, PositiveInt] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict)


class Attempt:
    """What attempt ``number`` of a training writes.

    Args:
        storage: Where to.
        parent: The trial's folder there, or the stage's.
        number: Which attempt.
        scratch: Local space; ``folder`` in it is for the checkpoint.
        about: What ``trial.json`` says of whose attempt it is.
    """

    def __init__(
        self, storage: Storage, parent: str, number: int, *, scratch: Path, about: Mapping[str, str] | None = None
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
        self._stored: set[int] = set()  # epochs whose weights are kept
        self._handler = logging.FileHandler(self._log)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for name in ("agr_core", "orchestrator", "py.warnings"):
            logging.getLogger(name).addHandler(self._handler)

    def describe(self, config: TrialConfig, *, provenance: Mapping[str, Any]) -> None:
        """Store ``trial.json``: the complete configuration and where it is trained."""
        document = {
            **self._about,
            "attempt": self._number,
            "config": config.to_document(),
            "provenance": dict(provenance),
        }
        self._storage.write(f"{self._key}/trial.json", json.dumps(document, indent=1).encode("utf-8"))

    def describe_labels(self, vocabulary: Vocabulary, crop: Mapping[str, Any] | None) -> None:
        """Store ``labels.json``: what the model's outputs stand for, and how faces were cut out of its images."""
        document = {**asdict(vocabulary), "crop": crop}
        self._storage.write(f"{self._key}/{layout.LABELS}", json.dumps(document, indent=1).encode("utf-8"))

    def log(self, text: str) -> None:
        """Add a line to the trial's log."""
        with self._log.open("a", encoding="utf-8") as file:
            file.write(text.rstrip("\n") + "\n")

    def upload_log(self) -> None:
        """Store the log as it is."""
        self._storage.upload(self._log, f"{self._key}/log.txt")

    def save(self, training: Training) -> None:
        """Store the state after the epoch just finished: weights, reports, log."""
        with writing(self.folder, when_full=WHEN_FULL):
            training.save(self.folder)
        epoch = training.epochs_done
        kept = training.kept_epochs
        for label, kept_epoch in kept.items():
            if kept_epoch not in self._stored:
                said = self.folder / predictions_file(label)
                if said.exists():  # not where the trial goes on from a checkpoint of before there were such
                    self._storage.upload(said, layout.predictions(self._key, _VAL, kept_epoch))
                self._storage.upload(self.folder / kept_file(label), layout.best_weights(self._key, kept_epoch))
                self._stored.add(kept_epoch)
        checkpoint = layout.checkpoint(self._key, epoch)
        self._storage.upload(self.folder / LAST, f"{checkpoint}/{LAST}")
        self._storage.upload(self.folder / STATE, f"{checkpoint}/{STATE}")
        lines = "".join(json.dumps(report.to_json()) + "\n" for report in training.reports)
        self._storage.write(f"{self._key}/metrics.jsonl", lines.encode("utf-8"))
        self.log(_line(training))
        if training.reports[-1].finished:
            self._log_warnings(training.reports, kept[BEST])
        self.upload_log()
        if self._saved_epoch is not None and self._saved_epoch != epoch:
            before = layout.checkpoint(self._key, self._saved_epoch)
            self._storage.delete(f"{before}/{STATE}")
            self._storage.delete(f"{before}/{LAST}")
        for kept_epoch in self._stored - set(kept.values()):
            self._storage.delete(layout.best_weights(self._key, kept_epoch))
            self._storage.delete(layout.predictions(self._key, _VAL, kept_epoch))
        self._saved_epoch, self._stored = epoch, set(kept.values())

    def _log_warnings(self, reports: Sequence[EpochReport], best: int) -> None:
        for report in reports:
            for words in warnings(report.metrics) if report.epoch == best else ():
                self.log(f"warning, epoch {best}, whose weights are kept: {words}")

    def fetch_newest_checkpoint(self) -> bool:
        """Bring the most advanced checkpoint of the earlier attempts into ``folder``; False if there is none.

        Raises:
            CheckpointError: If its ``state.json`` is none that a training writes.
            NotFoundError: If one of its files is missing.
        """
        found = newest_checkpoint(self._storage, self._parent)
        if found is None:
            return False
        attempt, epoch = found
        checkpoint = layout.checkpoint(attempt, epoch)
        self._storage.download(f"{checkpoint}/{STATE}", self.folder / STATE)
        self._storage.download(f"{checkpoint}/{LAST}", self.folder / LAST)
        # Not the newest of the kept weights: a worker that died may have stored better ones than its checkpoint knows.
        state = self._fetched_state(checkpoint)
        for label, kept_epoch in state.kept_epochs.items():
            self._storage.download(layout.best_weights(attempt, kept_epoch), self.folder / kept_file(label))
            said = predictions_file(label)
            if said in state.sha256:
                self._storage.download(layout.predictions(attempt, _VAL, kept_epoch), self.folder / said)
        return True

    def _fetched_state(self, checkpoint: str) -> _State:
        """A label in it becomes the name of a file here, and others write to the bucket too: so it is checked first."""
        try:
            return _State.model_validate_json((self.folder / STATE).read_bytes())
        except ValidationError as error:
            raise CheckpointError(
                f"{self._storage.uri}/{checkpoint}/{STATE} is not of a checkpoint: {error.errors()[0]['msg']}."
            ) from error

    def close(self) -> None:
        """Stop listening to the log."""
        for name in ("agr_core", "orchestrator", "py.warnings"):
            logging.getLogger(name).removeHandler(self._handler)
        self._handler.close()


class SilentAttempt(Attempt):
    """Writes nothing to the storage: of several processes that train together one does."""

    def describe(self, config: TrialConfig, *, provenance: Mapping[str, Any]) -> None:
        """Nothing."""

    def describe_labels(self, vocabulary: Vocabulary, crop: Mapping[str, Any] | None) -> None:
        """Nothing."""

    def upload_log(self) -> None:
        """Nothing."""

    def save(self, training: Training) -> None:
        """Nothing."""


def resume(attempt: Attempt, training: Training) -> None:
    """Go on from the newest checkpoint of the earlier attempts, if there is one that can be used."""
    try:
        if not attempt.fetch_newest_checkpoint():
            return
        training.restore(attempt.folder)  # changes nothing unless all of it can be read
    except (CheckpointError, NotFoundError) as error:
        # Trained from the start it comes out the same; only the time is lost.
        attempt.log(f"the checkpoint of an earlier attempt cannot be used, so it trains from the start: {error}")
    else:
        attempt.save(training)


def newest_checkpoint(storage: Storage, parent: str) -> tuple[str, int] | None:
    """Attempt folder and epoch of the most advanced whole checkpoint below ``parent``; None without one."""
    best: tuple[int, str] | None = None
    for attempt in storage.folders(parent):
        folder = f"{parent}/{attempt}"
        for epoch in filter(str.isdecimal, storage.folders(layout.checkpoints(folder))):  # others are not ours
            whole = storage.exists(f"{layout.checkpoints(folder)}/{epoch}/{STATE}")
            if whole and (best is None or int(epoch) > best[0]):
                best = (int(epoch), folder)
    return None if best is None else (best[1], best[0])


def _line(training: Training) -> str:
    """What the log says of an epoch, in a readable line; ``metrics.jsonl`` beside it has all figures."""
    report = training.reports[-1]
    shown = ", ".join(f"{name} {report.metrics[name]:.4g}" for name in _LOGGED if name in report.metrics)
    return f"epoch {report.epoch}: {shown}"
