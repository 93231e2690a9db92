from __future__ import annotations

from pathlib import Path

import pytest

from agr_core.errors import InputError
from orchestrator.cluster.labels import GPU, data_label, node_labels, usd_per_hour
from tests.parts.ray_internals import validate_node_label_syntax, validate_node_labels


def _nvidia_smi(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{text}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_labels_say_provider_price_gpu_and_data_in_words_ray_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nvidia_smi(tmp_path, r"NVIDIA GeForce RTX 3090\nNVIDIA GeForce RTX 3090\n", monkeypatch)
    digest = "0123456789abcdef" * 4
    (tmp_path / "cache/datasets" / digest).mkdir(parents=True)
    (tmp_path / "cache/datasets" / f".{digest}.part").mkdir()
    labels = node_labels(provider="vast.ai", usd_per_hour=0.25, cache=tmp_path / "cache")
    assert labels == {
        "agr-provider": "vast.ai",
        "agr-usd-per-hour": "0.25",
        "agr-gpu": "RTX_3090",
        data_label(digest): "cached",
    }
    validate_node_labels(labels)
    validate_node_label_syntax(labels)
    assert usd_per_hour(labels) == 0.25


@pytest.mark.parametrize(
    ("name", "label"), [("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"), ("Tesla V100 (16 GB)", "Tesla_V100_16_GB")]
)
def test_any_gpu_name_becomes_a_label(name: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nvidia_smi(tmp_path, rf"{name}\n", monkeypatch)
    labels = node_labels(provider=None, usd_per_hour=None, cache=tmp_path)
    assert labels == {GPU: label}
    validate_node_labels(labels)
    validate_node_label_syntax(labels)


def test_a_provider_that_cannot_be_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--provider 'my cloud' must be"):
        node_labels(provider="my cloud", usd_per_hour=None, cache=tmp_path)
