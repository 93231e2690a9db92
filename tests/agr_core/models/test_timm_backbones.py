from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from agr_core.config import TimmConfig, TrialConfig, timm_names, timm_weights
from agr_core.errors import ConfigError
from agr_core.models import build_model, timm_backbones
from agr_core.models.task_model import FaceModel


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


def test_weights_of_timm_have_its_own_names() -> None:
    pretrained = set(timm.list_models(pretrained=True))
    tagless = {name.partition(".")[0] for name in pretrained}
    assert {name for name in timm_names() if timm_weights(name)} == tagless
    assert {timm_weights(name) for name in tagless} <= pretrained
    assert timm_weights("resnet18.fb_swsl_ig1b_ft_in1k") == "resnet18.fb_swsl_ig1b_ft_in1k"


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


def test_global_maxima_have_a_deterministic_backward_pass_on_every_device() -> None:
    for pool in ("max", "avgmax"):
        kinds = {type(module).__name__ for module in _build({"name": "resnet10t", "pool": pool}).modules()}
        assert not {kind for kind in kinds if kind.startswith("Adaptive")}


def _published(name: str, size: int = 224) -> tuple[int, int]:
    """Parameters of the whole network with its classifier of 1000; the same with batch norm's running statistics."""
    with torch.device("meta"):
        model = timm_backbones.build(TimmConfig(name=name), in_channels=3, image_size=size)
        features = model.eval()(torch.zeros(1, 3, size, size)).shape[1]
    parameters = sum(tensor.numel() for tensor in model.parameters()) + features * 1000 + 1000
    statistics = sum(tensor.numel() for key, tensor in model.named_buffers() if "running" in key)
    return parameters, parameters + statistics


# torchvision's documentation counts parameters, keras.io's table also batch norm's running statistics.
@pytest.mark.parametrize(
    ("name", "torchvision"),
    [("resnet34", 21_797_672), ("resnet50", 25_557_032), ("vgg16", 138_357_544), ("vgg19", 143_667_240)],
)
def test_backbones_have_the_parameters_that_torchvision_publishes(name: str, torchvision: int) -> None:
    assert _published(name)[0] == torchvision


@pytest.mark.parametrize(
    ("name", "keras"),
    [
        ("mobilenetv1_100", 4_253_864),
        ("mobilenetv2_100", 3_538_984),
        ("legacy_xception", 22_910_480),
        ("densenet121", 8_062_504),
        ("tf_efficientnetv2_s", 21_612_360),
        ("inception_v3", 23_851_784 + 17_216),  # Keras leaves batch norm's scales out: one a channel of 94 convolutions
    ],
)
def test_backbones_have_the_parameters_that_keras_publishes(name: str, keras: int) -> None:
    assert _published(name)[1] == keras


@pytest.mark.slow
def test_the_large_backbones_have_the_parameters_published() -> None:
    assert _published("resnet152")[0] == 60_192_808
    assert (
        _published("vit_large_patch32_224", size=192)[0] == 306_535_400 - (49 - 36) * 1024
    )  # places of 224 px, 192 px
    assert _published("densenet201")[1] == 20_242_984
    assert _published("tf_efficientnetv2_m")[1] == 54_431_388
    assert _published("tf_efficientnetv2_l")[1] == 119_027_848
    assert _published("inception_resnet_v2")[1] == 55_873_736 + 30_272  # Keras leaves batch norm's scales out
    biases = 64 + (256 + 512 + 1024 + 2048) + (3 * 256 + 8 * 512 + 36 * 1024 + 3 * 2048)
    assert _published("resnetv2_152")[1] == 60_380_648 - biases  # Keras has biases where no batch norm follows at once


def test_vgg_without_its_hidden_layers_gives_the_pooled_feature_map() -> None:
    config = TimmConfig(name="vgg11", fully_connected=False, pool="max")
    with torch.device("meta"):
        model = timm_backbones.build(config, in_channels=3, image_size=224)
    # The eight convolutions of VGG-11 (Simonyan and Zisserman 2015, table 1, column A).
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * given * made + made for given, made in pairwise(channels))
    assert sum(tensor.numel() for tensor in model.parameters()) == convolutions
    assert model(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 512)


def test_hidden_layers_that_the_backbone_does_not_have_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match=r"fully_connected=false, but 'resnet10t' has no hidden fully connected"):
        _build({"name": "resnet10t", "fully_connected": False})


def test_squeeze_and_excitation_weighs_the_channels_of_the_last_feature_map() -> None:
    plain = _build("resnet10t").eval()
    excited = _build({"name": "resnet10t", "squeeze_excitation": True}).eval()
    excited.backbone.net.load_state_dict(plain.backbone.state_dict())
    added = sum(p.numel() for p in excited.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == 512 * 32 + 32 + 32 * 512 + 512  # Hu et al. 2018: a bottleneck of a sixteenth
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = plain.backbone.forward_features(images)
        se = excited.backbone.se
        squeezed = maps.mean((2, 3))
        hidden = torch.relu(squeezed @ se.fc1.weight[:, :, 0, 0].T + se.fc1.bias)
        weights = torch.sigmoid(hidden @ se.fc2.weight[:, :, 0, 0].T + se.fc2.bias)
        expected = (maps * weights[:, :, None, None]).mean((2, 3))
        torch.testing.assert_close(excited.backbone(images), expected)


def test_squeeze_and_excitation_of_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"squeeze_excitation weighs the channels of a map \(B, C, H, W\)"):
        _build({"name": "test_vit_relpos", "squeeze_excitation": True}, size=64)
