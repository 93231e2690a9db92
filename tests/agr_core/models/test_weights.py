from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError, IntegrityError
from agr_core.models import build_model
from agr_core.models.task_model import FaceModel
from agr_core.models.weights_file import WeightsFile


def _build(
    model: Any,
    *,
    size: int = 32,
    color: str = "rgb",
    seed: int = 42,
    age_outputs: int = 7,
    weights: WeightsFile | None = None,
    untrained: bool = False,
    **parts: Any,
) -> FaceModel:
    document = {"model": model, "image": {"size": size, "color": color}, "seed": seed, **parts}
    return build_model(
        TrialConfig.from_document(document),
        age_outputs=age_outputs,
        num_genders=2,
        num_races=5,
        weights=weights,
        untrained=untrained,
    )


def _same(one: Any, other: Any) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _file(tmp_path: Path, *, classifier: bool = True, **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    torch.manual_seed(9)
    model = timm.create_model("resnet10t", num_classes=11 if classifier else 0)
    tensors = dict(model.state_dict()) | changes
    file = tmp_path / "weights.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    return file, tensors


def test_a_file_of_timms_model_is_loaded_but_for_its_classifier(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, tensors = _file(tmp_path)
    with caplog.at_level(logging.INFO, logger="agr_core"):
        model = _build({"name": "resnet10t", "weights": str(file)})
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    assert "taken: backbone; left out of the file: fc.bias, fc.weight; random at the start: heads.age" in caplog.text


def test_a_checkpoint_of_ours_is_loaded_but_for_its_heads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = _build("resnet10t", seed=1)
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    with caplog.at_level(logging.INFO, logger="agr_core"):
        model = _build({"name": "resnet10t", "weights": str(tmp_path / "best.safetensors")}, seed=2)
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, trained.backbone.state_dict()[name])
    assert not torch.equal(model.heads["age"][0].weight, trained.heads["age"][0].weight)
    assert "left out of the file: heads.age, heads.gender, heads.race" in caplog.text


def test_a_missing_weight_is_refused_and_named(tmp_path: Path) -> None:
    file, _ = _file(tmp_path, **{"layer1.0.conv1.weight": None})
    with pytest.raises(ConfigError, match=r"does not fit the model: missing: layer1\.0\.conv1\.weight"):
        _build({"name": "resnet10t", "weights": str(file)})


def test_an_unexpected_weight_is_refused_and_named(tmp_path: Path) -> None:
    file, _ = _file(tmp_path, extra=torch.zeros(1))
    with pytest.raises(ConfigError, match="does not fit the model: unexpected: extra"):
        _build({"name": "resnet10t", "weights": str(file)})


def test_weights_for_other_images_are_refused_and_their_shape_named(tmp_path: Path) -> None:
    file, tensors = _file(tmp_path)
    grey = tensors["conv1.0.weight"].sum(dim=1, keepdim=True)
    file, _ = _file(tmp_path, **{"conv1.0.weight": grey})
    with pytest.raises(
        ConfigError, match=r"of another shape: conv1\.0\.weight \(24, 1, 3, 3\) instead of \(24, 3, 3, 3\).*color"
    ):
        _build({"name": "resnet10t", "weights": str(file)})


def test_weights_of_three_colours_see_a_grey_image_as_one_repeated_in_three_channels(tmp_path: Path) -> None:
    file, _ = _file(tmp_path)
    coloured = _build({"name": "resnet10t", "weights": str(file)}).backbone.eval()
    grey = _build({"name": "resnet10t", "weights": str(file)}, color="grey").backbone.eval()
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey(images), coloured(images.expand(-1, 3, -1, -1)))


def test_weights_of_another_model_are_refused_with_a_short_list(tmp_path: Path) -> None:
    file, _ = _file(tmp_path)
    with pytest.raises(ConfigError, match=r"missing: .* and \d+ more; unexpected: .* and \d+ more") as caught:
        _build({"name": "mobilenetv3_small_050", "weights": str(file)})
    assert len(str(caught.value)) < 2000


def test_batch_norms_step_counters_may_be_missing(tmp_path: Path) -> None:
    _, tensors = _file(tmp_path)
    file, _ = _file(tmp_path, **{name: None for name in tensors if name.endswith("num_batches_tracked")})
    model = _build({"name": "resnet10t", "weights": str(file)})
    assert torch.equal(model.backbone.conv1[0].weight, tensors["conv1.0.weight"])


@pytest.mark.parametrize("content", [b"garbage", b""], ids=["garbage", "empty"])
def test_a_file_in_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="not in the safetensors format"):
        _build({"name": "resnet10t", "weights": str(tmp_path / "weights.safetensors")})


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be none, timm, or an existing \.safetensors file"):
        _build({"name": "resnet10t", "weights": "nowhere.safetensors"})


@pytest.mark.parametrize("weights", ["weights.pth", "imagenet"])
def test_what_can_be_no_file_of_weights_is_refused_before_anything_is_built(weights: str) -> None:
    with pytest.raises(ValidationError, match=r"must be none, timm, a \.safetensors file"):
        _build({"name": "resnet10t", "weights": weights})


def test_weights_that_cannot_be_downloaded_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"timm's weights of 'resnet10t' are not available .*Check the network"):
        _build({"name": "resnet10t", "weights": "timm"})


def test_weights_of_timm_that_do_not_exist_are_one_clear_error() -> None:
    with pytest.raises(ValidationError, match=r"timm has no weights of 'cs3darknet_s'"):
        _build({"name": "cs3darknet_s", "weights": "timm"}, size=64)


def test_weights_of_timm_are_for_models_of_timm() -> None:
    with pytest.raises(ValidationError, match="weights=timm: timm has no weights of this model"):
        _build({"name": "basic_cnn", "weights": "timm"})


@pytest.mark.parametrize("field", [{"weights_sha256": "0" * 64}, {"weights_heads": "keep"}])
def test_options_of_a_weights_file_need_a_file(field: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"applies to a file of weights only, but weights=none; leave it out"):
        _build({"name": "resnet10t", **field})


def test_the_digest_of_a_file_is_checked(tmp_path: Path) -> None:
    file, _ = _file(tmp_path)
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    _build({"name": "resnet10t", "weights": str(file), "weights_sha256": right})
    with pytest.raises(IntegrityError, match=rf"has SHA-256 {right} instead of {'0' * 64}"):
        _build({"name": "resnet10t", "weights": str(file), "weights_sha256": "0" * 64})


def test_a_staged_file_stands_for_what_the_configuration_names(tmp_path: Path) -> None:
    file, tensors = _file(tmp_path)
    model = _build({"name": "resnet10t", "weights": "elsewhere.safetensors"}, weights=WeightsFile.of(file))
    assert torch.equal(model.backbone.conv1[0].weight, tensors["conv1.0.weight"])


def test_timms_weights_may_lie_in_a_file(tmp_path: Path) -> None:
    file, tensors = _file(tmp_path)
    model = _build({"name": "resnet10t", "weights": "timm"}, color="grey", weights=WeightsFile.of(file))
    summed = tensors["conv1.0.weight"].sum(dim=1, keepdim=True)  # timm's rule for one channel
    torch.testing.assert_close(model.backbone.conv1[0].weight, summed)


def test_a_model_whose_weights_come_later_needs_no_file() -> None:
    document = {"name": "resnet10t", "weights": "nowhere.safetensors"}
    assert _same(_build(document, untrained=True), _build("resnet10t"))


SMALL: dict[str, Any] = {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 8}


class TestHeads:
    def _checkpoint(self, tmp_path: Path, **arguments: Any) -> tuple[str, FaceModel]:
        trained = _build(SMALL, seed=1, **arguments)
        save_file(trained.state_dict(), tmp_path / "best.safetensors")
        return str(tmp_path / "best.safetensors"), trained

    def test_heads_that_fit_are_kept_and_the_others_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file, trained = self._checkpoint(tmp_path, tasks=["age", "gender"])
        with caplog.at_level(logging.INFO, logger="agr_core"):
            model = _build(SMALL | {"weights": file, "weights_heads": "keep"}, age_outputs=8)
        fresh = _build(SMALL, age_outputs=8)
        assert _same(model.heads["gender"], trained.heads["gender"])
        assert _same(model.heads["age"], fresh.heads["age"])
        assert _same(model.heads["race"], fresh.heads["race"])
        assert (
            "taken: backbone, heads.gender; left out of the file: heads.age; random at the start: heads.age, heads.race"
            in caplog.text
        )

    def test_shared_layers_are_kept_with_the_heads_on_them(self, tmp_path: Path) -> None:
        head = {"shared": [6], "shared_batch_norm": True}
        file, trained = self._checkpoint(tmp_path, head=head)
        assert _same(_build(SMALL | {"weights": file, "weights_heads": "keep"}, head=head), trained)

    def test_heads_on_other_shared_layers_are_left(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        file, _ = self._checkpoint(tmp_path, head={"shared": [6]})
        with caplog.at_level(logging.INFO, logger="agr_core"):
            model = _build(
                SMALL | {"weights": file, "weights_heads": "keep"}, head={"shared": [6], "shared_batch_norm": True}
            )
        fresh = _build(SMALL, head={"shared": [6], "shared_batch_norm": True})
        assert _same(model.heads, fresh.heads)
        assert _same(model.shared, fresh.shared)
        assert "left out of the file: heads.age, heads.gender, heads.race, shared;" in caplog.text

    def test_a_pretrained_head_becomes_the_shared_layers(self, tmp_path: Path) -> None:
        file, trained = self._checkpoint(tmp_path, tasks=["race"], head={"hidden": [10]})
        model = _build(
            SMALL | {"weights": file, "weights_heads": "as_shared"},
            tasks=["age", "gender"],
            head={"shared": [10, 5], "shared_dropout": 0.1},
        )
        assert torch.equal(model.shared[0].weight, trained.heads["race"][0].weight)
        assert torch.equal(model.shared[3].weight, trained.heads["race"][2].weight)
        assert torch.equal(model.shared[3].bias, trained.heads["race"][2].bias)

    @pytest.mark.parametrize(
        ("tasks", "shared", "reason"),
        [
            (["race", "age"], [5], "has heads.age, heads.race, and"),
            (["race"], [6], r"has heads.race of shapes \[\(5,\), \(5, 8\)\], and head.shared has the shapes \[\(6,\)"),
            (["race"], [], r"head.shared has the shapes \[\]"),
        ],
    )
    def test_a_head_that_cannot_become_the_shared_layers_is_refused(
        self, tmp_path: Path, tasks: list[str], shared: list[int], reason: str
    ) -> None:
        file, _ = self._checkpoint(tmp_path, tasks=tasks)
        with pytest.raises(ConfigError, match=f"as_shared needs a file with one head .*{reason}"):
            _build(SMALL | {"weights": file, "weights_heads": "as_shared"}, head={"shared": shared})


def test_published_weights_fit_the_part_of_a_backbone_that_is_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, tensors = _file(tmp_path)
    with caplog.at_level(logging.INFO, logger="agr_core"):
        model = _build({"name": "resnet10t", "squeeze_excitation": True, "weights": str(file)})
    assert torch.equal(model.backbone.net.conv1[0].weight, tensors["conv1.0.weight"])
    assert "random at the start: backbone.se, heads.age" in caplog.text


def test_a_checkpoint_of_a_backbone_with_an_added_part_is_loaded_with_it(tmp_path: Path) -> None:
    document = {"name": "resnet10t", "squeeze_excitation": True}
    trained = _build(document, seed=1)
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    model = _build(document | {"weights": str(tmp_path / "best.safetensors")}, seed=2)
    assert _same(model.backbone, trained.backbone)
