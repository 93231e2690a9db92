"""Initial weights from a file; what is loaded and what is left out is logged.

A file is a checkpoint of this project (``backbone.``, ``shared.``, ``heads.<task>.``), or a backbone's weights as
published by timm or facenet-pytorch, with or without classifier. The backbone is loaded completely or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from agr_core.errors import ConfigError
from agr_core.models.task_model import FaceModel

_LOG = logging.getLogger(__name__)
_BACKBONE = "backbone."
_SHARED = "shared"
_OTHER_PARTS = ("shared.", "heads.")
_COUNTER = "num_batches_tracked"
Tensors = Mapping[str, Tensor]
HeadsRule = Literal["drop", "keep", "as_shared"]


def load_weights(model: FaceModel, file: Path, *, heads: HeadsRule, part: str = "") -> None:
    """Load a ``.safetensors`` file into ``model``; ``heads`` decides about the heads in it.

    The file must have every weight of the backbone, except batch norm's step counters, which old files lack. A part
    that published weights never include (a squeeze-and-excitation block, an encoder) keeps its random weights.

    Args:
        model: The model, with random weights.
        file: A checkpoint of this project, or a backbone's published weights.
        heads: Use of heads in the file: ignored; loaded where they fit; or loaded as the layers of ``head.shared``.
        part: Name prefix of the model in a cascade's weights, if it is part of a cascade.

    Raises:
        ConfigError: If the file is not in the safetensors format or does not fit; the message lists missing and
            unexpected names and differing shapes.
    """
    tensors = _of_part(_read(file), file, part)
    is_ours = any(name.startswith(_BACKBONE) for name in tensors)
    others = {name: tensor for name, tensor in tensors.items() if is_ours and name.startswith(_OTHER_PARTS)}
    backbone = {name.removeprefix(_BACKBONE): tensor for name, tensor in tensors.items() if name not in others}

    target, fresh = _target(model.backbone, backbone)
    backbone = _for_grey(target, backbone)
    classifier = set() if is_ours else {name for name in backbone if name.startswith(_classifier_prefixes(target))}
    _load_strictly(target, {name: tensor for name, tensor in backbone.items() if name not in classifier}, file)
    match heads:
        case "drop":
            taken: Tensors = {}
        case "keep":
            taken = _fitting(model, others)
        case "as_shared":
            taken = _as_shared(model, others, file)
    model.load_state_dict(taken, strict=False)

    own_parts = _by_part({name: tensor for name, tensor in model.state_dict().items() if name.startswith(_OTHER_PARTS)})
    kept = set(_by_part(taken))
    left = classifier | (_by_part(others).keys() - (kept if heads == "keep" else set()))
    _LOG.info(
        "weights %s: taken: %s; left out of the file: %s; random at the start: %s",
        file,
        ", ".join(["backbone", *sorted(kept)]),
        ", ".join(sorted(left)) or "nothing",
        ", ".join([*(f"backbone.{name}" for name in fresh), *sorted(own_parts.keys() - kept)]) or "nothing",
    )


def _read(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise ConfigError(f"model.weights={str(file)!r} is not in the safetensors format: {error}.") from error
    return tensors


def _of_part(tensors: dict[str, Tensor], file: Path, part: str) -> dict[str, Tensor]:
    """Return the tensors of one network in a cascade's weights file; all tensors of any other file."""
    if not any(name.startswith("router.") for name in tensors):
        return tensors
    if not part:
        raise ConfigError(f"model.weights={str(file)!r} is of a cascade; it fits only model.name=cascade.")
    found = {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
    if not found:
        raise ConfigError(
            f"model.weights={str(file)!r} is of a cascade without {part.rstrip('.')}: its groups are not those of the "
            "data set."
        )
    return found


def _target(backbone: nn.Module, tensors: Tensors) -> tuple[nn.Module, list[str]]:
    """Return the module that the file's names belong to (backbone or its published part) and the remaining names."""
    part = getattr(backbone, "pretrained_part", None)
    if part is None or any(name in backbone.state_dict() for name in tensors):
        return backbone, []
    (prefix,) = (name for name, child in backbone.named_children() if child is part)
    return part, sorted({name.split(".")[0] for name in backbone.state_dict()} - {prefix})


def _for_grey(target: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, with the first convolution summed over colours if ``target`` takes grey images.

    The result equals applying the published weights to a grey image repeated in three channels; timm has the same rule.
    """
    own = target.state_dict()

    def fitted(name: str, tensor: Tensor) -> Tensor:
        if tensor.ndim != 4 or tensor.shape[1] != 3 or name not in own:
            return tensor
        grey = tensor.sum(dim=1, keepdim=True)
        return grey if grey.shape == own[name].shape else tensor

    return {name: fitted(name, tensor) for name, tensor in tensors.items()}


def _classifier_prefixes(target: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of the classifier layers in published weights, which ``target`` lacks."""
    own: Any = getattr(target, "classifier_names", ())
    timms: Any = getattr(target, "pretrained_cfg", {}).get("classifier") or ()  # one name or several
    names = (*own, *((timms,) if isinstance(timms, str) else timms))
    if isinstance(getattr(target, "pre_logits", None), nn.Identity):
        names = (*names, "pre_logits")  # model.fully_connected: false
    return tuple(f"{name}." for name in names)


def _load_strictly(target: nn.Module, weights: Tensors, file: Path) -> None:
    own = target.state_dict()
    problems = [
        _listed("missing", [name for name in own if name not in weights and not name.endswith(_COUNTER)]),
        _listed("unexpected", [name for name in weights if name not in own]),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
                for name in own
                if name in weights and weights[name].shape != own[name].shape
            ],
        ),
    ]
    if any(problems):
        raise ConfigError(
            f"model.weights={str(file)!r} does not fit the model: {'; '.join(filter(None, problems))}. "
            "Choose the model, image.size and image.color that the file was trained with."
        )
    target.load_state_dict(weights, strict=False)


def _fitting(model: FaceModel, others: Tensors) -> Tensors:
    """Return the tensors of all parts with equal shapes in the model; no head if the layers before it differ."""
    own = _by_part(model.state_dict())
    parts = _by_part(others)
    if not _alike(own.get(_SHARED, {}), parts.get(_SHARED, {})):
        return {}
    fitting = (tensors for part, tensors in parts.items() if part in own and _alike(own[part], tensors))
    return {name: tensor for tensors in fitting for name, tensor in tensors.items()}


def _as_shared(model: FaceModel, others: Tensors, file: Path) -> Tensors:
    """Return the tensors of the file's only head, under the names of the model's shared layers."""
    parts = _by_part(others)
    own = _in_order(_by_part(model.state_dict()).get(_SHARED, {}))
    head = _in_order(next(iter(parts.values()), {}))
    shapes = [tuple(tensor.shape) for tensor in head.values()]
    if len(parts) != 1 or not own or shapes != [tuple(tensor.shape) for tensor in own.values()]:
        raise ConfigError(
            f"model.weights_heads=as_shared needs a file with one head that has the layers of head.shared: "
            f"{str(file)!r} has {', '.join(sorted(parts)) or 'no head'}"
            f"{f' of shapes {shapes}' if len(parts) == 1 else ''}, and head.shared has the shapes "
            f"{[tuple(tensor.shape) for tensor in own.values()]}."
        )
    return dict(zip(own, head.values(), strict=True))


def _in_order(part: Tensors) -> Tensors:
    """Return the tensors sorted by layer number, then by name; a file does not keep their order."""

    def place(name: str) -> list[tuple[int, str]]:
        return [(int(word), "") if word.isdigit() else (0, word) for word in name.split(".")]

    return {name: part[name] for name in sorted(part, key=place)}


def _by_part(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """Return tensors grouped by ``shared``, ``heads.<task>`` or ``backbone``."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        words = name.split(".")
        part = ".".join(words[:2]) if words[0] == "heads" else words[0]
        parts.setdefault(part, {})[name] = tensor
    return parts


def _alike(one: Tensors, other: Tensors) -> bool:
    return {name: tensor.shape for name, tensor in one.items()} == {
        name: tensor.shape for name, tensor in other.items()
    }


def _listed(what: str, names: list[str], *, most: int = 8) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what}: {', '.join(names[:most])}{more}"
