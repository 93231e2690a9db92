"""A training on disk: tensors as safetensors, everything else as JSON, no pickle.

A checkpoint is a folder with ``last.safetensors`` (weights and optimizer tensors after the last epoch),
``best.safetensors`` (weights of the best epoch), ``best.parquet`` (what they said of each image of the val part, see
``agr_core.evaluation.predictions``), two more such files for each label of ``keep``, and ``state.json``.
Each file is replaced atomically, ``state.json`` last; it holds the SHA-256 of the others, so that files of different
epochs, or damaged ones, are never restored.
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
    """Tensors as the bytes of a safetensors file, which later updates cannot reach, and their SHA-256."""

    content: bytes
    sha256: str

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> TensorFile:
        """The tensors, copied from wherever they are; the format has no two names for one tensor, so each is copied."""
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        content = safetensors.torch.save(copies)
        return cls(content, hashlib.sha256(content).hexdigest())

    @classmethod
    def read(cls, file: Path, *, sha256: str) -> TensorFile:
        """A file's bytes.

        Raises:
            CheckpointError: If it cannot be read or its bytes are others than those written.
        """
        return cls(_read(file, sha256=sha256), sha256)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, on the CPU."""
        loaded: dict[str, Tensor] = safetensors.torch.load(self.content)
        return loaded


@dataclass(frozen=True)
class Parts:
    """The parts of a training that hold tensors, or scalars, which change from epoch to epoch."""

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None


@dataclass(frozen=True)
class Kept:
    """The weights of the epoch that is the best for a label; epochs are counted from 1.

    ``predictions`` is the Parquet file of what they said of the val part; None in checkpoints that are older than it.
    """

    epoch: int
    weights: TensorFile
    predictions: bytes | None


def kept_file(label: str) -> str:
    """Name of the file that holds the weights kept for ``label``, such as ``best.safetensors``."""
    return f"{label}.safetensors"


def predictions_file(label: str) -> str:
    """Name of the file that holds what the weights kept for ``label`` said of the val part."""
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
    """Write a checkpoint over the one in ``folder``, which is made if it is not there.

    Args:
        folder: Where to.
        parts: Their weights and tensors are written.
        state: The loop's state.
        kept: What is kept for each label, ``best`` among them.
        write: The labels whose weights ``folder`` lacks so far.
        identity: What is trained; a checkpoint is only restored into the same.
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


def restore(folder: Path, parts: Parts, *, identity: str) -> tuple[LoopState, dict[str, Kept]]:
    """Load the checkpoint in ``folder`` into ``parts``; gives the loop's state and what is kept for each label.

    Everything is read and checked before the first tensor is changed.

    Raises:
        CheckpointError: If a file is missing or damaged, or the checkpoint is of another training.
    """
    file = folder / STATE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint file {file} cannot be read: {error}.") from error
    if not isinstance(document, dict) or document.get("schema") != _SCHEMA or document.get("stage") != _STAGE:
        raise CheckpointError(f"checkpoint file {file} is not of schema {_SCHEMA}; train from the start.")
    if document.get("identity") != identity:
        raise CheckpointError(
            f"checkpoint {folder} is of another training: its identity is {document.get('identity')}, this one's is "
            f"{identity}. They differ in configuration, data, split or objective."
        )
    try:
        state = LoopState.from_json(document["loop"])
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
    """Weights as a ``kept_file`` holds them.

    Raises:
        CheckpointError: If the file is missing or not in the safetensors format.
    """
    try:
        loaded: dict[str, Tensor] = safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"weights {file} cannot be read: {error}.") from error
    return loaded


def _named_tensors(parts: Parts) -> dict[str, Tensor]:
    """``weights.<parameter>``, ``average.<what>``, ``loss.<what>`` and ``optimizer.<what>.<parameter>``."""
    tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in parts.model.state_dict().items()}
    if parts.average is not None:
        tensors |= {f"{_AVERAGE}{name}": tensor for name, tensor in parts.average.state_dict().items()}
    tensors |= {f"{_LOSS}{name}": tensor for name, tensor in parts.loss.state_dict().items()}
    for name, parameter in _named_parameters(parts):
        for what, tensor in parts.optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{what}.{name}"] = tensor
    return tensors


def _named_parameters(parts: Parts) -> Iterator[tuple[str, nn.Parameter]]:
    """All that is trained, in the order of the optimizer."""
    yield from trained_parameters(parts.model).items()
    for name, parameter in parts.loss.named_parameters():
        yield f"{_LOSS}{name}", parameter


def _sort_out(
    tensors: Mapping[str, Tensor], parts: Parts
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The inverse of ``_named_tensors``: state dicts of the model, of the average, of the loss and of the optimizer.

    torch's optimizer numbers its parameters; its settings come from the configuration, not from the file.
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
    """``tensor`` in the memory format of its parameter, as the optimizer made it; files have but one format."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype, device="cpu").copy_(tensor)


def _read(file: Path, *, sha256: str) -> bytes:
    """The bytes of ``file``, if they are those that were written."""
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
    """Write ``file`` so that, whatever happens, it holds all of the old or all of the new bytes."""
    temporary = file.with_name(f"{file.name}.partial")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
