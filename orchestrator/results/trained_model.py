"""Fetch a recorded trial's model: configuration, best weights, and the label space of its data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr_core.config import TrialConfig, drawn_by
from agr_core.data.packed.pack import is_packed, read_manifest
from agr_core.labels.attributes import Vocabulary
from orchestrator.assets.recorded import download_recorded
from orchestrator.assets.transfer import manifest_of
from orchestrator.catalog.find import TrialOfRun, find_trial, label_of, no_runs, trial_in
from orchestrator.errors import NotFoundError
from orchestrator.journal.events import DataRef
from orchestrator.journal.recorded_config import recorded_config
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import attempt_folder
from orchestrator.results.attempt_files import RecordedLabels, recorded_labels, vocabulary_in
from orchestrator.results.trial_metrics import kept_report
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage

if TYPE_CHECKING:
    from agr_core.models.info import ModelInfo
    from orchestrator.journal.sweep_state import SweepState, TrialState


@dataclass(frozen=True)
class Trained:
    """A trial's model as files. ``weights`` is on this machine; ``data`` refers to its data and split.

    ``crop`` is the face crop of its training images (``FaceCropper.from_manifest``), None if not recorded. ``drawn`` is
    whether all of them are drawn faces, None if not recorded.
    """

    sweep_id: str
    trial_id: str
    epoch: int
    config: TrialConfig
    weights: Path
    vocabulary: Vocabulary
    crop: Mapping[str, Any] | None
    data: DataRef
    drawn: bool | None = None

    @property
    def only_drawn(self) -> bool:
        """Whether it was trained on drawn faces alone, so that its accuracy on photographs is unknown."""
        data, weights = self.config.data, self.config.model.weights
        sources = [data.sources[name] for name in data.train] or [data.source]
        by_name = all(drawn_by(source, data.synthetic) is not None for source in sources)
        return weights in _FACELESS and (by_name if self.drawn is None else self.drawn)


_FACELESS = ("none", "timm")
"""Initial weights that were trained on no faces."""

DRAWN = (
    "trained on drawn faces only, so its predictions for photographs are meaningless; train on real faces first "
    "(`agr data pack`)"
)
"""Remark on an ``only_drawn`` model, printed after its trial."""


@contextmanager
def fetched(storage: Storage, text: str, trial_of_run: TrialOfRun = no_runs) -> Iterator[Trained]:
    """Yield the model of a trial given by user input, on this machine for the length of the block.

    Args:
        storage: Storage of its sweep.
        text: Trial ID, a unique beginning of one, ``SWEEP/TRIAL``, or its MLflow run ID; ``TRIAL@label`` takes the
            weights kept for a label.
        trial_of_run: Finds the trial of an MLflow run ID.

    Raises:
        NotFoundError: If there is no such trial, it has no weights, or the meaning of its outputs is not recorded.
        AmbiguousIdError: If there are several such trials.
        DamagedError: If its weights or classes are not those that its journal lists.
    """
    sweep_id, trial_id = find_trial(storage, text, trial_of_run)
    state = read_state(storage, sweep_id)
    trial = trial_in(state, trial_id)
    best = kept_report(trial, state.started, label_of(text))
    folder = attempt_folder(sweep_id, trial)
    key = None if best is None or folder is None else layout.best_weights(folder, best.epoch)
    if best is None or key is None or not storage.exists(key):
        raise NotFoundError(
            f"trial {trial_id} of sweep {sweep_id} has no weights in {storage.uri} (outcome: "
            f"{trial.outcome or 'running'}). Only the best trials of an ended sweep keep theirs (keep_checkpoints): "
            f"see `agr leaderboard {sweep_id}`, or retrain this one with `agr rerun {trial_id}`."
        )
    labels = _labels(storage, sweep_id, trial)
    with tempfile.TemporaryDirectory(prefix="agr-model-") as scratch:
        weights = Path(scratch, "best.safetensors")
        download_recorded(storage, key, weights, trial.recorded_sha256(key))
        yield Trained(
            sweep_id=sweep_id,
            trial_id=trial_id,
            epoch=best.epoch,
            config=recorded_config(trial.created, state.started),
            weights=weights,
            vocabulary=labels.vocabulary,
            crop=labels.crop,
            data=trial.created.data,
            drawn=labels.drawn,
        )


def model_info_of(storage: Storage, sweep: SweepState, trial: TrialState) -> ModelInfo:
    """Return parameters, layers and operations of a trial's model, which is built anew and not trained.

    Raises:
        NotFoundError: If the number of classes is not recorded.
        ConfigError: If the model cannot be built here.
    """
    from agr_core.models.info import model_info
    from agr_core.predict.model import untrained_model

    config = recorded_config(trial.created, sweep.started)
    vocabulary = _labels(storage, sweep.started.sweep_id, trial).vocabulary
    model = untrained_model(config, vocabulary)
    return model_info(model, channels=3 if config.image.color == "rgb" else 1, size=config.image.size)


def _labels(storage: Storage, sweep_id: str, trial: TrialState) -> RecordedLabels:
    """Return the meaning of a trial's model outputs, and what is known of its faces.

    Attempts store both; for trials of earlier versions they are read from the data set.
    """
    folder = attempt_folder(sweep_id, trial)
    data_uri = trial.created.data_uri
    try:
        if folder is not None:
            return recorded_labels(storage, folder, trial)
    except NotFoundError:
        pass  # trained before attempts stored them
    if is_remote(data_uri):
        manifest = manifest_of(open_storage(data_uri))
    elif is_packed(Path(data_uri)):
        manifest = read_manifest(Path(data_uri))
    else:
        raise NotFoundError(
            f"trial {trial.trial_id} has no {layout.LABELS}, and its data set is no longer at {data_uri}: the "
            "meaning of the model's outputs is unknown. Restore the data set, or retrain the trial."
        )
    return RecordedLabels(vocabulary_in(manifest, data_uri), manifest.get("crop"))
