"""The initial weights of a trial: found and hashed once on the driver, brought to each node once.

``model.weights`` gives an address; what a trial is identified by, and trained again from, is the content. So whatever
the address (a file, an object in S3, what another trial kept, timm's weights in the folder ``AGR_WEIGHTS``), the file
comes to lie in the sweep's storage under its SHA-256.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agr_core.config import ModelConfig, timm_weights
from agr_core.data.node_copy import CopyFigures
from agr_core.models.weights_file import WeightsFile
from orchestrator.errors import NotFoundError
from orchestrator.journal import read_state
from orchestrator.lookup import find_trial, label_of
from orchestrator.settings import Settings
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.storage.staging import cached_weights

_LOG = logging.getLogger(__name__)
_TRIAL = "trial:"


def resolve_weights(model: ModelConfig, *, storage: Storage, settings: Settings) -> str | None:
    """SHA-256 of the file that ``model.weights`` stands for, which lies in ``storage`` afterwards.

    None where it stands for no file: ``none``, or ``timm`` without that file in ``AGR_WEIGHTS``, so that timm fetches
    its weights on each node.

    Args:
        model: The model of a trial.
        storage: The sweep's storage; ``trial:`` looks there.
        settings: Where ``AGR_WEIGHTS`` is, and the cache.

    Raises:
        NotFoundError: If there is nothing at that address, or the trial has kept no such weights.
        IntegrityError: If the file does not have ``model.weights_sha256``.
        StorageError: If a store refuses or does not answer.
    """
    if model.weights == "none":
        return None
    if model.weights_sha256 is not None and storage.exists(layout.weights(model.weights_sha256)):
        return model.weights_sha256
    if model.weights == "timm":
        assert model.timm_name is not None, "only such models take weights=timm"
        return _timms(model.timm_name, storage, settings)
    with _fetched(model.weights, storage, settings) as file:
        found = WeightsFile.of(file, sha256=model.weights_sha256)
        return publish_weights(found, storage=storage)


def publish_weights(file: WeightsFile, *, storage: Storage) -> str:
    """Put a file of weights into ``storage`` under its SHA-256, unless it is there; returns that."""
    key = layout.weights(file.sha256)
    if not storage.exists(key):
        storage.upload(file.path, key)
    return file.sha256


def stage_weights(sha256: str, *, storage: Storage, cache: Path, figures: CopyFigures | None = None) -> WeightsFile:
    """Bring a file that ``resolve_weights`` found to this node, unless it is here.

    ``figures`` takes up what was fetched.

    Raises:
        NotFoundError: If ``storage`` does not have it.
        IntegrityError: If it holds other bytes under that name.
    """
    limit_bytes = Settings.from_environment().cache_bytes
    file = cached_weights(storage, sha256, cache=cache, limit_bytes=limit_bytes, figures=figures)
    return WeightsFile(file, sha256)


def trial_weights(reference: str, storage: Storage) -> str:
    """The key of the weights that a trial kept; ``reference`` is ``<trial>`` or ``<trial>@<label>``, default ``best``.

    Raises:
        NotFoundError: If there is no such trial, it has not ended, or it kept nothing under that label.
        AmbiguousIdError: If several trials begin so.
    """
    sweep_id, trial_id = find_trial(storage, reference)  # refuses a label its sweep does not keep
    trial = read_state(storage, sweep_id).trials[trial_id]
    if trial.ended is None:
        raise NotFoundError(f"trial {trial_id} has not ended, so its best weights are not known yet; wait for its end.")
    kept = trial.kept_epochs
    if trial.ended.attempt is None or not kept:
        raise NotFoundError(f"trial {trial_id} has kept no weights: it ended ({trial.outcome}) without an epoch.")
    attempt = layout.attempt(sweep_id, trial_id, trial.ended.attempt)
    return layout.best_weights(attempt, kept[label_of(reference)])


def _timms(name: str, storage: Storage, settings: Settings) -> str | None:
    full = timm_weights(name)
    assert full is not None, "a configuration says so"
    if settings.weights is None:
        return None
    folder = open_storage(settings.weights)
    if not folder.exists(f"{full}.safetensors"):
        _LOG.warning("AGR_WEIGHTS=%s has no %s.safetensors: each node lets timm fetch it", settings.weights, full)
        return None
    with _downloaded(folder, f"{full}.safetensors", settings) as file:
        return publish_weights(WeightsFile.of(file), storage=storage)


@contextmanager
def _fetched(reference: str, storage: Storage, settings: Settings) -> Iterator[Path]:
    """The file at an address, here for the length of the block."""
    if reference.startswith(_TRIAL):
        source, key = storage, trial_weights(reference.removeprefix(_TRIAL), storage)
    elif is_remote(reference):
        folder, _, key = reference.rpartition("/")
        source = open_storage(folder)
    else:
        path = Path(reference).expanduser()
        if path.is_file():
            yield path
            return
        if path.is_absolute() or settings.weights is None:
            raise NotFoundError(
                f"model.weights={reference!r}: there is no such file. Give the path of one, or set AGR_WEIGHTS to the "
                "folder that holds it."
            )
        source, key = open_storage(settings.weights), path.as_posix()
    with _downloaded(source, key, settings) as file:
        yield file


@contextmanager
def _downloaded(source: Storage, key: str, settings: Settings) -> Iterator[Path]:
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=settings.cache) as folder:
        file = Path(folder, "weights.safetensors")
        source.download(key, file)
        yield file
