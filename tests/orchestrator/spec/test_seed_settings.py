"""Settings of sweeps/seeds that a run cannot show to be wrong: against timm, Keras and the reports."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm

from agr_core.config import CascadeConfig, FreezeConfig, ModelConfig, StepSchedule, TrialConfig, timm_weights
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
    for config in [config.stages[0].config if config.stages else config for config in configs]:
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
    """tf.keras.optimizers.RMSprop: rho=0.9, momentum=0.0, epsilon=1e-07, centered=False; torch's alpha is 0.99.

    Keras' epsilon stands inside the root.
    """
    found = [config.optimizer.model_dump(exclude={"lr"}) for config in configs_of(name)]
    found = [optimizer for optimizer in found if optimizer["name"] == "rmsprop"]
    assert found
    for optimizer in found:
        assert optimizer == {
            "name": "rmsprop", "alpha": 0.9, "eps": 1e-7, "momentum": 0.0, "centered": False, "weight_decay": 0.0,
            "eps_inside_root": True,
        }  # fmt: skip


def variants_of(name: str) -> dict[str, TrialConfig]:
    """The configuration of each variant, where nothing else varies."""
    space = load_sweep(SEEDS / f"{name}.yaml").space
    return {label: space.build(lambda _, domain, label=label: label).config for label in space.variants}


def header_of(name: str) -> str:
    lines = (SEEDS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


@pytest.mark.parametrize("name", ["s0_three_heads", "s0_fairface", "s0_fusion", "s0_backbones"])
def test_report_s0_augments_and_reads_classes_off_by_argmax(name: str) -> None:
    for config in configs_of(name):
        assert config.augment.name == "light"
        assert config.age.model_dump()["decode"] == "argmax"


def test_report_s0s_rates_fall_at_the_quarters_of_its_epochs() -> None:
    for name in ("s0_three_heads", "s0_fairface", "s0_fusion", "s0_backbones"):
        schedule = configs_of(name)[0].schedule
        assert isinstance(schedule, StepSchedule)
        assert (schedule.epochs, schedule.falls, schedule.gamma) == (30, (8, 15, 23), 0.2)


def test_report_s0s_fusion_is_three_trainings_each_with_its_own_stop_and_best_epoch() -> None:
    fusion = variants_of("s0_fusion")["fusion"]
    trainings = [*(stage.config for stage in fusion.stages), fusion]
    assert [config.model.model_dump()["train"] for config in trainings] == ["router", 0, 1]
    assert [stage.objective.metric for stage in fusion.stages] == ["val/gender_loss", "val/loss"]
    watched = [config.early_stopping.metric for config in trainings if config.early_stopping is not None]
    assert watched == ["val/gender_loss", "val/loss", "val/loss"]
    assert [config.sampler.name for config in trainings] == ["shuffle", "oversample", "oversample"]
    assert load_sweep(SEEDS / "s0_fusion.yaml").spec.objectives[0].metric == "val/loss"
    assert fusion.evaluate.train


@pytest.mark.parametrize("name", ["s1_caffe", "s1_celeba_transfer"])
def test_report_s1s_caffe_models_keep_the_epoch_of_the_lowest_validation_loss(name: str) -> None:
    objective = load_sweep(SEEDS / f"{name}.yaml").spec.objectives[0]
    assert (objective.metric, objective.direction) == ("val/loss", "minimize")


def test_report_s1s_transfer_gets_a_new_head_and_its_pre_training_is_tested() -> None:
    celeba_first = variants_of("s1_celeba_transfer")["celeba_first"]
    assert celeba_first.model.weights_heads == "drop"
    (celeba,) = celeba_first.stages
    assert celeba.config.evaluate.test
    assert celeba.config.data.split.partitions is None  # Adience's folds are none of CelebA's partitions


def test_report_s1s_models_choose_one_group_and_weigh_it_as_its_code_does() -> None:
    configs = variants_of("s1_multitask")
    ages = {label: config.age.model_dump() for label, config in configs.items()}
    assert [age["decode"] for age in ages.values()] == ["argmax", "argmax", "median"]
    assert ages["model6_sixteen_classes"]["split"] == "joint"
    assert ages["model8_younger_than"]["weigh_evaluation"]
    assert [config.optimizer.weight_decay for config in configs.values()] == [0.0, 1e-4, 1e-4]
    frozen = variants_of("s1_resnet34")
    assert {config.age.model_dump()["decode"] for config in frozen.values()} == {"argmax", "median"}


def test_report_s1s_last_ten_keras_layers_are_four_with_parameters() -> None:
    """The last block's two convolutions and norms: conv, norm, relu, conv, norm, sum, relu, pool, and two before it."""
    configs = variants_of("s1_resnet34")
    rules = {label: config.model.freeze for label, config in configs.items()}
    assert [rules[f"model{number}"] for number in (9, 10, 11, 12)] == [FreezeConfig(all_but_last=4)] * 4
    assert [rules[f"model{number}"] for number in (13, 14)] == ["none", "none"]


def test_report_s1s_block_is_added_after_a_pre_training_that_four_models_share() -> None:
    configs = variants_of("s1_resnet34")
    with_stage = {label: config for label, config in configs.items() if config.stages}
    assert list(with_stage) == ["model9", "model10", "model11", "model12"]
    keys = {
        config.stages[0].key(data_digest="0" * 64, split_digest="0" * 64, weights_sha256=None)
        for config in with_stage.values()
    }
    assert len(keys) == 1
    excited = {label: config.model.model_dump()["squeeze_excitation"] for label, config in configs.items()}
    assert [label for label, has in excited.items() if has] == ["model10", "model12", "model14"]


def test_report_s1s_model_9_trains_all_its_epochs_and_the_others_stop_early() -> None:
    stops = {label: config.early_stopping for label, config in variants_of("s1_resnet34").items()}
    assert stops.pop("model9") is None
    assert {stop.patience for stop in stops.values() if stop is not None} == {5}
    assert None not in stops.values()


def test_report_s1s_gender_counts_less_once_it_is_good() -> None:
    configs = variants_of("s1_resnet34")
    reached = [{"val/gender_acc": 0.79}], [{"val/gender_acc": 0.79}, {"val/gender_acc": 0.8}, {"val/gender_acc": 0.7}]
    for number, factors in ((11, (4, 0.9)), (12, (2, 0.5)), (13, (4, 0.9)), (14, (2, 0.5))):
        loss = configs[f"model{number}"].loss
        assert tuple(loss.weights_in(4, before).gender for before in reached) == factors


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("s1_caffe", "gender"), ("s1_celeba_transfer", "gender"), ("s1_multitask", "gender"), ("s1_resnet34", "gender"),
        ("s3_hyperband", "gender"), ("s3_mixup", "gender"), ("s3_multitask", "gender"), ("s3_transfer", "gender"),
    ],
)  # fmt: skip
def test_adience_is_packed_without_faces_of_unknown_gender(name: str, labels: str) -> None:
    header = header_of(name)
    assert f"agr data pack adience/ {'--crop ' if name == 's1_resnet34' else ''}--require {labels}" in header
    assert "17,492 faces" in header


def test_report_s3s_mixup_is_also_evaluated_on_changed_images() -> None:
    assert all(config.evaluate.augment for config in variants_of("s3_mixup").values())


@pytest.mark.parametrize(
    "name",
    ["s4_agecnn_age", "s4_agecnn_gender", "s4_agecnn_ethnicity", "s4_bins", "s4_components", "s4_variants"],
)
def test_report_s4_trains_on_four_fifths_and_watches_the_rest(name: str) -> None:
    for config in configs_of(name):
        assert config.data.split.fractions == (0.8, 0.2, 0.0)
        assert config.data.split.by == ("age",)


def test_report_s4s_variants_keep_the_epoch_of_the_best_f1() -> None:
    spec = load_sweep(SEEDS / "s4_variants.yaml").spec
    assert (spec.keep["f1"].metric, spec.keep["f1"].direction) == ("val/age_f1", "maximize")
    for config in variants_of("s4_variants").values():
        stopping = config.early_stopping
        assert stopping is not None
        assert (stopping.metric, stopping.direction) == ("val/age_f1", "maximize")
        assert (stopping.patience, stopping.min_delta) == (10, 5e-4)


@pytest.mark.parametrize("task", ["age", "gender", "ethnicity"])
def test_report_s4s_final_models_wait_ten_epochs(task: str) -> None:
    (config,) = configs_of(f"s4_agecnn_{task}")
    assert config.early_stopping is not None
    assert config.early_stopping.patience == 10


def test_report_s4s_networks_have_a_batch_norm_on_the_image_and_dropout_from_v11_on() -> None:
    networks = {label: backbone_of(config) for label, config in variants_of("s4_variants").items()}
    networks |= {name: backbone_of(config) for name in ("s4_agecnn_age", "s4_bins") for config in configs_of(name)}
    cnns = {label: each.model_dump() for label, each in networks.items() if each.name == "basic_cnn"}
    assert len(cnns) == 17
    assert all(cnn["input_batch_norm"] for cnn in cnns.values())
    assert {cnn["block_dropout"] for cnn in cnns.values()} == {0.0}
    assert {cnn["input_dropout"] for cnn in cnns.values()} == {0.0}
    without = {label for label, cnn in cnns.items() if cnn["dropout"] == 0.0}
    assert without == {label for label in cnns if label.startswith("v") and int(label[1:3]) < 11}
    assert {cnn["dropout"] for label, cnn in cnns.items() if label not in without} == {0.6}


def backbone_of(config: TrialConfig) -> ModelConfig:
    return config.model.base if isinstance(config.model, CascadeConfig) else config.model


def test_report_s4s_experts_start_from_everybodys_ages_and_train_on_predicted_groups() -> None:
    configs = variants_of("s4_variants")
    keys = set()
    for label, by in (("v15_gender_hierarchy", "gender"), ("v16_ethnicity_hierarchy", "race")):
        config = configs[label]
        assert config.model.model_dump()["trained_on"] == "predicted"
        assert (config.model.model_dump()["by"], config.model.weights) == (by, "init")
        (everybody,) = config.stages
        assert everybody.config.tasks == ("age",)
        assert everybody.config.model == configs["v13_nadam"].model
        assert everybody.objective.metric == "val/age_f1"
        keys.add(everybody.key(data_digest="0" * 64, split_digest="0" * 64, weights_sha256=None))
    assert len(keys) == 1


def test_report_s4s_facenet_is_frozen_and_sees_grey() -> None:
    facenet = variants_of("s4_variants")["v17_facenet"]
    assert (facenet.model.freeze, facenet.image.color) == ("backbone", "grey")
    grey = {label: config.image.color for label, config in variants_of("s4_variants").items()}
    assert {label for label, color in grey.items() if color == "grey"} == {label for label in grey if label >= "v10"}


def test_report_s4s_bins_have_the_31_groups_it_designed_its_seven_from() -> None:
    assert any(config.age.model_dump()["bins"] == "utk31" for config in configs_of("s4_bins"))


def test_report_s4s_command_line_varies_pre_training_freezing_and_the_share_of_the_data() -> None:
    space = load_sweep(SEEDS / "s4_components.yaml").space
    varied = {".".join(path) for path in space.varied_paths()}
    assert {"data.fraction", "model.weights", "model.freeze"} <= varied
    header = header_of("s4_components")
    for flag in [
        "nw",
        "bs",
        "ep",
        "ws",
        "uc",
        "wl",
        "ut",
        "ug",
        "un",
        "ls",
        "lr",
        "dr",
        "mi",
        "cp",
        "sw",
        "us",
        "uo",
        "gp",
        "pt",
        "up",
        "fl",
        "mf",
        "ip",
        "id",
        "cs",
    ]:
        assert f"-{flag}" in header, flag
