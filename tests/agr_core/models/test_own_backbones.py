from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from agr_core.identity import digest
from agr_core.models import build_model
from agr_core.models.levi_hassner import LocalResponseNorm


def _backbone(model: Any, *, size: int, device: str = "meta", **parts: Any) -> nn.Module:
    config = TrialConfig.from_document({"model": model, "image": {"size": size}, **parts})
    with torch.device(device):
        built = build_model(config, age_outputs=7, num_genders=2, num_races=5)
    return built.backbone


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class TestLeviHassner:
    # S1-M2 and S1-M4 give the inputs of the first hidden layer; M1's is in the report's code.
    @pytest.mark.parametrize(
        ("conv_layers", "fc_layers", "inputs"), [(3, 2, 75_264), (2, 2, 802_816), (2, 1, 802_816), (1, 1, 301_056)]
    )
    def test_the_reports_network_and_its_reductions_have_the_reports_sizes(
        self, conv_layers: int, fc_layers: int, inputs: int
    ) -> None:
        model = {"name": "levi_hassner", "conv_layers": conv_layers, "fc_layers": fc_layers}
        backbone = _backbone(model, size=227)
        linear = [module for module in backbone.modules() if isinstance(module, nn.Linear)]
        assert [layer.in_features for layer in linear] == [inputs, 512][:fc_layers]
        convolutions = [96 * (49 * 3 + 1), 256 * (25 * 96 + 1), 384 * (9 * 256 + 1)][:conv_layers]
        hidden = 512 * (inputs + 1) + 512 * 513 * (fc_layers - 1)
        assert _parameters(backbone) == sum(convolutions) + hidden

    def test_the_papers_network_has_the_papers_sizes(self) -> None:
        backbone = _backbone({"name": "levi_hassner", "variant": "paper"}, size=227)
        maps = torch.zeros(1, 3, 227, 227, device="meta")
        sizes = []
        for layer in backbone.convs:
            maps = layer(maps)
            if isinstance(layer, nn.MaxPool2d):
                sizes.append(tuple(maps.shape[1:]))
        assert sizes == [(96, 28, 28), (256, 14, 14), (384, 7, 7)]  # Levi and Hassner 2015, section 3.1

    def test_normalisation_is_that_of_torch(self) -> None:
        maps = torch.randn(2, 9, 4, 5) * 50
        reference = nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75)
        torch.testing.assert_close(LocalResponseNorm()(maps), reference(maps))

    def test_an_image_too_small_for_its_layers_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"'levi_hassner' cannot take image\.size=16"):
            _backbone({"name": "levi_hassner", "variant": "paper"}, size=16, device="cpu")


class TestInceptionResnetV1:
    # Computed from facenet-pytorch 2.6.0, InceptionResnetV1(classify=False).
    PARAMETERS = 23_482_624
    NAMES_AND_SHAPES = "e8df978fa023f876d2847c8b429e79656d120b3fcf1d3f90d4955ecdc7bbf464"

    def test_names_and_shapes_are_those_of_facenet_pytorch(self) -> None:
        backbone = _backbone("inception_resnet_v1", size=160)
        assert _parameters(backbone) == self.PARAMETERS
        shapes = sorted([name, list(tensor.shape)] for name, tensor in backbone.state_dict().items())
        assert digest(shapes) == self.NAMES_AND_SHAPES
        assert backbone(torch.zeros(2, 3, 160, 160, device="meta")).shape == (2, 512)

    def test_weights_with_facenets_classifier_load(self, tmp_path: Any) -> None:
        trained = _backbone("inception_resnet_v1", size=80, device="cpu", seed=1)
        classifier = {"logits.weight": torch.zeros(10, 512), "logits.bias": torch.zeros(10)}
        save_file(dict(trained.state_dict()) | classifier, tmp_path / "casia.safetensors")
        model = {"name": "inception_resnet_v1", "weights": str(tmp_path / "casia.safetensors")}
        loaded = _backbone(model, size=80, device="cpu").state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.state_dict().items())


class TestResidualAttention:
    # Table 2 of Wang et al. 2017 says 31.9 M and 51.3 M with a classifier of 1000; ours are within 3 %.
    @pytest.mark.parametrize(("modules", "published"), [((1, 1, 1), 31.9e6), ((1, 2, 3), 51.3e6)])
    def test_size_is_the_papers(self, modules: tuple[int, int, int], published: float) -> None:
        backbone = _backbone({"name": "residual_attention", "attention_modules": list(modules)}, size=224)
        assert _parameters(backbone) + 2048 * 1000 + 1000 == pytest.approx(published, rel=0.03)

    def test_maps_have_the_papers_sizes(self) -> None:
        backbone = _backbone("residual_attention", size=224)
        maps = backbone.stem(torch.zeros(1, 3, 224, 224, device="meta"))
        assert maps.shape[1:] == (64, 56, 56)
        sizes = []
        for layer in [*backbone.stages, *backbone.last[:3]]:
            maps = layer(maps)
            sizes.append(tuple(maps.shape[1:]))
        stages = [*[(256, 56, 56)] * 2, *[(512, 28, 28)] * 3, *[(1024, 14, 14)] * 4, *[(2048, 7, 7)] * 3]
        assert sizes == stages

    def test_a_mask_of_zeros_leaves_the_trunk(self) -> None:
        backbone = _backbone({"name": "residual_attention", "attention_modules": [1, 1, 1]}, size=32, device="cpu")
        module = backbone.eval().stages[1]
        nn.init.zeros_(module.mask[-2].weight)  # sigmoid(0) is one half
        maps = torch.randn(1, 256, 8, 8)
        with torch.no_grad():
            expected = module.after(1.5 * module.trunk(module.before(maps)))
            torch.testing.assert_close(module(maps), expected)


class TestMobilenetTransformer:
    def test_tokens_are_the_places_of_mobilenets_map(self) -> None:
        backbone = _backbone({"name": "mobilenet_transformer", "depth": 2, "feedforward": 64}, size=96)
        assert backbone.positions.shape == (1, 9, 1024)
        assert backbone(torch.zeros(2, 3, 96, 96, device="meta")).shape == (2, 1024)
        attention = 4 * 1024 * 1024 + 4 * 1024
        feedforward = 2 * 1024 * 64 + 64 + 1024
        norms = 4 * 1024
        mobilenet = 4_253_864 - 1_025_000 - 2 * 10_944  # keras.io, less the classifier and the running statistics
        assert _parameters(backbone) == mobilenet + 9 * 1024 + 2 * (attention + feedforward + norms)

    def test_an_image_whose_side_is_no_multiple_of_32_is_taken(self) -> None:
        assert _backbone("mobilenet_transformer", size=70)(torch.zeros(1, 3, 70, 70, device="meta")).shape == (1, 1024)

    def test_the_place_of_a_token_matters(self) -> None:
        torch.manual_seed(0)
        backbone = _backbone("mobilenet_transformer", size=64, device="cpu").eval()
        nn.init.normal_(backbone.positions)
        backbone.mobilenet = nn.Identity()
        maps = torch.randn(1, 1024, 2, 2)
        assert not torch.allclose(backbone(maps), backbone(maps.flip(3)), atol=1e-3)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ({"name": "levi_hassner", "variant": "paper"}, 64),
        ({"name": "inception_resnet_v1"}, 80),
        ({"name": "residual_attention", "attention_modules": [1, 1, 1]}, 32),
        ({"name": "mobilenet_transformer", "feedforward": 64}, 32),
    ],
)
def test_every_layer_is_trained(model: dict[str, Any], size: int) -> None:
    torch.manual_seed(0)
    backbone = _backbone(model, size=size, device="cpu").train()
    backbone(torch.randn(3, 3, size, size)).square().sum().backward()
    still = [name for name, each in backbone.named_parameters() if each.grad is None or not each.grad.any()]
    assert not still
