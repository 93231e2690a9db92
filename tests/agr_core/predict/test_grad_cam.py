"""Grad-CAM against closed forms and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError, DataError
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary
from agr_core.predict.grad_cam import Heat, heats, heats_png
from agr_core.predict.model import TrainedLabels
from agr_core.trainer.build import build_predictor
from agr_core.trainer.steps import Predictor

VOCABULARY = Vocabulary(genders=GENDERS, races=UTKFACE_RACES)
SIZE = 64
TINY = {"name": "basic_cnn", "conv_layers": 2, "base_features": 2, "hidden": 16}


def predictor_of(model: Any, **more: Any) -> Predictor:
    document = {
        "model": model,
        "image": {"size": SIZE},
        "age": {"encoding": "onehot", "bins": "utk7"},
        "compute": {"threads": 1, "device": "cpu"},
        **more,
    }
    predictor = build_predictor(TrialConfig.from_document(document), TrainedLabels(VOCABULARY), untrained=True)
    predictor.model.eval()
    return predictor


def images(count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def small(values: Any, like: Any) -> Any:
    """Enlarge a map as the picture does, by Pillow's own bilinear interpolation of aligned pixel areas."""
    side = like.shape[0]
    return np.array(Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))


def test_with_average_pooling_and_one_linear_layer_it_is_the_class_activation_map() -> None:
    """Zhou et al. 2016: sum_k w_k A_k with the weights of the class; Selvaraju et al. 2017, section 3.1."""
    predictor = predictor_of({"name": "resnet10t"})
    model: Any = predictor.model

    found = heats(predictor, VOCABULARY, images())

    with torch.no_grad():
        maps = model.backbone.forward_features(predictor.normalize(images()))  # (B, C, 2, 2)
        assert maps.shape[2:] == (2, 2)
        for place, of_face in enumerate(found):
            assert [heat.task for heat in of_face] == ["age", "gender", "race"]
            for heat in of_face:
                last = [layer for layer in model.heads[heat.task].modules() if isinstance(layer, torch.nn.Linear)]
                assert len(last) == 1
                logits = last[0](maps[place].mean(dim=(1, 2)))
                by_class = (last[0].weight[logits.argmax()][:, None, None] * maps[place]).sum(dim=0).relu().numpy()
                expected = by_class / by_class.max() if by_class.max() > 0 else by_class
                assert heat.values == pytest.approx(small(expected, heat.values), abs=1e-4)
    assert any(heat.values.max() > 0 for of_face in found for heat in of_face)


def test_weights_are_mean_derivatives_by_finite_differences() -> None:
    """Of a network with hidden layers behind its maps, in double precision and without autograd."""
    predictor = predictor_of({**TINY, "activation": "tanh"}, tasks=["gender"], seed=2)  # without kinks
    model: Any = predictor.model
    (heat,) = heats(predictor, VOCABULARY, images(1))[0]

    layers = model.backbone.double().layers
    last = max(number for number, layer in enumerate(layers) if isinstance(layer, torch.nn.MaxPool2d))
    with torch.no_grad():
        maps = layers[:last](predictor.normalize(images(1)).double())

        def score(changed: Tensor, chosen: int | None = None) -> Any:
            outputs = model.heads["gender"].double()(model.shared.double()(layers[last:](changed)))[0]
            return int(outputs.argmax()) if chosen is None else float(outputs[chosen])

        chosen, step = score(maps), 1e-6
        weights = np.zeros(maps.shape[1])
        for channel, row, column in np.ndindex(*maps.shape[1:]):
            higher, lower = maps.clone(), maps.clone()
            higher[0, channel, row, column] += step
            lower[0, channel, row, column] -= step
            weights[channel] += (score(higher, chosen) - score(lower, chosen)) / (2 * step)
        weights /= maps.shape[2] * maps.shape[3]
        by_hand = np.maximum(0, np.tensordot(weights, maps[0].numpy(), axes=1))
    assert by_hand.max() > 0
    assert heat.answer == GENDERS[chosen]
    assert heat.values == pytest.approx(small(by_hand / by_hand.max(), heat.values), abs=1e-3)


def test_the_image_is_what_the_model_saw_and_grey_has_three_equal_colours() -> None:
    predictor = predictor_of(TINY, image={"size": SIZE, "color": "grey"})
    grey = images(2)[:, :1]

    found = heats(predictor, VOCABULARY, grey)

    assert found[1][0].image.shape == (SIZE, SIZE, 3)
    assert (found[1][0].image == grey[1, 0].numpy()[:, :, None]).all()


@pytest.mark.parametrize("age", [{"encoding": "regression"}, {"encoding": "ordinal", "bins": "utk7"}])
def test_an_age_without_probabilities_is_explained_by_its_years(age: Any) -> None:
    predictor = predictor_of(TINY, age=age, tasks=["age"])
    with torch.no_grad():
        years = predictor.encoding.years(predictor.logits(predictor.normalize(images()))["age"])

    answers = [of_face[0].answer for of_face in heats(predictor, VOCABULARY, images())]

    assert answers == [f"{value:.0f}" for value in years.tolist()]


def test_the_bins_and_genders_of_one_softmax_are_both_explained() -> None:
    predictor = predictor_of(TINY, age={"encoding": "joint_gender", "bins": "utk7"}, tasks=["age", "gender"])
    found = heats(predictor, VOCABULARY, images())
    assert [heat.task for heat in found[0]] == ["age", "gender"]
    assert found[0][0].answer in predictor.encoding.bins.labels  # type: ignore[union-attr]


def test_networks_without_a_last_feature_map_are_refused() -> None:
    for model in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        with pytest.raises(ConfigError, match="transformers have tokens instead"):
            heats(predictor_of({"name": model}, image={"size": 224}), VOCABULARY, torch.zeros(1, 3, 224, 224))
    cascade = predictor_of({"name": "cascade", "base": TINY})
    with pytest.raises(ConfigError, match="a cascade has one for each group"):
        heats(cascade, VOCABULARY, images())
    counted = predictor_of(TINY, age={"encoding": "ordinal", "bins": "utk7", "decode": "median"})
    with pytest.raises(ConfigError, match="decodes ages by counting thresholds"):
        heats(counted, VOCABULARY, images())


@pytest.mark.parametrize("model", ["convnext_atto", "mobilenetv3_small_050", "densenet121", "vgg11"])
def test_other_convolutional_networks_have_one(model: str) -> None:
    found = heats(predictor_of({"name": model}, tasks=["gender"]), VOCABULARY, images(1))
    assert found[0][0].values.shape == (SIZE, SIZE)
    assert np.isfinite(found[0][0].values).all()


def test_the_picture_has_a_row_for_each_face_and_refuses_to_be_empty() -> None:
    heat = Heat("gender", "female", np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=np.float32))

    def height(faces: int) -> float:
        content = heats_png([("a.png", [heat, heat])] * faces)
        assert content.startswith(b"\x89PNG")
        return int.from_bytes(content[20:24], "big")

    assert height(3) == pytest.approx(3 * height(1), abs=4)
    with pytest.raises(DataError, match="no Grad-CAM to draw"):
        heats_png([("a.png", [])])
