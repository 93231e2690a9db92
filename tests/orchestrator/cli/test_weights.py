"""``agr weights convert``: published weights as files that ``model.weights`` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import timm
import torch
from click.testing import Result

from agr_core.config import ModelConfig, TrialConfig
from agr_core.identity import file_digest
from agr_core.models.weights_file import named_weights
from tests.parts.tfjs_model import mobilenet


def test_what_was_converted_is_what_a_trial_takes_under_the_printed_digest(
    agr: Callable[..., Result], tmp_path: Path
) -> None:
    pickled, out = tmp_path / "resnet.pth", tmp_path / "resnet.safetensors"
    torch.save(timm.create_model("resnet10t").state_dict(), pickled)

    printed = agr("weights", "convert", str(pickled), "--model", "resnet10t", "-o", str(out)).stdout

    digest = printed.split("sha256 ")[1].strip()
    assert digest == file_digest(out)
    model: ModelConfig = TrialConfig.from_document(
        {"model": {"name": "resnet10t", "weights": str(out), "weights_sha256": digest}}
    ).model
    found = named_weights(model)
    assert found is not None
    assert found.path == out


def test_a_missing_file_is_one_line_and_exit_code_2(agr: Callable[..., Result], tmp_path: Path) -> None:
    absent, out = str(tmp_path / "absent.pth"), str(tmp_path / "out.safetensors")
    result = agr("weights", "convert", absent, "--model", "resnet10t", "-o", out, code=2)
    assert "absent.pth cannot be read as tensors alone" in result.stderr


def test_a_graph_model_says_what_is_used_and_what_is_left_and_is_measured_on_faces(
    agr: Callable[..., Result], tmp_path: Path
) -> None:
    graph = mobilenet().document(tmp_path)
    faces, out = str(tmp_path / "faces"), str(tmp_path / "mobile.safetensors")
    agr("data", "synth", "--images", "24", "--size", "32", "-o", faces)
    command = ("weights", "convert", str(graph), "--model", "mobilenetv1_100", "-o", out)
    said = agr(*command).stderr
    assert "tensors used: 67" in said
    assert "ignored, of other parts: age/kernel" in said
    assert "pad_type: same" in said
    assert "--images DATA" in said
    assert "--images DATA" not in agr(*command, "--images", faces, "--normalize", "none").stderr
    refused = agr(*command, "--images", faces, code=2)
    assert "belong together" in refused.stderr
