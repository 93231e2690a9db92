"""Models that no image, or no batch of one, can be trained on are found without memory."""

from __future__ import annotations

from typing import Any

import pytest
import timm

from agr_core.config import TrialConfig
from agr_core.errors import ModelError
from agr_core.models import build_model
from agr_core.models.probe import check_model


def _config(model: Any, *, size: int = 48, **fields: Any) -> TrialConfig:
    return TrialConfig.from_document({"model": model, "image": {"size": size}, **fields})


@pytest.mark.parametrize(
    "model",
    ["basic_cnn", "resnet18", "levi_hassner", {"name": "cascade", "by": "race", "train": 4}, "vit_tiny_patch16_224"],
)
def test_a_model_that_trains_is_built(model: Any) -> None:
    check_model(_config(model))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("coatnet_nano_cc_224", 48),
        ("sebotnet33ts_256", 48),  # an assertion without a word
        ("inception_resnet_v1", 64),
        ("twins_pcpvt_base", 48),
        ({"name": "resnet18", "fully_connected": False}, 48),
        ({"name": "vit_tiny_patch16_224", "squeeze_excitation": True}, 48),
    ],
)
def test_a_model_that_does_not_is_refused_with_a_reason_as_where_it_is_trained(model: Any, size: int) -> None:
    config = _config(model, size=size)
    with pytest.raises(ModelError, match=r"(: [^\s:.][^.]{10,})|fully_connected") as found:
        check_model(config)
    with pytest.raises(ModelError) as trained:
        build_model(config, age_outputs=7, num_genders=2, num_races=5)
    assert str(found.value).split(": ")[0] == str(trained.value).split(": ")[0]


def test_the_reason_of_a_wordless_assertion_is_the_code_that_made_it() -> None:
    with pytest.raises(ModelError, match=r"AssertionError at `.+` in timm\.") as found:
        check_model(_config("sebotnet33ts_256"))
    assert ": ." not in str(found.value)


def test_one_image_a_batch_is_refused_where_a_batch_norm_sees_one_value() -> None:
    with pytest.raises(ModelError, match=r"batch_size=1 with a batch norm.*set batch_size to 2 or more"):
        check_model(_config("basic_cnn", batch_size=1, head={"hidden": [8], "batch_norm": True}))
    with pytest.raises(ModelError, match="batch_size=1"):
        check_model(_config("resnet18", size=32, batch_size=1))
    check_model(_config("resnet18", size=32, batch_size=2))
    check_model(_config("basic_cnn", batch_size=1))


def test_a_stage_is_built_too() -> None:
    stage = _config("resnet18", size=32, batch_size=1).to_document()
    config = _config({"name": "resnet18", "weights": "init"}, size=32, init={"id": "before", "config": stage})
    with pytest.raises(ModelError, match="batch_size=1"):
        check_model(config)


def test_a_deprecated_name_of_timm_is_the_name_that_timm_takes_instead() -> None:
    assert _config("xception").model.name == "legacy_xception"
    assert _config("tf_efficientnet_b0_ap").model.name == "tf_efficientnet_b0.ap_in1k"
    with pytest.warns(UserWarning, match="deprecated"):
        assert timm.create_model("tf_efficientnet_b0_ap").pretrained_cfg["tag"] == "ap_in1k"


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_a_lack_of_memory_in_a_layer_is_not_a_model_that_does_not_fit(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr("agr_core.models.face_model.nn.Module.__call__", fails)
    with pytest.raises(type(error), match=str(error)[:8]) as raised:
        build_model(_config("basic_cnn"), age_outputs=7, num_genders=2, num_races=5)
    assert not isinstance(raised.value, ModelError)
