"""TensorFlow.js graph models against an interpreter of their nodes, which knows nothing of timm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from agr_core.models.conversion import convert
from agr_core.models.timm_backbones import build
from agr_core.models.weights import load_weights
from tests.parts.tfjs_model import Document, Written, mobilenet, word

MODEL = "mobilenetv1_100"


def interpreted(graph: Written, images: Tensor) -> Tensor:
    """Features of images (B, H, W, 3), by TensorFlow's definitions of the nodes, in float64."""
    values = {name: torch.from_numpy(each.astype(np.float64)) for name, each in graph.tensors.items()}
    values["image"] = images.double()
    for node in graph.nodes:
        if "input" in node and node["op"] != "MatMul":
            values[node["name"]] = OPERATIONS[node["op"]](node, *(values[name] for name in node["input"]))
    return values["pool"]


def _convolved(node: Document, images: Tensor, kernel: Tensor) -> Tensor:
    stride = int(node["attr"]["strides"]["list"]["i"][1])
    groups = kernel.shape[2] if node["op"].startswith("Depthwise") else 1
    weight = kernel.permute(2, 3, 0, 1) if groups > 1 else kernel.permute(3, 2, 0, 1)
    # SAME: out = ceil(in / stride); the smaller half of the padding is before.
    pads: list[int] = []
    for size in (images.shape[2], images.shape[1]):
        total = max((-(-size // stride) - 1) * stride + kernel.shape[0] - size, 0)
        pads += [total // 2, total - total // 2]
    padded = functional.pad(images.permute(0, 3, 1, 2), pads)
    return functional.conv2d(padded, weight, stride=stride, groups=groups).permute(0, 2, 3, 1)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Conv2D": _convolved,
    "DepthwiseConv2dNative": _convolved,
    "Mul": lambda _, values, other: values * other,
    "Add": lambda _, values, other: values + other,
    "Relu": lambda _, values: values.clamp(min=0),
    "Minimum": lambda _, values, other: torch.minimum(values, other),
    "Maximum": lambda _, values, other: torch.maximum(values, other),
    "Mean": lambda _, values, axes: values.mean([int(axis) for axis in axes]),
}


class Whole(nn.Module):
    """A model of one backbone, as ``load_weights`` takes it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def loaded(file: Path, **model: Any) -> nn.Module:
    config: Any = TrialConfig.from_document({"model": {"name": MODEL, **model}, "image": {"size": 40}}).model
    whole: Any = Whole(build(config, in_channels=3, image_size=40))
    load_weights(whole, file, heads="drop")
    backbone: nn.Module = whole.backbone
    return backbone.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(16, 40, 40, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "float16"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    graph = mobilenet()
    return graph.document(tmp_path_factory.mktemp("tfjs"), half=request.param), graph


def test_timms_mobilenet_gives_the_features_of_the_graph(
    published: tuple[Path, Written], images: Tensor, tmp_path: Path
) -> None:
    file, graph = published
    out = tmp_path / "mobile.safetensors"
    converted = convert(file, MODEL, out)
    assert (converted.used, converted.left_out, converted.folded) == (27 + 13 + 27, ("age/kernel",), True)
    expected = interpreted(graph, images)
    model = loaded(out, pad_type="same")
    with torch.no_grad():
        features = model(images.permute(0, 3, 1, 2)).double()
        assert (features - expected).abs().max() < 1e-5 * expected.abs().max()
        # Padded as timm does by default, it is another network.
        other = loaded(out)(images.permute(0, 3, 1, 2)).double()
    assert (other - expected).abs().max() > 1e-2 * expected.abs().max()


def test_measured_batch_norms_give_the_same_features_in_training(images: Tensor, tmp_path: Path) -> None:
    graph = mobilenet()
    file = graph.document(tmp_path)
    expected = interpreted(graph, images)
    given = images.permute(0, 3, 1, 2)
    errors = {}
    for name, measured_on in (("folded", None), ("measured", given)):
        out = tmp_path / f"{name}.safetensors"
        assert convert(file, MODEL, out, images=measured_on).folded == (measured_on is None)
        model = loaded(out, pad_type="same")
        with torch.no_grad():
            assert (model(given).double() - expected).abs().max() < 1e-4 * expected.abs().max(), name
            errors[name] = float((model.train()(given).double() - expected).abs().max() / expected.abs().max())
    # The batch is what was measured, so that training normalises as evaluation does.
    assert errors["measured"] < 1e-3
    assert errors["folded"] > 0.1
    with pytest.raises(ConfigError, match="3 images are too few"):
        convert(file, MODEL, tmp_path / "few.safetensors", images=given[:3])


def _changed(change: Callable[[Document], None]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        document = json.loads(file.read_text(encoding="utf-8"))
        change(document)
        file.write_text(json.dumps(document), encoding="utf-8")

    return apply


def _node(document: Document, name: str) -> Document:
    nodes: list[Document] = document["modelTopology"]["node"]
    return next(node for node in nodes if node["name"] == name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: (file.parent / "b.bin").unlink(), "needs b.bin beside it"),
        (lambda file: (file.parent / "b.bin").write_bytes(b"\0" * 99), "need more than the 1,100 bytes"),
        (lambda file: (file.parent / "a.bin").write_bytes(b"\0" * 2001), "its weights need .* bytes and"),
        (lambda file: file.write_text("[1, 2", encoding="utf-8"), "cannot be read as JSON"),
        (lambda file: file.write_text('{"format": "layers-model"}', encoding="utf-8"), "layers model .Keras."),
        (lambda file: file.write_text("{}", encoding="utf-8"), "is no tfjs graph model"),
        (_changed(lambda d: d["weightsManifest"][0].update(paths=["../a.bin", "b.bin"])), "is not in the same folder"),
        (_changed(lambda d: d["weightsManifest"][0]["weights"][0].update(dtype="string")), "has the type 'string'"),
        (_changed(lambda d: d["weightsManifest"][0]["weights"][0].update(shape=[-1, 3])), "is a damaged tfjs"),
        (_changed(lambda d: d["weightsManifest"][0].pop("paths")), "is a damaged tfjs"),
        (_changed(lambda d: _node(d, "dw3/Relu").update(op="Elu")), "'dw3/Relu' .* Elu does not belong there"),
        (_changed(lambda d: _node(d, "conv1")["attr"].pop("strides")), "is a damaged tfjs"),
        (_changed(lambda d: _node(d, "dw2")["attr"].update(padding={"s": word("VALID")})), "padding is not SAME"),
        (_changed(lambda d: _node(d, "dw3/min").update(op="Identity")), "'dw3' .* no ReLU6 follows it"),
        (
            _changed(lambda d: _node(d, "dw2")["attr"]["strides"]["list"].update(i=["1"] * 4)),
            "stride 1; .* has .* and 2",
        ),
        (_changed(lambda d: _node(d, "pw9").update(input=["dw1/max", "pw9/kernel"])), "convolutions and 'mobilenetv1"),
    ],
)
def test_what_is_no_such_model_is_refused_by_its_reason(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    file = mobilenet().document(tmp_path)
    damage(file)
    with pytest.raises(ConfigError, match=message):
        convert(file, MODEL, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_graph_is_not_converted_for_another_architecture(tmp_path: Path) -> None:
    file = mobilenet().document(tmp_path)
    with pytest.raises(ConfigError, match="mobilenetv1_100 alone, not 'resnet18'"):
        convert(file, "resnet18", tmp_path / "out.safetensors")
    with pytest.raises(ConfigError, match=r"kernel of shape \(32, 3, 3, 3\)"):
        convert(file, "mobilenetv1_125", tmp_path / "out.safetensors")
