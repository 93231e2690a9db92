from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from agr_core.config import TrialConfig, timm_names
from agr_core.errors import ConfigError
from agr_core.models import build_model, timm_backbones
from agr_core.models.face_model import FaceModel


def _build(model: Any, *, size: int = 32, color: str = "rgb", seed: int = 42) -> FaceModel:
    config = TrialConfig.from_document({"model": model, "image": {"size": size, "color": color}, "seed": seed})
    return build_model(config, age_outputs=7, num_genders=2, num_races=5)


def test_the_shipped_list_of_names_is_current(tmp_path: Path) -> None:
    timm_backbones.write_names(tmp_path / "names.txt")
    shipped = Path(timm_backbones.__file__).with_name("timm_names.txt").read_text(encoding="utf-8")
    assert shipped == (tmp_path / "names.txt").read_text(encoding="utf-8"), (
        "run: python -m agr_core.models.timm_backbones"
    )
    assert timm_names() == frozenset(timm.list_models())


@pytest.mark.parametrize(
    "name", ["resnet10t", "mobilenetv3_small_050", "ghostnet_050", "lcnet_035", "test_vit_relpos", "test_efficientnet"]
)
def test_features_are_those_of_timms_model_without_classifier(name: str) -> None:
    model = _build(name, size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    arguments = {"img_size": 64} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    reference = timm.create_model(name, num_classes=0, **arguments).eval()
    reference.load_state_dict(model.backbone.state_dict())
    with torch.inference_mode():
        features = reference(images)
        assert torch.equal(model.backbone(images), features)
        assert torch.equal(model(images)["age"], model.heads["age"](features))


def test_grey_images_have_one_input_channel() -> None:
    model = _build("resnet10t", color="grey")
    assert model(torch.zeros(2, 1, 32, 32))["gender"].shape == (2, 2)


def test_drop_path_is_passed_on_where_the_backbone_has_it() -> None:
    model = _build({"name": "resnet10t", "drop_path": 0.3})
    rates = [getattr(module, "drop_prob", 0.0) for module in model.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)


def test_drop_path_on_a_backbone_without_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'densenet121' does not take model\.drop_path=0\.1; leave model\.drop_path"):
        _build({"name": "densenet121", "drop_path": 0.1})


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax"])
def test_pooling_is_passed_on(pool: str) -> None:
    maps = torch.randn(2, 512, 4, 4)
    pooled = _build({"name": "resnet10t", "pool": pool}).backbone.global_pool(maps)
    average, largest = maps.mean((2, 3)), maps.amax((2, 3))
    expected = {"avg": average, "max": largest, "avgmax": (average + largest) / 2}[pool]
    torch.testing.assert_close(pooled, expected)


def test_pooling_that_the_backbone_does_not_have_is_refused_with_timms_reason() -> None:
    with pytest.raises(ConfigError, match=r"'pit_ti_224' with .*model\.pool='max'.*Only token pooling"):
        _build({"name": "pit_ti_224", "pool": "max"}, size=64)


def test_a_vision_transformer_is_built_for_the_image_size_asked_for() -> None:
    model = _build("test_vit_relpos", size=64)
    assert model(torch.zeros(1, 3, 64, 64))["race"].shape == (1, 5)


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 48), ("coat_lite_tiny", 16)])
def test_an_image_size_that_the_backbone_cannot_take_is_refused(name: str, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}' cannot take image\.size={size}: .*Choose another size or model"):
        _build(name, size=size)


class TestWeights:
    def _file(self, tmp_path: Path, *, classifier: bool = True, **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
        torch.manual_seed(9)
        model = timm.create_model("resnet10t", num_classes=11 if classifier else 0)
        tensors = dict(model.state_dict()) | changes
        file = tmp_path / "weights.safetensors"
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
        return file, tensors

    def test_a_file_of_timms_model_is_loaded_but_for_its_classifier(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file, tensors = self._file(tmp_path)
        with caplog.at_level(logging.INFO, logger="agr_core"):
            model = _build({"name": "resnet10t", "weights": str(file)})
        for name, tensor in model.backbone.state_dict().items():
            assert torch.equal(tensor, tensors[name])
        assert "left out the classifier: fc.bias, fc.weight" in caplog.text

    def test_a_checkpoint_of_ours_is_loaded_but_for_its_heads(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        trained = _build("resnet10t", seed=1)
        save_file(trained.state_dict(), tmp_path / "best.safetensors")
        with caplog.at_level(logging.INFO, logger="agr_core"):
            model = _build({"name": "resnet10t", "weights": str(tmp_path / "best.safetensors")}, seed=2)
        for name, tensor in model.backbone.state_dict().items():
            assert torch.equal(tensor, trained.backbone.state_dict()[name])
        assert not torch.equal(model.heads["age"][0].weight, trained.heads["age"][0].weight)
        assert "heads.age.0.weight" in caplog.text

    def test_a_missing_weight_is_refused_and_named(self, tmp_path: Path) -> None:
        file, _ = self._file(tmp_path, **{"layer1.0.conv1.weight": None})
        with pytest.raises(ConfigError, match=r"does not fit the model: missing: layer1\.0\.conv1\.weight"):
            _build({"name": "resnet10t", "weights": str(file)})

    def test_an_unexpected_weight_is_refused_and_named(self, tmp_path: Path) -> None:
        file, _ = self._file(tmp_path, extra=torch.zeros(1))
        with pytest.raises(ConfigError, match="does not fit the model: unexpected: extra"):
            _build({"name": "resnet10t", "weights": str(file)})

    def test_weights_for_other_images_are_refused_and_their_shape_named(self, tmp_path: Path) -> None:
        file, _ = self._file(tmp_path)
        with pytest.raises(
            ConfigError, match=r"of another shape: conv1\.0\.weight \(24, 3, 3, 3\) instead of \(24, 1, 3, 3\).*color"
        ):
            _build({"name": "resnet10t", "weights": str(file)}, color="grey")

    def test_weights_of_another_model_are_refused_with_a_short_list(self, tmp_path: Path) -> None:
        file, _ = self._file(tmp_path)
        with pytest.raises(ConfigError, match=r"missing: .* and \d+ more; unexpected: .* and \d+ more") as caught:
            _build({"name": "mobilenetv3_small_050", "weights": str(file)})
        assert len(str(caught.value)) < 2000

    def test_batch_norms_step_counters_may_be_missing(self, tmp_path: Path) -> None:
        _, tensors = self._file(tmp_path)
        file, _ = self._file(tmp_path, **{name: None for name in tensors if name.endswith("num_batches_tracked")})
        model = _build({"name": "resnet10t", "weights": str(file)})
        assert torch.equal(model.backbone.conv1[0].weight, tensors["conv1.0.weight"])

    @pytest.mark.parametrize("content", [b"garbage", b""], ids=["garbage", "empty"])
    def test_a_file_in_another_format_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "weights.safetensors").write_bytes(content)
        with pytest.raises(ConfigError, match="not in the safetensors format"):
            _build({"name": "resnet10t", "weights": str(tmp_path / "weights.safetensors")})

    @pytest.mark.parametrize("weights", ["nowhere.safetensors", "weights.pth", "imagenet"])
    def test_a_file_that_is_not_there_is_refused(self, weights: str) -> None:
        with pytest.raises(ConfigError, match=r"must be none, timm, or an existing \.safetensors file"):
            _build({"name": "resnet10t", "weights": weights})

    def test_weights_that_cannot_be_downloaded_are_one_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        with pytest.raises(ConfigError, match=r"timm's weights of 'resnet10t' cannot be had .*Check the network"):
            _build({"name": "resnet10t", "weights": "timm"})

    def test_weights_of_timm_that_do_not_exist_are_one_clear_error(self) -> None:
        with pytest.raises(ConfigError, match=r"timm's weights of 'cs3darknet_s' cannot be had .*No pretrained"):
            _build({"name": "cs3darknet_s", "weights": "timm"}, size=64)
