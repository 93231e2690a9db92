"""Every model of a sweep is built before anything is started."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from agr_core.models import timm_backbones
from orchestrator.errors import SpecError
from orchestrator.spec.checks import models
from orchestrator.spec.load import Sweep, sweep_from_document


def _sweep(**fields: Any) -> Sweep:
    return sweep_from_document(
        {
            "name": "built",
            "objective": {"metric": "val/age_mae", "direction": "minimize"},
            "search": {"algorithm": "random", "trials": 2},
            **fields,
        }
    )


def test_each_model_is_built_once() -> None:
    space = {
        "model": ["basic_cnn", "resnet10t"],
        "batch_size": {"choice": [8, 16]},
        "optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-2]}},
    }
    assert models.check_models(_sweep(space=space).space, file="f") == 2


def test_every_model_that_cannot_be_trained_is_named_with_what_varies() -> None:
    sweep = _sweep(
        space={"model": ["basic_cnn", "coatnet_nano_cc_224"]},
        variants={"small": {"image": {"size": 48}}, "single": {"batch_size": 1, "head": {"shared_batch_norm": True}}},
    )
    with pytest.raises(SpecError) as found:
        models.check_models(sweep.space, file="file.yaml")
    assert len(found.value.problems) == 3, str(found.value)
    assert "file.yaml: model 'coatnet_nano_cc_224' cannot take image.size=48" in str(found.value)
    assert "(with variant=small, model.name=coatnet_nano_cc_224)" in str(found.value)
    assert "batch_size=1 with a batch norm in model 'basic_cnn'" in str(found.value)


def test_both_ends_of_a_range_are_built() -> None:
    sweep = _sweep(trial={"model": "vgg11"}, space={"image": {"size": {"randint": [16, 64]}}})
    with pytest.raises(SpecError, match=r"image\.size=16"):
        models.check_models(sweep.space, file="f")


def test_no_more_than_so_many_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MOST_MODELS", 1)
    sweep = _sweep(space={"model": ["basic_cnn", "coatnet_nano_cc_224"]}, trial={"image": {"size": 48}})
    assert models.check_models(sweep.space, file="f") == 1


def test_a_mistyped_tag_is_named_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"no weights 'resnet18\.a1_in1kk'\. Did you mean 'resnet18\.a1_in1k'\?"):
        _sweep(trial={"model": "resnet18.a1_in1kk"})


def test_a_lack_of_memory_of_this_machine_is_not_called_the_models_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def needs_much(*_: Any, **__: Any) -> None:
        torch.empty(2**46, device="cpu")

    monkeypatch.setattr(timm_backbones.timm, "create_model", needs_much)
    sweep = _sweep(space={"model": ["resnet18", "basic_cnn", "coatnet_nano_cc_224"]}, trial={"image": {"size": 48}})
    with caplog.at_level(logging.WARNING):
        assert models.check_models(sweep.space, file="f.yaml") == 1, "basic_cnn is built all the same"
    (warning,) = caplog.messages
    assert warning.startswith("f.yaml: this machine has too little memory to try model resnet18, coatnet_nano_cc_224 (")
