"""Weights of TensorFlow.js graph models, for timm's MobileNet-v1.

A graph model is a JSON file with the graph (TensorFlow's nodes) and a list of weights, and binary files beside it with
their values in that order (https://www.tensorflow.org/js/guide/conversion). Only data is read; nothing is executed.

MobileNet-v1 (Howard et al. 2017) is a chain: each layer is a convolution, a scale and a shift of its channels, and
ReLU6. The converter folds batch norms into scale and shift, or into the convolution. The chain is followed from the
image to the global mean, and its layers are compared one by one with those of timm's model. What comes after the mean
are heads, which are left out.

C: output channels of a layer, I: input channels of a group, K: side of the kernel, in pixels.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agr_core.errors import ConfigError

_CONVOLUTIONS = ("Conv2D", "_FusedConv2D")
_DEPTHWISE = ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative")
_DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4")}
_QUANTIZED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "uint8": np.dtype("u1"), "uint16": np.dtype("<u2")}
_SIX = 6.0


@dataclass(frozen=True)
class Layer:
    """A convolution with the scale and shift of its channels, followed by ReLU6.

    ``weight`` (C, I, K, K); ``scale`` and ``shift`` (C,); ``depthwise``: one group per input channel; ``names``: the
    tensors of the file that it uses; ``above`` and ``below``: bounds of its output, 0 and 6 when it is complete.
    """

    name: str
    weight: Tensor
    scale: Tensor
    shift: Tensor
    stride: int
    depthwise: bool
    names: tuple[str, ...] = ()
    above: float = -math.inf
    below: float = math.inf

    @property
    def active(self) -> bool:
        """Whether a bound of its output was met already, which scales and shifts have to come before."""
        return (self.above, self.below) != (-math.inf, math.inf)


@dataclass(frozen=True)
class Chain:
    """The layers from the image to the global mean, and the names of the file's tensors that no layer uses."""

    layers: tuple[Layer, ...]
    left_out: tuple[str, ...]


def is_tfjs(file: Path) -> bool:
    """Return whether a file is named like the JSON file of a TensorFlow.js model."""
    return file.suffix == ".json"


def read_chain(file: Path) -> Chain:
    """Read the layers of a graph model.

    Raises:
        ConfigError: If the file is not a graph model, a file of its weights is missing or of another size, or the
            graph is not a chain of convolutions with ReLU6.
    """
    document = _document(file)
    try:
        graph = _Graph(file, document)
        layers = tuple(graph.layers())
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(f"{file} is a damaged tfjs graph model ({error!r}); fetch it again.") from error
    used = {name for layer in layers for name in layer.names}
    weights = [name for name, tensor in graph.tensors.items() if tensor.ndim and tensor.is_floating_point()]
    return Chain(layers, tuple(name for name in weights if name not in used))


def timm_tensors(chain: Chain, model: nn.Module, name: str, file: Path) -> dict[str, Tensor]:
    """Return the chain's weights under the names of a timm model.

    Folded batch norms get the mean 0 and the variance 1, so that their output is the graph's in evaluation. In
    training they would normalise with other statistics: ``measure_batch_norms`` gives them those of images.

    Args:
        chain: The layers of the graph.
        model: The timm model, padding as TensorFlow (``pad_type="same"``).
        name: Its name, for messages.
        file: The file of the graph, for messages.

    Raises:
        ConfigError: If the layers are not those of the model.
    """
    modules = dict(model.named_modules())
    convolutions = [key for key, module in modules.items() if isinstance(module, nn.Conv2d)]
    norms = [key for key, module in modules.items() if isinstance(module, nn.BatchNorm2d)]
    if len(convolutions) != len(norms) or len(chain.layers) != len(norms):
        raise ConfigError(
            f"{file} has {len(chain.layers)} convolutions and {name!r} {len(convolutions)}. Name the model that the "
            "weights are of."
        )
    tensors: dict[str, Tensor] = {}
    for layer, convolution, norm in zip(chain.layers, convolutions, norms, strict=True):
        own: Any = modules[convolution]
        given = (tuple(layer.weight.shape), layer.stride)
        wanted = (tuple(own.weight.shape), own.stride[0])
        if given != wanted or layer.depthwise != (own.groups > 1):
            raise ConfigError(
                f"{file}: {layer.name} has a kernel of shape {given[0]} and stride {given[1]}; {convolution} of "
                f"{name!r} has {wanted[0]} and {wanted[1]}. Name the model that the weights are of."
            )
        epsilon: Any = modules[norm]
        tensors |= {
            f"{convolution}.weight": layer.weight,
            f"{norm}.weight": layer.scale,
            f"{norm}.bias": layer.shift,
            f"{norm}.running_mean": torch.zeros_like(layer.scale),
            # Batch norm divides by the root of variance + epsilon, here 1.
            f"{norm}.running_var": torch.full_like(layer.scale, 1 - epsilon.eps),
        }
    return tensors


def _document(file: Path) -> dict[str, Any]:
    try:
        loaded: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read as JSON ({error}); give the .json file of a tfjs model.") from error
    document: dict[str, Any] = loaded if isinstance(loaded, dict) else {}
    if document.get("format") == "layers-model":
        raise ConfigError(
            f"{file} is a tfjs layers model (Keras), which agr does not read; convert it to a graph model with "
            "tensorflowjs_converter."
        )
    topology = document.get("modelTopology")
    if not isinstance(topology, dict) or "node" not in topology or "weightsManifest" not in document:
        raise ConfigError(
            f"{file} is no tfjs graph model: it needs modelTopology.node and weightsManifest. Give the .json file of "
            "one, with its .bin files beside it."
        )
    return document


class _Graph:
    """Nodes and tensors of a graph model."""

    def __init__(self, file: Path, document: Mapping[str, Any]) -> None:
        self._file = file
        self._nodes = {str(node["name"]): node for node in document["modelTopology"]["node"]}
        self.tensors = {name: tensor for group in document["weightsManifest"] for name, tensor in self._group(group)}

    def _group(self, group: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of one group of files by name."""
        data = b"".join(self._bytes(str(path)) for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            shape = tuple(int(side) for side in entry["shape"])
            if any(side < 0 for side in shape):
                raise ValueError(f"shape {shape} of {entry['name']}")
            quantization = entry.get("quantization") or {}
            kinds, kind = (_QUANTIZED, quantization["dtype"]) if quantization else (_DTYPES, entry["dtype"])
            if kind not in kinds:
                raise ConfigError(
                    f"{self._file}: {entry['name']} has the type {kind!r}; agr reads {', '.join(kinds)}. Convert the "
                    "model without it."
                )
            count = math.prod(shape)
            end = start + count * kinds[kind].itemsize
            if end > len(data):
                raise ConfigError(
                    f"{self._file}: its weights need more than the {len(data):,} bytes of {', '.join(group['paths'])}. "
                    "The download was cut; fetch it again."
                )
            values = np.frombuffer(data, kinds[kind], count, start).reshape(shape)
            if quantization:
                # Integers stand for multiples of a scale from a minimum on; half precision is stored as it is.
                floats = values.astype(np.float32)
                values = np.asarray(floats * quantization.get("scale", 1) + quantization.get("min", 0))
            integer = np.issubdtype(values.dtype, np.integer)
            yield str(entry["name"]), torch.from_numpy(values.astype(np.int32 if integer else np.float32))
            start = end
        if start != len(data):
            raise ConfigError(
                f"{self._file}: its weights need {start:,} bytes and {', '.join(group['paths'])} have {len(data):,}. "
                "They are of another model; fetch both again."
            )

    def _bytes(self, path: str) -> bytes:
        if Path(path).name != path:
            raise ConfigError(f"{self._file}: the file of weights {path!r} is not in the same folder; put it there.")
        try:
            return (self._file.parent / path).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{self._file} needs {path} beside it, which cannot be read ({error.strerror}); fetch it, too."
            ) from error

    @cached_property
    def _users(self) -> dict[str, list[str]]:
        """The nodes that take each node's output."""
        users: dict[str, list[str]] = {name: [] for name in self._nodes}
        for name in self._nodes:
            for given in self._inputs(name):
                users.setdefault(given, []).append(name)
        return users

    def _inputs(self, name: str) -> list[str]:
        return [str(given).partition(":")[0] for given in self._nodes[name].get("input") or []]

    def layers(self) -> Iterator[Layer]:
        """Yield the layers of the chain in order, up to the global mean."""
        images = [name for name, node in self._nodes.items() if node.get("op") == "Placeholder"]
        if len(images) != 1:
            raise ConfigError(f"{self._file} has {len(images)} inputs; agr converts models of one image.")
        name, layer = images[0], None
        seen = set(images)
        while True:
            users = self._users[name]
            if len(users) != 1:
                break  # heads begin here, or the chain is too short for any model
            if users[0] in seen:
                raise self._refusal(users[0], "it is in a loop")
            before, name = name, users[0]
            seen.add(name)
            operation = str(self._nodes[name].get("op"))
            if operation == "Mean":
                break
            if operation in (*_CONVOLUTIONS, *_DEPTHWISE):
                if layer is not None:
                    yield self._complete(layer)
                layer = self._convolution(name, operation)
            elif layer is None:
                raise self._refusal(name, f"{operation} comes before the first convolution")
            else:
                layer = self._applied(layer, name, operation, before)
        if layer is not None:
            yield self._complete(layer)

    def _complete(self, layer: Layer) -> Layer:
        if (layer.above, layer.below) != (0, _SIX):
            raise self._refusal(layer.name, "no ReLU6 follows it")
        return layer

    def _convolution(self, name: str, operation: str) -> Layer:
        node = self._nodes[name]
        depthwise = operation in _DEPTHWISE
        names = self._inputs(name)[1:]
        kernel = self._tensor(name, names[0] if names else "", ndim=4)
        strides = self._numbers(node, "strides")
        if strides[1:2] != strides[2:3] or kernel.shape[0] != kernel.shape[1]:
            raise self._refusal(name, f"its strides are {strides} and its kernel {tuple(kernel.shape)}")
        if self._word(node, "padding") != "SAME" or self._word(node, "data_format", "NHWC") != "NHWC":
            raise self._refusal(name, "its padding is not SAME, or its channels are not last")
        if any(each != 1 for each in self._numbers(node, "dilations")):
            raise self._refusal(name, "it is dilated")
        if depthwise and kernel.shape[3] != 1:
            raise self._refusal(name, f"it makes {kernel.shape[3]} channels of each")
        # (K, K, I, C) to (C, I, K, K); a depthwise kernel is (K, K, C, 1).
        weight = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
        ones = torch.ones(len(weight))
        layer = Layer(name, weight, ones, torch.zeros_like(ones), strides[1], depthwise, names=tuple(names[:1]))
        fused = self._words(node, "fused_ops")
        if "BiasAdd" in fused:
            layer = self._shifted(layer, name, names[1])
        if set(fused) - {"BiasAdd", "Relu6"}:
            raise self._refusal(name, f"it includes {', '.join(fused)}")
        return replace(layer, above=0.0, below=_SIX) if "Relu6" in fused else layer

    def _applied(self, layer: Layer, name: str, operation: str, before: str) -> Layer:
        """Return the layer with one further operation on its output."""
        others = [given for given in self._inputs(name) if given != before]
        constant = others[0] if others else ""
        match operation:
            case "Mul" if not layer.active:
                factor = self._channels(layer, name, constant)
                names = (*layer.names, constant)
                return replace(layer, scale=layer.scale * factor, shift=layer.shift * factor, names=names)
            case "Add" | "AddV2" | "BiasAdd" if not layer.active:
                return self._shifted(layer, name, constant)
            case "Relu6":
                return replace(layer, above=max(layer.above, 0.0), below=min(layer.below, _SIX))
            case "Relu":
                return replace(layer, above=max(layer.above, 0.0))
            case "Minimum":
                return replace(layer, below=min(layer.below, self._number(name, constant)))
            case "Maximum":
                return replace(layer, above=max(layer.above, self._number(name, constant)))
            case "Identity":
                return layer
        raise self._refusal(name, f"{operation} does not belong there")

    def _shifted(self, layer: Layer, name: str, constant: str) -> Layer:
        shift = layer.shift + self._channels(layer, name, constant)
        return replace(layer, shift=shift, names=(*layer.names, constant))

    def _channels(self, layer: Layer, name: str, constant: str) -> Tensor:
        values = self._tensor(name, constant).flatten()
        if len(values) != len(layer.weight):
            raise self._refusal(name, f"it has {len(values)} values for {len(layer.weight)} channels")
        return values

    def _number(self, name: str, constant: str) -> float:
        return float(self._tensor(name, constant, ndim=0))

    def _tensor(self, name: str, constant: str, ndim: int | None = None) -> Tensor:
        tensor = self.tensors.get(constant)
        if tensor is None or ndim not in (None, tensor.ndim):
            raise self._refusal(name, "one of its inputs is not a weight of the shape it needs")
        return tensor

    def _refusal(self, name: str, reason: str) -> ConfigError:
        return ConfigError(
            f"{self._file}: node {name!r} is not part of a chain of convolutions with ReLU6: {reason}. agr converts "
            "graph models of MobileNet-v1."
        )

    def _numbers(self, node: Mapping[str, Any], attribute: str) -> list[int]:
        values = node.get("attr", {}).get(attribute, {}).get("list", {}).get("i", [])
        return [int(value) for value in values]

    def _words(self, node: Mapping[str, Any], attribute: str) -> list[str]:
        values = node.get("attr", {}).get(attribute, {}).get("list", {}).get("s", [])
        return [base64.b64decode(value).decode() for value in values]

    def _word(self, node: Mapping[str, Any], attribute: str, default: str = "") -> str:
        value = node.get("attr", {}).get(attribute, {}).get("s")
        return default if value is None else base64.b64decode(value).decode()
