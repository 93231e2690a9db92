"""Initial weights of trials: resolved and hashed once on the driver, staged once on each node.

``model.weights`` gives an address, but the content identifies a trial and reproduces it. So whatever the address (a
file, an object in S3, weights kept by another trial, timm's weights in the folder ``AGR_WEIGHTS``), the file is stored
in the sweep's storage under its SHA-256.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agr_core.config import ModelConfig, timm_weights
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.models.weights_file import WeightsFile
from orchestrator.assets.node_cache import cached_weights
from orchestrator.assets.recorded import download_recorded
from orchestrator.catalog.find import TrialOfRun, find_trial, label_of, no_runs, trial_in
from orchestrator.errors import NotFoundError
from orchestrator.journal.segments import read_state
from orchestrator.settings import Settings
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage

_LOG = logging.getLogger(__name__)
_TRIAL = "trial:"


def resolve_weights(
    model: ModelConfig, *, storage: Storage, settings: Settings, trial_of_run: TrialOfRun = no_runs
) -> str | None:
    """Store the file that ``model.weights`` names in ``storage`` and return its SHA-256.

    None if it names no file: ``none``, or ``timm`` without that file in ``AGR_WEIGHTS``, so that timm fetches its
    weights on each node.

    Args:
        model: The model of a trial.
        storage: The sweep's storage; ``trial:`` looks there.
        settings: Where ``AGR_WEIGHTS`` is, and the cache.
        trial_of_run: Finds the trial where ``trial:`` names an MLflow run.

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
    with _fetched(model.weights, storage, settings, trial_of_run) as file:
        weights_file = WeightsFile.of(file, sha256=model.weights_sha256)
        return publish_weights(weights_file, storage=storage)


def publish_weights(file: WeightsFile, *, storage: Storage) -> str:
    """Store a file of weights in ``storage`` under its SHA-256, unless it exists; return the SHA-256."""
    key = layout.weights(file.sha256)
    if not storage.exists(key):
        storage.upload(file.path, key)
    return file.sha256


def stage_weights(sha256: str, *, storage: Storage, cache: Path, figures: CopyFigures | None = None) -> WeightsFile:
    """Fetch a file that ``resolve_weights`` stored to this node, unless it is cached.

    ``figures`` accumulates the bytes and seconds fetched.

    Raises:
        NotFoundError: If ``storage`` does not have it.
        IntegrityError: If it holds other bytes under that name.
    """
    limit_bytes = Settings.from_environment().cache_bytes
    file = cached_weights(storage, sha256, cache=cache, limit_bytes=limit_bytes, figures=figures)
    return WeightsFile(file, sha256)


def trial_weights(reference: str, storage: Storage, trial_of_run: TrialOfRun = no_runs) -> tuple[str, str | None]:
    """Return the key of a trial's kept weights and their journalled SHA-256 (None in earlier journals).

    ``reference`` is ``<trial>`` or ``<trial>@<label>``, default ``best``.

    Raises:
        NotFoundError: If there is no such trial, it has not ended, or it kept nothing under that label.
        AmbiguousIdError: If several trials begin so.
    """
    sweep_id, trial_id = find_trial(storage, reference, trial_of_run)  # refuses a label its sweep does not keep
    trial = trial_in(read_state(storage, sweep_id), trial_id)
    if trial.ended is None:
        raise NotFoundError(f"trial {trial_id} has not ended, so its best weights are not known yet; wait for its end.")
    kept = trial.kept_epochs
    if trial.ended.attempt is None or not kept:
        raise NotFoundError(f"trial {trial_id} has kept no weights: it ended ({trial.outcome}) without an epoch.")
    attempt = layout.attempt(sweep_id, trial_id, trial.ended.attempt)
    key = layout.best_weights(attempt, kept[label_of(reference)])
    return key, trial.recorded_sha256(key)


def _timms(name: str, storage: Storage, settings: Settings) -> str | None:
    full = timm_weights(name)
    assert full is not None, "a configuration says so"
    if settings.weights is None:
        return None
    folder = open_storage(settings.weights)
    if not folder.exists(f"{full}.safetensors"):
        _LOG.warning("AGR_WEIGHTS=%s has no %s.safetensors: timm downloads it on each node", settings.weights, full)
        return None
    with _downloaded(folder, f"{full}.safetensors", settings) as file:
        return publish_weights(WeightsFile.of(file), storage=storage)


@contextmanager
def _fetched(reference: str, storage: Storage, settings: Settings, trial_of_run: TrialOfRun) -> Iterator[Path]:
    """Yield the file at an address, on this machine for the length of the block."""
    sha256: str | None = None
    if reference.startswith(_TRIAL):
        key, sha256 = trial_weights(reference.removeprefix(_TRIAL), storage, trial_of_run)
        source = storage
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
    with _downloaded(source, key, settings, sha256) as file:
        yield file


@contextmanager
def _downloaded(source: Storage, key: str, settings: Settings, sha256: str | None = None) -> Iterator[Path]:
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=settings.cache) as folder:
        file = Path(folder, "weights.safetensors")
        download_recorded(source, key, file, sha256)
        yield file
