"""Settings of sweeps/seeds that a run cannot show to be wrong: against timm, Keras and the reports."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm

from agr_core.config import CascadeConfig, TrialConfig, timm_weights
from agr_core.trainer.images import channel_statistics
from orchestrator.spec.load import load_sweep
from orchestrator.spec.preview import sample

SEEDS = Path(__file__).parents[3] / "sweeps" / "seeds"
MANY = 40
"""More configurations than any of the files below has, but for one that draws at random."""


def configs_of(name: str) -> list[TrialConfig]:
    return [proposal.config for proposal in sample(load_sweep(SEEDS / f"{name}.yaml"), MANY)]


@pytest.mark.parametrize(
    ("name", "count"), [("s0_backbones", 12), ("s0_fairface", 2), ("s0_fusion", 2), ("s0_three_heads", 2)]
)
def test_report_s0s_networks_see_pixels_scaled_as_their_weights_were_trained(name: str, count: int) -> None:
    configs = configs_of(name)
    assert len(configs) == count
    for config in configs:
        base = config.model.base if isinstance(config.model, CascadeConfig) else config.model
        assert config.model.weights == "timm"
        trained = timm.get_pretrained_cfg(timm_weights(base.name) or "")
        assert trained is not None
        mean, std = channel_statistics(config.image)
        assert mean == pytest.approx([255 * value for value in trained.mean]), base.name
        assert std == pytest.approx([255 * value for value in trained.std]), base.name


def test_report_s1s_attributes_are_shares_before_they_feed_age_and_gender() -> None:
    """docs/models.md, S1-M9: the forty outputs of the network trained on CelebA, which are sigmoids."""
    configs = configs_of("s1_resnet34")
    assert len(configs) == 6
    assert {(config.head.shared, config.head.activation) for config in configs} == {((40,), "sigmoid")}


def test_report_s1s_joint_training_keeps_the_best_by_age_by_gender_and_by_both() -> None:
    keep = load_sweep(SEEDS / "s1_multitask.yaml").spec.keep
    assert {label: objective.name for label, objective in keep.items()} == {
        "age": "val/age_loss",
        "gender": "val/gender_loss",
        "both": "val/loss",
    }
    assert {objective.direction for objective in keep.values()} == {"minimize"}


@pytest.mark.parametrize("name", ["s2_multitask", "s3_hyperband", "s3_mixup", "s3_multitask", "s3_transfer"])
def test_the_rmsprop_of_the_keras_reports_is_kerass(name: str) -> None:
    """tf.keras.optimizers.RMSprop: rho=0.9, momentum=0.0, epsilon=1e-07, centered=False; torch's alpha is 0.99."""
    found = [config.optimizer.model_dump(exclude={"lr"}) for config in configs_of(name)]
    found = [optimizer for optimizer in found if optimizer["name"] == "rmsprop"]
    assert found
    for optimizer in found:
        assert optimizer == {
            "name": "rmsprop", "alpha": 0.9, "eps": 1e-7, "momentum": 0.0, "centered": False, "weight_decay": 0.0,
        }  # fmt: skip
