from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from agr_core.errors import ConfigError
from agr_core.models.conversion import convert

LITE0 = "tf_efficientnet_lite0"
REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage (Tan and Le 2019, table 1), which the first and last stage of the lite nets keep at 1."""


def published_names() -> list[str]:
    """The names of ``efficientnet-lite0-57934424.pth`` in the order in which they stand there."""

    def layer(name: str) -> list[str]:
        return [f"{name}.weight"]

    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    names = [*layer("_conv_stem"), *norm("_bn0")]
    for block in range(sum(REPEATS)):
        own = f"_blocks.{block}."
        if block > 0:
            names += [*layer(f"{own}_expand_conv"), *norm(f"{own}_bn0")]
        names += [*layer(f"{own}_depthwise_conv"), *norm(f"{own}_bn1")]
        names += [*layer(f"{own}_project_conv"), *norm(f"{own}_bn2")]
    return [*names, *layer("_conv_head"), *norm("_bn1"), "_fc.weight", "_fc.bias"]


def published(tmp_path: Path, **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file as published, with the weights of a timm model in the order of its layers, no two of them alike."""
    plain = timm.create_model(LITE0).state_dict()
    own = {name: torch.full_like(tensor, place) for place, (name, tensor) in enumerate(plain.items())}
    tensors = dict(zip(published_names(), own.values(), strict=True)) | changes
    file = tmp_path / "lite0.pth"
    torch.save(tensors, file)
    return file, own


def test_every_weight_gets_the_name_of_the_layer_that_stands_in_its_place(tmp_path: Path) -> None:
    file, own = published(tmp_path)
    convert(file, LITE0, tmp_path / "lite0.safetensors")
    converted = load_file(tmp_path / "lite0.safetensors")
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_state_dict_of_a_parallel_model_in_a_checkpoint_is_found(tmp_path: Path, wrapper: str) -> None:
    own = timm.create_model("resnet10t").state_dict()
    torch.save({wrapper: {f"module.{name}": tensor for name, tensor in own.items()}}, tmp_path / "resnet.pth")
    convert(tmp_path / "resnet.pth", "resnet10t", tmp_path / "resnet.safetensors")
    assert load_file(tmp_path / "resnet.safetensors").keys() == own.keys()


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    file, _ = published(tmp_path)
    with pytest.raises(ConfigError, match=r"lite0.pth does not hold the weights of 'tf_efficientnet_lite1'.* missing"):
        convert(file, "tf_efficientnet_lite1", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_weight_of_another_shape_or_beside_the_model_is_refused(tmp_path: Path) -> None:
    file, _ = published(tmp_path, **{"_fc.bias": torch.zeros(7), "_blocks.16._bn1.weight": torch.zeros(1)})
    with pytest.raises(ConfigError) as caught:
        convert(file, LITE0, tmp_path / "out.safetensors")
    assert "classifier.bias is (7,) instead of (1000,)" in str(caught.value)
    assert "_blocks.16._bn1.weight is unexpected" in str(caught.value)


class _Harmful:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (Path("harm"),)


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("code.pth").write_bytes(pickle.dumps(_Harmful(), protocol=2))
    with pytest.raises(ConfigError, match=r"code.pth cannot be read as tensors alone"):
        convert(Path("code.pth"), LITE0, Path("out.safetensors"))
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("model", "out", "message"),
    [
        ("tf_efficientnet_lite", "out.safetensors", "unknown model 'tf_efficientnet_lite'. Did you mean"),
        (LITE0, "out.pth", "out.pth: model.weights takes files that end in .safetensors"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, model: str, out: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(tmp_path / "absent.pth", model, tmp_path / out)
