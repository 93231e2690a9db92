"""A recorded trial's model, brought here: configuration, best weights, and the label space of its data."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agr_core.config import TrialConfig
from agr_core.data.pack import is_packed, read_manifest
from agr_core.labels.attributes import Vocabulary
from orchestrator.datasets import DataRef
from orchestrator.errors import NotFoundError
from orchestrator.journal import read_state
from orchestrator.lookup import find_trial, label_of
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.storage.transfer import manifest_of
from orchestrator.tracking.files import attempt_folder
from orchestrator.trial_metrics import kept_report

if TYPE_CHECKING:
    from agr_core.models.info import ModelInfo
    from orchestrator.state import TrialState


@dataclass(frozen=True)
class Trained:
    """A trial's model as files. ``weights`` is on this machine; ``data`` says where its data and split are.

    ``crop`` is how faces were cut out of the images it was trained on (``FaceCropper.from_manifest``), None if that is
    not recorded.
    """

    sweep_id: str
    trial_id: str
    epoch: int
    config: TrialConfig
    weights: Path
    vocabulary: Vocabulary
    crop: Mapping[str, Any] | None
    data: DataRef


@contextmanager
def fetched(storage: Storage, text: str) -> Iterator[Trained]:
    """The model of the trial somebody typed, for the length of the block.

    Args:
        storage: Where its sweep is.
        text: Trial ID, a unique beginning of one, ``SWEEP/TRIAL``, or its MLflow run ID; ``TRIAL@label`` takes the
            weights kept for a label.

    Raises:
        NotFoundError: If there is no such trial, or it has no weights, or nothing says what its outputs stand for.
        AmbiguousIdError: If there are several such trials.
    """
    sweep_id, trial_id = find_trial(storage, text)
    state = read_state(storage, sweep_id)
    trial = state.trials[trial_id]
    best = kept_report(trial, state.started, label_of(text))
    folder = attempt_folder(sweep_id, trial)
    key = None if best is None or folder is None else layout.best_weights(folder, best.epoch)
    if best is None or key is None or not storage.exists(key):
        raise NotFoundError(
            f"trial {trial_id} of sweep {sweep_id} has no weights in {storage.uri} (outcome: "
            f"{trial.outcome or 'running'}). Once a sweep is over, those of its best trials stay (keep_checkpoints): "
            f"see `agr leaderboard {sweep_id}`, or train this one again by `agr rerun {trial_id}`."
        )
    vocabulary, crop = _labels(storage, sweep_id, trial)
    with tempfile.TemporaryDirectory(prefix="agr-model-") as scratch:
        weights = Path(scratch, "best.safetensors")
        storage.download(key, weights)
        yield Trained(
            sweep_id=sweep_id,
            trial_id=trial_id,
            epoch=best.epoch,
            config=TrialConfig.from_document(trial.created.config),
            weights=weights,
            vocabulary=vocabulary,
            crop=crop,
            data=DataRef(trial.created.data_uri, trial.created.data_digest, trial.created.split_digest),
        )


def model_info_of(storage: Storage, sweep_id: str, trial: TrialState) -> ModelInfo:
    """Parameters, layers and operations of a trial's model, which is built anew and not trained.

    Raises:
        NotFoundError: If nothing says how many classes there are.
        ConfigError: If the model cannot be built here.
    """
    from agr_core.models.info import model_info
    from agr_core.predict import untrained_model

    config = TrialConfig.from_document(trial.created.config)
    vocabulary, _ = _labels(storage, sweep_id, trial)
    model = untrained_model(config, vocabulary)
    return model_info(model, channels=3 if config.image.color == "rgb" else 1, size=config.image.size)


def _labels(storage: Storage, sweep_id: str, trial: TrialState) -> tuple[Vocabulary, Mapping[str, Any] | None]:
    """What the outputs of a trial's model stand for, and how faces were cut out of its images.

    Its attempt stored that. Trials that were trained before attempts did so are asked by way of their data set.
    """
    folder = attempt_folder(sweep_id, trial)
    data_uri = trial.created.data_uri
    try:
        document: Mapping[str, Any] = json.loads(storage.read(f"{folder}/{layout.LABELS}"))
    except NotFoundError:
        if is_remote(data_uri):
            document = manifest_of(open_storage(data_uri))
        elif is_packed(Path(data_uri)):
            document = read_manifest(Path(data_uri))
        else:
            raise NotFoundError(
                f"trial {trial.trial_id} has no {layout.LABELS}, and its data set is no longer at {data_uri}: nothing "
                "says what the model's outputs stand for. Bring the data set back, or train the trial again."
            ) from None
    classes = {name: tuple(document.get(name, ())) for name in ("genders", "races", "attributes")}
    return Vocabulary(**classes), document.get("crop")
