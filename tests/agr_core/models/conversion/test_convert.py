from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from agr_core.models import build_model
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
    file, _ = published(tmp_path, **{"_bn1.bias": torch.zeros(7), "_blocks.16._bn1.weight": torch.zeros(1)})
    with pytest.raises(ConfigError) as caught:
        convert(file, LITE0, tmp_path / "out.safetensors")
    assert "bn2.bias is (7,) instead of (1280,)" in str(caught.value)
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


def _saved(tmp_path: Path, document: Any) -> Path:
    file = tmp_path / "weights.pth"
    torch.save(document, file)
    return file


RESNET = "resnet10t"


@pytest.mark.parametrize("width", [18, None], ids=["of 18 classes", "none"])
def test_a_classifier_of_any_width_or_none_is_taken(tmp_path: Path, width: int | None) -> None:
    tensors = timm.create_model(RESNET, num_classes=width or 0).state_dict()
    out = tmp_path / "resnet.safetensors"
    found = convert(_saved(tmp_path, tensors), RESNET, out)
    assert found.classifier is (width is not None)
    assert load_file(out).keys() == tensors.keys()
    config = TrialConfig.from_document({"model": {"name": RESNET, "weights": str(out)}, "image": {"size": 32}})
    model = build_model(config, age_outputs=7, num_genders=2, num_races=5)
    assert torch.equal(model.state_dict()["backbone.conv1.0.weight"], tensors["conv1.0.weight"])


def test_prefixes_and_wrappers_of_any_depth_are_found_and_named(tmp_path: Path) -> None:
    own = timm.create_model(RESNET).state_dict()
    inner = {f"_orig_mod.module.model.backbone.{name}": each for name, each in own.items()}
    others = {"_orig_mod.module.model.head.weight": torch.zeros(2), "_orig_mod.module.criterion": torch.zeros(1)}
    checkpoint = {"epoch": 3, "args": argparse.Namespace(lr=0.1), "model": {"state_dict": inner | others}}
    out = tmp_path / "resnet.safetensors"
    found = convert(_saved(tmp_path, checkpoint), RESNET, out)
    assert found.wrappers == ("model", "state_dict")
    assert found.prefixes == ("_orig_mod.", "module.", "model.", "backbone.")
    assert sorted(found.left_out) == ["criterion", "head.weight"]
    assert all(torch.equal(load_file(out)[name], each) for name, each in own.items())


def test_a_head_beside_a_backbone_is_no_part_of_it(tmp_path: Path) -> None:
    own = timm.create_model(RESNET, num_classes=0).state_dict()
    tensors = {f"backbone.{name}": each for name, each in own.items()} | {"fc.weight": torch.zeros(7, 512)}
    found = convert(_saved(tmp_path, tensors), RESNET, tmp_path / "resnet.safetensors")
    assert (found.prefixes, found.left_out, found.classifier) == (("backbone.",), ("fc.weight",), False)


def test_tied_weights_are_written_each_under_its_name(tmp_path: Path) -> None:
    tensors = timm.create_model(RESNET).state_dict()
    tensors["bn1.bias"] = tensors["bn1.weight"]
    convert(_saved(tmp_path, tensors), RESNET, tmp_path / "resnet.safetensors")
    written = load_file(tmp_path / "resnet.safetensors")
    assert torch.equal(written["bn1.bias"], written["bn1.weight"])


def test_what_is_no_file_of_weights_is_refused_with_the_way_out(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    empty = tmp_path / "empty.pth"
    empty.touch()
    with pytest.raises(ConfigError, match=r"empty\.pth is empty: it was not downloaded whole"):
        convert(empty, RESNET, out)
    with pytest.raises(ConfigError, match="holds dict with the keys epoch, optimizer, not tensors by name"):
        convert(_saved(tmp_path, {"epoch": 1, "optimizer": {}}), RESNET, out)
    with pytest.raises(ConfigError, match=r"the folder .*/no does not exist"):
        convert(_saved(tmp_path, {}), RESNET, tmp_path / "no" / "out.safetensors")
