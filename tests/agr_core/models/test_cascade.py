from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from agr_core.batch import Labels
from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from agr_core.models import build_model
from agr_core.models.cascade import Cascade

BASE: dict[str, Any] = {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8, "dropout": 0.0}


def _build(*, num_races: int = 5, **document: Any) -> Any:
    model = {"name": "cascade", "base": BASE} | document.pop("model", {})
    config = TrialConfig.from_document({"image": {"size": 16}, "model": model, **document})
    return build_model(config, age_outputs=7, num_genders=2, num_races=num_races)


def _labels(genders: list[int]) -> Labels:
    age = torch.arange(float(len(genders)))
    return Labels(age, age, age, torch.tensor(genders), torch.zeros(len(genders), dtype=torch.int64))


IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
GENDERS = torch.tensor([1, 0, 0, 1, 0, 1])


def test_there_is_a_router_and_an_expert_for_each_group_with_nothing_in_common() -> None:
    cascade = _build(model={"by": "race"}, tasks=["race", "age", "gender"])
    assert isinstance(cascade, Cascade)
    assert (list(cascade.router.heads), len(cascade.experts)) == (["race"], 5)
    assert [list(expert.heads) for expert in cascade.experts] == [["age", "gender"]] * 5
    parameters = [id(each) for network in (cascade.router, *cascade.experts) for each in network.parameters()]
    assert len(parameters) == len(set(parameters)) == len(list(cascade.parameters()))
    first = [network.backbone.layers[0].weight for network in (cascade.router, *cascade.experts)]
    assert not any(torch.equal(one, other) for place, one in enumerate(first) for other in first[:place])


def test_each_image_is_predicted_by_the_expert_of_its_predicted_group() -> None:
    cascade = _build().eval()
    with torch.no_grad():
        last = cascade.router.heads["gender"][-1]
        last.bias -= cascade.router(IMAGES)["gender"].median(dim=0).values  # some images to each expert
        logits = cascade(IMAGES)
        predicted = cascade.router(IMAGES)["gender"].argmax(dim=1)
        assert 0 < predicted.sum() < 6, "both experts are asked"
        for row in range(6):
            alone = cascade.experts[int(predicted[row])](IMAGES[row : row + 1])
            for task in ("age", "race"):
                torch.testing.assert_close(logits[task][row], alone[task][0])
        torch.testing.assert_close(logits["gender"], cascade.router(IMAGES)["gender"])


def test_in_training_an_expert_sees_the_images_of_its_true_group_alone() -> None:
    cascade = _build().train()
    seen: list[torch.Tensor] = []
    for expert in cascade.experts:
        expert.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = cascade(IMAGES, GENDERS)
    assert torch.equal(seen[0], IMAGES[GENDERS == 0])
    assert torch.equal(seen[1], IMAGES[GENDERS == 1])
    logits["age"][GENDERS == 0].sum().backward()
    assert all(each.grad is not None for each in cascade.experts[0].heads["age"].parameters())
    assert not any(each.grad is not None and each.grad.any() for each in cascade.experts[1].parameters())
    assert not any(each.grad is not None for each in cascade.router.parameters())


def test_an_image_of_no_known_group_trains_the_router_alone() -> None:
    cascade = _build().train()
    labels = _labels([1, -1, 0, 1, 0, -1])
    left = cascade.trained_labels(labels)
    assert torch.isnan(left.age).tolist() == [False, True, False, False, False, True]
    assert left.race.tolist() == [0, -1, 0, 0, 0, -1]
    assert left.gender.tolist() == labels.gender.tolist()
    logits = cascade(IMAGES, cascade.true_groups(labels))
    assert not logits["age"][[1, 5]].any()
    assert logits["age"][[0, 2, 3, 4]].any(dim=1).all()
    nobody = cascade(IMAGES, torch.full((6,), -1))
    assert (nobody["age"].shape, nobody["race"].shape) == ((6, 7), (6, 5))


def test_a_group_of_one_image_is_trained_with_the_statistics_there_are() -> None:
    cascade = _build(head={"hidden": [4], "batch_norm": True}).train()
    groups = torch.tensor([1, 0, 0, 0, 0, 0])
    expert = cascade.experts[1]
    before = {name: tensor.clone() for name, tensor in expert.named_buffers()}
    cascade(IMAGES, groups)["age"].sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in expert.named_buffers())
    assert all(module.training for module in expert.modules())
    assert expert.backbone.layers[0].weight.grad.any()


def test_rerouting_asks_the_experts_of_the_true_groups() -> None:
    cascade = _build().eval()
    with torch.no_grad():
        logits = cascade(IMAGES)
        assert logits["gender"].argmax(dim=1).unique().numel() == 1, "some of the images go to the wrong expert"
        truth = torch.tensor([0, 1, 0, 1, 0, -1])
        again = cascade.rerouted(IMAGES, logits, truth)
        expected = cascade(IMAGES, truth)
    torch.testing.assert_close(again["age"][:5], expected["age"][:5])
    assert torch.equal(again["age"][5], logits["age"][5])
    assert torch.equal(again["gender"], logits["gender"])


def test_frozen_layers_and_dropout_are_those_of_every_network() -> None:
    cascade = _build(model={"freeze": {"first": 2}})
    for network in (cascade.router, *cascade.experts):
        frozen = {name for name, each in network.named_parameters() if not each.requires_grad}
        assert {name.rpartition(".")[0] for name in frozen} == {"backbone.layers.0", "backbone.layers.2"}


class TestWeights:
    def test_every_network_starts_from_the_file_of_a_single_model(self, tmp_path: Any) -> None:
        config = TrialConfig.from_document({"image": {"size": 16}, "model": BASE})
        single = build_model(config, age_outputs=7, num_genders=2, num_races=5)
        save_file(single.state_dict(), tmp_path / "single.safetensors")
        weights = {"weights": str(tmp_path / "single.safetensors"), "weights_heads": "keep"}
        cascade = _build(model=weights)
        for network in (cascade.router, *cascade.experts):
            for name, tensor in network.state_dict().items():
                assert torch.equal(tensor, single.state_dict()[name])

    def test_the_file_of_a_cascade_is_taken_apart(self, tmp_path: Any) -> None:
        trained = _build(seed=7)
        save_file(trained.state_dict(), tmp_path / "cascade.safetensors")
        model = {"weights": str(tmp_path / "cascade.safetensors"), "weights_heads": "keep"}
        again = _build(model=model).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in trained.state_dict().items())
        with pytest.raises(ConfigError, match=r"without experts\.2: its groups are not those of the data set"):
            _build(model={**model, "by": "race"}, tasks=["age", "race"])
        document = {"image": {"size": 16}, "model": {**BASE, "weights": model["weights"]}}
        with pytest.raises(ConfigError, match=r"is of a cascade; it fits only model\.name=cascade"):
            build_model(TrialConfig.from_document(document), age_outputs=7, num_genders=2, num_races=5)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"tasks": ["age", "race"]}, "cascade by gender needs a head for gender"),
        ({"tasks": ["gender"]}, "another task for its experts"),
        ({"age": {"encoding": "joint_gender"}}, "age.encoding=joint_gender has heads for"),
        ({"loss": {"weights": {"gender": 0.0}}}, "would leave the router of model=cascade by gender untrained"),
        ({"mixup": {"alpha": 0.2}}, "mixup mixes images of several groups"),
        ({"model": {"base": {**BASE, "weights": "x.safetensors"}}}, "give it as model.weights"),
        ({"model": {"base": {**BASE, "freeze": "backbone"}}}, "give it as model.freeze"),
        ({"model": {"base": "cascade"}}, "consists of plain models"),
        ({"model": {"base": {**BASE, "conv_layers": 5}}}, "image.size=16 is too small for model.conv_layers=5"),
        ({"model": {"weights": "timm"}}, "timm has no weights of this model"),
    ],
)
def test_what_cannot_be_a_cascade_is_refused(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace(".", r"\.")):
        _build(**document)


def test_a_base_is_any_model_by_its_bare_name() -> None:
    model = {"name": "cascade", "base": "resnet10t", "weights": "timm"}
    config = TrialConfig.from_document({"image": {"size": 32}, "model": model})
    assert config.model.timm_name == "resnet10t"
    cascade = build_model(config, age_outputs=7, num_genders=2, num_races=5, untrained=True)
    assert isinstance(cascade.backbones[2], nn.Module)
    assert math.isfinite(cascade(torch.randn(3, 3, 32, 32))["age"].sum().item())


class TestOneNetworkAtATime:
    def test_the_network_named_is_trained_and_the_others_stay(self) -> None:
        for train, trained in (("router", "router."), (1, "experts.1.")):
            cascade = _build(model={"train": train}).train()
            labels = cascade.trained_labels(_labels([0, 1, 1, 0, 1, 0]))
            logits = cascade(IMAGES, cascade.training_groups(_labels([0, 1, 1, 0, 1, 0])))
            sum(each.square().sum() for each in logits.values()).backward()
            moved = {name for name, each in cascade.named_parameters() if each.grad is not None}
            assert moved
            assert all(name.startswith(trained) for name in moved)
            assert not cascade.experts[0].backbone.training
            known = ~torch.isnan(labels.age)
            if train == "router":
                assert not known.any()
                assert labels.gender.tolist() == [0, 1, 1, 0, 1, 0]
            else:
                assert known.tolist() == [False, True, True, False, True, False]
                assert labels.gender.tolist() == [-1] * 6

    def test_a_batch_without_an_image_of_the_trained_expert_has_a_gradient_of_zero(self) -> None:
        cascade = _build(model={"train": 1}).train()
        logits = cascade(IMAGES, torch.zeros(6, dtype=torch.int64))
        sum(each.sum() for each in logits.values()).backward()
        gradients = [each.grad for each in cascade.experts[1].parameters() if each.grad is not None]
        assert gradients
        assert all(not gradient.any() for gradient in gradients)

    def test_an_expert_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"model\.train=2, but there are 2 experts by gender, counted from 0"):
            _build(model={"train": 2})


def test_experts_can_be_trained_on_the_groups_that_the_router_predicts() -> None:
    cascade = _build(model={"trained_on": "predicted"}).train()
    labels = _labels([0, 1, -1, 0, 1, 0])
    assert cascade.training_groups(labels) is None
    assert torch.equal(cascade.trained_labels(labels).age, labels.age), "no image is lost for its group"
    assert torch.equal(cascade.true_groups(labels), labels.gender)
