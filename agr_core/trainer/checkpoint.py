"""Checkpoints on disk: tensors as safetensors, everything else as JSON, no pickle.

A checkpoint is a folder with ``last.safetensors`` (weights and optimizer tensors after the last epoch),
``best.safetensors`` (weights of the best epoch), ``best.parquet`` (their predictions for each image of the val part,
see ``agr_core.evaluation.predictions``), two more such files for each label of ``keep``, and ``state.json``. Each file
is replaced atomically, ``state.json`` last. ``state.json`` holds the SHA-256 of the others, so that damaged files or
files of different epochs are never restored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from agr_core.errors import CheckpointError
from agr_core.identity import canonical_json
from agr_core.trainer.optim import trained_parameters
from agr_core.trainer.state import LoopState

LAST = "last.safetensors"
STATE = "state.json"

_SCHEMA = 2
_STAGE = 0
_WEIGHTS = "weights."
_AVERAGE = "average."
_LOSS = "loss."
_OPTIMIZER = "optimizer."


@dataclass(frozen=True)
class TensorFile:
    """Content of a safetensors file, independent of later updates of its tensors, with its SHA-256."""

    content: bytes
    sha256: str

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TensorFile:
        """Serialize tensors from any device; each is copied, because the format has no shared tensors."""
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        content = safetensors.torch.save(copies)
        return cls(content, hashlib.sha256(content).hexdigest())

    @classmethod
    def read(cls, file: Path, *, sha256: str) -> TensorFile:
        """Read a file and verify its digest.

        Raises:
            CheckpointError: If it cannot be read or its SHA-256 is not ``sha256``.
        """
        return cls(_read(file, sha256=sha256), sha256)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, on the CPU."""
        loaded: dict[str, Tensor] = safetensors.torch.load(self.content)
        return loaded


@dataclass(frozen=True)
class Parts:
    """Parts of a training with tensors or scalars that change from epoch to epoch."""

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None


@dataclass(frozen=True)
class Kept:
    """Weights of the best epoch for a label; epochs are counted from 1.

    ``predictions`` is the Parquet file of their predictions for the val part; None in checkpoints from before it
    existed.
    """

    epoch: int
    weights: TensorFile
    predictions: bytes | None


def kept_file(label: str) -> str:
    """Return the file name of the weights kept for ``label``, such as ``best.safetensors``."""
    return f"{label}.safetensors"


def predictions_file(label: str) -> str:
    """Return the file name of the val predictions of the weights kept for ``label``."""
    return f"{label}.parquet"


def save(
    folder: Path,
    parts: Parts,
    state: LoopState,
    *,
    kept: Mapping[str, Kept],
    write: Collection[str],
    identity: str,
) -> None:
    """Write a checkpoint to ``folder``, replacing the one there; the folder is created if missing.

    Args:
        folder: Folder of the checkpoint.
        parts: Parts whose weights and tensors are written.
        state: State of the training loop.
        kept: Kept weights of each label, including ``best``.
        write: Labels whose kept weights are not yet in ``folder``.
        identity: Identity of the training; a checkpoint is restored only into the same training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = TensorFile.of(_named_tensors(parts))
    for label in write:
        _replace(folder / kept_file(label), kept[label].weights.content)
        if (predictions := kept[label].predictions) is not None:
            _replace(folder / predictions_file(label), predictions)
    _replace(folder / LAST, last.content)
    document = {
        "schema": _SCHEMA,
        "stage": _STAGE,
        "identity": identity,
        "epochs_done": state.epochs_done,
        "kept_epochs": {label: each.epoch for label, each in kept.items()},
        "sha256": {
            LAST: last.sha256,
            **{kept_file(label): each.weights.sha256 for label, each in kept.items()},
            **{
                predictions_file(label): hashlib.sha256(each.predictions).hexdigest()
                for label, each in kept.items()
                if each.predictions is not None
            },
        },
        "scaler": parts.scaler.state_dict(),
        "loop": state.to_json(),
    }
    _replace(folder / STATE, canonical_json(document).encode("utf-8"))


def restore(
    folder: Path, parts: Parts, *, identity: str, earlier: str = "", most_epochs: int | None = None
) -> tuple[LoopState, dict[str, Kept]]:
    """Load the checkpoint in ``folder`` into ``parts``; return the loop's state and the kept weights by label.

    Everything is read and checked before any tensor is changed. ``earlier`` is the identity by which an earlier version
    would know this training, and ``most_epochs`` its length.

    Raises:
        CheckpointError: If a file is missing or damaged, or the checkpoint belongs to another training.
    """
    file = folder / STATE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint file {file} cannot be read: {error}.") from error
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA or document.get("stage") != _STAGE:
        raise CheckpointError(f"checkpoint file {file} is not of schema {_SCHEMA}; train from the start.")
    if document.get("identity") not in (identity, earlier or identity):
        raise CheckpointError(
            f"checkpoint {folder} is of another training: its identity is {document.get('identity')}, this one's is "
            f"{identity}. They differ in configuration, data, split or objective."
        )
    try:
        state = LoopState.from_json(document["loop"])
        if most_epochs is not None and state.epochs_done > most_epochs:
            raise CheckpointError(
                f"checkpoint {folder} has {state.epochs_done} epochs, and this training has {most_epochs}."
            )
        last = TensorFile.read(folder / LAST, sha256=document["sha256"][LAST]).tensors()
        kept = {
            label: _restored(folder, label, epoch, document["sha256"])
            for label, epoch in document["kept_epochs"].items()
        }
        weights, average, loss, optimizer_state = _sort_out(last, parts)
        parts.model.load_state_dict(weights)
        if parts.average is not None:
            parts.average.load_state_dict(average)
        parts.loss.load_state_dict(loss)
        parts.optimizer.load_state_dict(optimizer_state)
        parts.scaler.load_state_dict(document["scaler"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {folder} does not fit this training: {error}") from error
    return state, kept


def _restored(folder: Path, label: str, epoch: int, sha256: Mapping[str, str]) -> Kept:
    weights, predictions = kept_file(label), predictions_file(label)
    return Kept(
        epoch,
        TensorFile.read(folder / weights, sha256=sha256[weights]),
        _read(folder / predictions, sha256=sha256[predictions]) if predictions in sha256 else None,
    )


def load_weights(file: Path) -> dict[str, Tensor]:
    """Load the weights in a ``kept_file``.

    Raises:
        CheckpointError: If the file is missing or not in the safetensors format.
    """
    try:
        loaded: dict[str, Tensor] = safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"weights {file} cannot be read: {error}.") from error
    return loaded


def _named_tensors(parts: Parts) -> dict[str, Tensor]:
    """Return the tensors as ``weights.<parameter>``, ``average.…``, ``loss.…``, ``optimizer.….<parameter>``."""
    tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in parts.model.state_dict().items()}
    if parts.average is not None:
        tensors |= {f"{_AVERAGE}{name}": tensor for name, tensor in parts.average.state_dict().items()}
    tensors |= {f"{_LOSS}{name}": tensor for name, tensor in parts.loss.state_dict().items()}
    for name, parameter in _named_parameters(parts):
        for what, tensor in parts.optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{what}.{name}"] = tensor
    return tensors


def _named_parameters(parts: Parts) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield all trained parameters with their names, in the optimizer's order."""
    yield from trained_parameters(parts.model).items()
    for name, parameter in parts.loss.named_parameters():
        yield f"{_LOSS}{name}", parameter


def _sort_out(
    tensors: Mapping[str, Tensor], parts: Parts
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Return the state dicts of model, average, loss and optimizer; the inverse of ``_named_tensors``.

    torch's optimizer numbers its parameters. Its settings come from the configuration, not from the file.
    """
    parameters = dict(_named_parameters(parts))
    numbers = {name: number for number, name in enumerate(parameters)}
    weights: dict[str, Tensor] = {}
    average: dict[str, Tensor] = {}
    loss: dict[str, Tensor] = {}
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(_WEIGHTS):
            weights[key.removeprefix(_WEIGHTS)] = tensor
        elif key.startswith(_AVERAGE):
            average[key.removeprefix(_AVERAGE)] = tensor
        elif key.startswith(_LOSS):
            loss[key.removeprefix(_LOSS)] = tensor
        else:
            what, name = key.removeprefix(_OPTIMIZER).split(".", 1)
            states.setdefault(numbers[name], {})[what] = _laid_out_as(parameters[name], tensor)
    return weights, average, loss, {"state": states, "param_groups": parts.optimizer.state_dict()["param_groups"]}


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return ``tensor`` in the parameter's memory format, as the optimizer made it; files store one format only."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype, device="cpu").copy_(tensor)


def _read(file: Path, *, sha256: str) -> bytes:
    """Return the bytes of ``file`` after verifying their SHA-256."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint file {file} cannot be read: {error}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"checkpoint file {file} is damaged or of another epoch than {STATE}: its SHA-256 is {found}, "
            f"{STATE} says {sha256}. Delete the checkpoint to train from the start."
        )
    return content


def _replace(file: Path, content: bytes) -> None:
    """Replace ``file`` atomically."""
    temporary = file.with_name(f"{file.name}.partial")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
