"""MixUp: what is mixed with what, the same whenever it is asked, and trainings that learn in spite of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agr_core.batch import Labels
from agr_core.config import MixupConfig, SplitConfig, SyntheticConfig, TrialConfig
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.splits.splits import make_split, write_split
from agr_core.objective import Objective
from agr_core.trainer.loop import Training, train
from agr_core.trainer.mixup import Mix, draw_mix

OBJECTIVE = Objective(metric="val/age_mae", direction="minimize")


def drawn(**place: int) -> Mix:
    where = {"images": 16, "seed": 1, "epoch": 0, "batch": 0} | place
    return draw_mix(MixupConfig(alpha=0.4), **where)  # type: ignore[arg-type]


def test_a_mix_is_a_function_of_seed_epoch_and_batch_alone() -> None:
    first = drawn()
    torch.manual_seed(99)
    assert drawn().share == first.share
    assert torch.equal(drawn().partners, first.partners)
    for other in ({"seed": 2}, {"epoch": 1}, {"batch": 1}):
        assert drawn(**other).share != first.share
        assert not torch.equal(drawn(**other).partners, first.partners)


@pytest.mark.parametrize("images", [1, 2, 17])
def test_every_image_is_a_partner_once_and_the_own_image_dominates(images: int) -> None:
    for batch in range(50):
        mix = drawn(images=images, batch=batch)
        assert sorted(mix.partners.tolist()) == list(range(images))
        assert 0.5 <= mix.share <= 1.0


def test_shares_are_of_the_beta_distribution_folded_at_one_half() -> None:
    shares = torch.tensor(
        [draw_mix(MixupConfig(alpha=2.0), images=1, seed=0, epoch=0, batch=n).share for n in range(2000)]
    )
    # E|x - 1/2| of Beta(2, 2), whose density is 6 x (1 - x), is 3/16.
    assert (shares - 0.5).mean().item() == pytest.approx(3 / 16, abs=0.01)


def test_images_and_labels_are_mixed_with_the_same_partners() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    labels = Labels(age=torch.arange(4.0), age_low=torch.arange(4.0), age_high=torch.arange(4.0),
                    gender=torch.tensor([0, 1, 0, -1]), race=torch.arange(4))  # fmt: skip
    mix = Mix(share=0.75, partners=torch.tensor([2, 3, 1, 0]))
    assert mix.images(images)[:, 0, 0, 0].tolist() == [0.5, 1.5, 1.75, 2.25]
    assert mix.partner_labels(labels).age.tolist() == [2.0, 3.0, 1.0, 0.0]
    assert mix.partner_labels(labels).gender.tolist() == [0, -1, 1, 0]


def test_mixed_images_keep_their_memory_format() -> None:
    images = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    assert drawn(images=4).images(images).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_training_with_mixup_learns_gender_as_training_without_it_does(tmp_path: Path) -> None:
    """Report S3 reached 47 % with RandAugment and MixUp (S3-M12): less than guessing."""
    split = SplitConfig(by=("age", "gender"), fractions=(0.7, 0.3, 0.0))
    pack("synthetic", tmp_path / "packed", synthetic=SyntheticConfig(images=600, size=32, seed=5))
    write_split(make_split(Packed.open(tmp_path / "packed").table, split), tmp_path / "split.parquet")
    reached = {}
    for name, mixup in (("without", None), ("with", {"alpha": 0.4})):
        document = {
            "tasks": ["age", "gender"],
            "data": {"split": split.model_dump(mode="json")},
            "image": {"size": 32},
            "augment": "rand_augment",
            "mixup": mixup,
            "batch_size": 32,
            "model": {"name": "basic_cnn", "conv_layers": 3, "base_features": 8, "hidden": 32, "dropout": 0.0},
            "optimizer": {"name": "adam", "lr": 0.004},
            "schedule": {"name": "cosine", "epochs": 6},
        }
        config = TrialConfig.from_document(document)
        files = {"packed": tmp_path / "packed", "split": tmp_path / "split.parquet", "cache": tmp_path / "cache"}
        training = Training(config, TrialData.open(config, **files), OBJECTIVE)
        train(training, lambda report: None)
        reached[name] = training.reports[-1].metrics["val/gender_acc"]
    assert reached["with"] >= 0.75
    assert reached["with"] >= reached["without"] - 0.1
