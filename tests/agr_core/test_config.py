"""TrialConfig: what it refuses and in which words, what a bare word stands for, and digests that must never change."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import agr_core.config
from agr_core.config import AdamConfig, StageConfig, TrialConfig, timm_names
from agr_core.identity import digest

DATA_DIGEST, SPLIT_DIGEST = "d" * 64, "5" * 64

CUSTOM: dict[str, Any] = {
    "seed": 7,
    "data": {"source": "s3://bucket/utkface", "fraction": 0.5},
    "batch_size": 64,  # the default, written out
    "model": {"name": "basic_cnn", "conv_layers": 4},  # likewise
    "age": {"encoding": "ordinal", "bins": [0, 13, 20, 60]},
    "optimizer": {"name": "nadam", "lr": 0.0002, "betas": [0.9, 0.99]},
    "schedule": {"name": "cosine", "epochs": 6},
}
CUSTOM_CANONICAL = (
    '{"age":{"bins":[0,13,20,60],"encoding":"ordinal"},'
    f'"data":{{"data_digest":"{DATA_DIGEST}","fraction":0.5,"split_digest":"{SPLIT_DIGEST}"}},'
    '"optimizer":{"betas":[0.9,0.99],"lr":0.0002,"name":"nadam"},'
    '"schedule":{"epochs":6,"name":"cosine"},"schema_version":1,"seed":7}'
)


def config_of(document: dict[str, Any]) -> TrialConfig:
    return TrialConfig.from_document(document)


def digest_of(document: dict[str, Any], *, data: str = DATA_DIGEST, split: str = SPLIT_DIGEST) -> str:
    return config_of(document).digest(data_digest=data, split_digest=split)


def refusals(document: dict[str, Any]) -> dict[str, str]:
    """Every problem by its path."""
    with pytest.raises(ValidationError) as caught:
        config_of(document)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


# Digests: they name what is stored, so that a change here orphans every earlier trial --------------------------------


def test_digests_of_known_configurations_stay_what_they_are() -> None:
    assert digest_of({}) == "f183b8716c936be898c22024bd5752cf2f25e50371fc663678ec129a0dc6031e"
    assert digest_of(CUSTOM) == "ac97a8c3b965e149121e7fee1e6282fcf26fa558e63a03c810ef063afefdc97b"


def test_a_digest_covers_the_settings_that_are_not_defaults_and_nothing_else() -> None:
    assert digest_of(CUSTOM) == hashlib.sha256(CUSTOM_CANONICAL.encode()).hexdigest()


def test_defaults_written_out_do_not_change_the_digest() -> None:
    assert digest_of(config_of({}).to_document()) == digest_of({})
    assert digest_of(config_of(CUSTOM).to_document()) == digest_of(CUSTOM)


def test_a_field_added_with_a_default_leaves_older_digests_as_they_were() -> None:
    class Later(TrialConfig):
        label_noise: float = 0.0

    older, later = config_of(CUSTOM), Later.from_document(CUSTOM)
    digests = {"data_digest": DATA_DIGEST, "split_digest": SPLIT_DIGEST}
    assert later.digest(**digests) == older.digest(**digests)
    assert Later.from_document(CUSTOM | {"label_noise": 0.1}).digest(**digests) != older.digest(**digests)


def test_moved_data_is_the_same_trial_and_other_data_is_not() -> None:
    moved = CUSTOM | {"data": {"source": "/elsewhere/utkface.tar", "fraction": 0.5}}
    assert digest_of(moved) == digest_of(CUSTOM)
    assert digest_of(CUSTOM | {"data": {"fraction": 0.4}}) != digest_of(CUSTOM)
    assert digest_of(CUSTOM, data="e" * 64) != digest_of(CUSTOM)
    assert digest_of(CUSTOM, split="6" * 64) != digest_of(CUSTOM)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"tasks": ["age", "gender"]},
        {"tasks": ["race", "gender", "age"]},
        {"compute": {"threads": 2}},
        {"image": {"size": 48}},
        {"early_stopping": {}},
        {"sampler": {"name": "weighted"}},
        {"age": {"encoding": "onehot"}},
        {"optimizer": {"name": "adam", "lr": 0.0002}},
    ],
    ids=json.dumps,
)
def test_whatever_changes_the_result_changes_the_digest(change: dict[str, Any]) -> None:
    assert digest_of(CUSTOM | change) != digest_of(CUSTOM)


def test_the_digest_is_that_of_canonical_json() -> None:
    assert digest_of(CUSTOM) == digest(json.loads(CUSTOM_CANONICAL))


# Reading and writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("model", "basic_cnn"),
        ("model", "resnet10t"),
        ("optimizer", "adadelta"),
        ("schedule", "one_cycle"),
        ("sampler", "weighted"),
        ("augment", "agecnn"),
    ],
)
def test_a_bare_word_stands_for_a_mapping_with_that_name(path: str, word: str) -> None:
    assert config_of({path: word}) == config_of({path: {"name": word}})


@pytest.mark.parametrize(
    "document",
    [
        {},
        CUSTOM,
        {"schedule": {"name": "step", "epochs": 9, "milestones": [3, 6]}},
        {"head": {"hidden": [128, 64]}, "tasks": ["gender"]},
        {"sampler": {"name": "weighted", "bins": [0, 18]}},
        {"data": {"split": {"by": ["age", "race"], "fractions": [0.6, 0.2, 0.2]}}},
    ],
    ids=json.dumps,
)
def test_a_written_configuration_reads_back_as_itself(document: dict[str, Any]) -> None:
    config = config_of(document)
    written = json.loads(json.dumps(config.to_document()))
    assert config_of(written) == config


def test_a_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config_of({}).seed = 1  # type: ignore[misc]


def test_optimizers_keep_their_own_defaults() -> None:
    assert config_of({"optimizer": "adadelta"}).optimizer.lr == 1.0
    assert config_of({"optimizer": "adamax"}).optimizer.lr == 0.002
    assert config_of({"optimizer": "adamw"}).optimizer.weight_decay == 0.01
    assert config_of({}).optimizer == AdamConfig(name="adam", lr=1e-3, betas=(0.9, 0.999))


def models_of(module: Any) -> Iterator[type[BaseModel]]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__.startswith(module.__name__):
            yield value


def test_every_field_says_what_it_is() -> None:
    silent = [
        f"{model.__name__}.{name}"
        for model in models_of(agr_core.config)
        for name, field in model.model_fields.items()
        if not field.description and name not in ("name", "encoding")  # these choose the model that is described
    ]
    assert silent == []


def test_every_configuration_says_what_it_is() -> None:
    assert [
        model.__name__ for model in models_of(agr_core.config) if not model.__doc__ and model.__name__[0] != "_"
    ] == []


def test_checking_a_configuration_imports_neither_torch_nor_timm_nor_ray() -> None:
    heavy = "{'torch', 'timm', 'ray', 'pandas'}"
    code = (
        "import sys; from agr_core.config import TrialConfig; TrialConfig.from_document({'model': 'resnet18'}); "
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_timm_names_are_shipped() -> None:
    assert {"resnet18", "resnet10t", "efficientnetv2_s"} <= timm_names()
    assert "basic_cnn" not in timm_names()


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({"bach_size": 64}, "bach_size", "Extra inputs are not permitted"),
        ({"optimizer": {"name": "adam", "momentum": 0.9}}, "optimizer.adam.momentum", "Extra inputs"),
        ({"age": {"encoding": "regression", "bins": "utk7"}}, "age.regression.bins", "Extra inputs"),
        ({"batch_size": "64"}, "batch_size", "valid integer"),
        ({"batch_size": 64.0}, "batch_size", "valid integer"),
        ({"batch_size": True}, "batch_size", "valid integer"),
        ({"batch_size": 0}, "batch_size", "greater than or equal to 1"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**63}, "seed", "less than 9223372036854775808"),
        ({"schema_version": 2}, "schema_version", "should be 1"),
        ({"image": {"color": "gray"}}, "image.color", "'rgb' or 'grey'"),
        ({"optimizer": {"name": "adam", "lr": math.nan}}, "optimizer.adam.lr", "finite number"),
        ({"optimizer": {"name": "adam", "lr": math.inf}}, "optimizer.adam.lr", "finite number"),
        ({"optimizer": {"name": "adam", "lr": 0}}, "optimizer.adam.lr", "greater than 0"),
        ({"optimizer": {"name": "adam", "lr": "1e-3"}}, "optimizer.adam.lr", "valid number"),
        ({"optimizer": {"name": "adam", "betas": [0.9, 1.0]}}, "optimizer.adam.betas.1", "less than 1"),
        ({"optimizer": "adamm"}, "optimizer", "'adamm' found using 'name' does not match any of the expected tags"),
        ({"optimizer": {"lr": 0.1}}, "optimizer", "Unable to extract tag using discriminator 'name'"),
        ({"optimizer": ["adam"]}, "optimizer", "should be an object"),
        ({"age": {"encoding": "one_hot"}}, "age", "does not match any of the expected tags: 'regression', 'onehot'"),
        ({"model": None}, "model.timm", "should be an object"),
        ({"loss": {"label_smoothing": 1.0}}, "loss.label_smoothing", "less than 1"),
        ({"data": {"source": ""}}, "data.source", "at least 1 character"),
        ({"data": {"fraction": 0}}, "data.fraction", "greater than 0"),
        ({"tasks": []}, "tasks", "at least 1 item"),
        ({"tasks": ["height"]}, "tasks.0", "'age', 'gender', 'race' or 'attributes'"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_the_schema_is_refused_at_its_path(document: dict[str, Any], path: str, words: str) -> None:
    found = refusals(document)
    assert path in found
    assert words in found[path]


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({"tasks": ["age", "age"]}, "tasks", "tasks=['age', 'age'] names a task twice."),
        (
            {"tasks": ["age"], "loss": {"weights": {"age": 0}}},
            "",
            "loss.weights are 0 for every task of ['age']; give one a weight above 0.",
        ),
        (
            {"model": {"name": "basic_cnn", "conv_layers": 5}, "image": {"size": 16}},
            "",
            "image.size=16 is too small for model.conv_layers=5: each layer halves the image.",
        ),
        (
            {"model": "resnet81"},
            "model.timm.name",
            "unknown model 'resnet81'. Did you mean 'resnet18'? Known: basic_cnn, ",
        ),
        ({"model": "basiccnn"}, "model.timm.name", "unknown model 'basiccnn'. Did you mean 'basic_cnn'?"),
        (
            {"model": {"name": "basic_cnn", "kernel_size": 4}},
            "model.basic_cnn.kernel_size",
            "kernel_size=4 is even; it must be odd",
        ),
        (
            {"age": {"encoding": "onehot", "bins": "utk8"}},
            "age.onehot.bins",
            "unknown bins 'utk8'. Did you mean 'utk7'?",
        ),
        (
            {"age": {"encoding": "ordinal", "bins": [13, 20]}},
            "age.ordinal.bins",
            "bins [13, 20] must list the lowest age of each of at least two bins, ascending from 0 to at most 116.",
        ),
        ({"sampler": {"name": "weighted", "bins": "utk"}}, "sampler.weighted.bins", "unknown bins 'utk'."),
        (
            {"data": {"split": {"fractions": [0.8, 0.1, 0.2]}}},
            "data.split",
            "fractions=[0.8, 0.1, 0.2] add up to 1.1; they must add up to 1.",
        ),
        (
            {"data": {"split": {"fractions": [0.9, 0, 0.1]}}},
            "data.split",
            "leave train or val empty; both need a share above 0.",
        ),
        (
            {"optimizer": {"name": "sgd", "nesterov": True}},
            "optimizer.sgd",
            "nesterov with momentum=0, dampening=0: set momentum above 0 and dampening to 0.",
        ),
        (
            {"sampler": {"name": "weighted", "by": "gender", "bins": "utk7"}},
            "sampler.weighted",
            "bins with by=gender: age bins have an effect only with `by: age`; leave them out.",
        ),
        (
            {"schedule": {"name": "cosine", "epochs": 5, "warmup_epochs": 5}},
            "schedule.cosine",
            "warmup_epochs=5 must be below epochs=5.",
        ),
        (
            {"image": {"size": 227, "crop_from": 227}},
            "image",
            "crop_from=227 must be above size=227, which is cut from it; leave crop_from out to resize images to size",
        ),
        (
            {"augment": "crop_flip", "image": {"size": 227}},
            "",
            "augment=crop_flip cuts image.size=227 at random from a larger image: set image.crop_from",
        ),
        ({"schedule": "step"}, "schedule.step", "step needs exactly one of milestones, every and parts."),
        (
            {"schedule": {"name": "step", "milestones": [3], "every": 2}},
            "schedule.step",
            "step needs exactly one of milestones, every and parts.",
        ),
        (
            {"schedule": {"name": "step", "milestones": [5, 3]}},
            "schedule.step",
            "milestones=[5, 3] must ascend without repeats.",
        ),
        (
            {"schedule": {"name": "step", "epochs": 5, "milestones": [3, 5]}},
            "schedule.step",
            "milestone 5 is never reached in epochs=5: lower it or train longer.",
        ),
        (
            {"schedule": {"name": "step", "unit": "step", "milestones": [10_000, 10]}},
            "schedule.step",
            "milestones=[10000, 10] must ascend without repeats.",
        ),
        (
            {"averaging": {"name": "swa", "start_epoch": 10}},
            "",
            "averaging.start_epoch=10 is never reached in schedule.epochs=10: lower it or train longer.",
        ),
        (
            {"averaging": {"name": "swa", "start_epoch": 5, "lr": 0.01}, "schedule": "plateau"},
            "",
            "averaging.lr=0.01 and schedule=plateau would both set the learning rate",
        ),
        (
            {"averaging": {"name": "swa", "start_epoch": 5, "anneal_epochs": 2}},
            "averaging.swa",
            "anneal_epochs=2 needs lr, the rate that is annealed to; set it.",
        ),
        ({"schedule": {"name": "step", "epochs": 5, "every": 9}}, "schedule.step", "milestone 9 is never reached"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_is_refused_with_the_value_the_rule_and_the_way_out(
    document: dict[str, Any], path: str, words: str
) -> None:
    found = refusals(document)
    assert set(found) == {path}
    assert words in found[path]


def test_all_problems_are_reported_at_once() -> None:
    document = {"seed": -1, "batch_size": 0, "optimizer": {"name": "sgd", "lr": -1}, "colour": "rgb"}
    assert set(refusals(document)) == {"seed", "batch_size", "optimizer.sgd.lr", "colour"}


# --- stages --------------------------------------------------------------------------------------------------------


def after(stage: dict[str, Any]) -> TrialConfig:
    return config_of({"model": {"name": "basic_cnn", "weights": "init"}, "init": {"id": "pre", "config": stage}})


def test_the_digest_of_what_starts_from_a_stage_has_the_stage_s_key_and_not_its_address() -> None:
    content = {"data_digest": DATA_DIGEST, "split_digest": SPLIT_DIGEST}
    one, moved = after({"data": {"source": "a.tar"}}), after({"data": {"source": "b.tar"}})
    assert one.init is not None
    assert moved.init is not None
    key = one.init.key(**content, weights_sha256=None)
    assert key == moved.init.key(**content, weights_sha256=None)
    assert one.digest(**content, weights_sha256=key) == moved.digest(**content, weights_sha256=key)
    assert one.digest(**content, weights_sha256=key) != one.digest(**content, weights_sha256="0" * 64)
    other = after({"batch_size": 8})
    assert other.init is not None
    assert other.init.key(**content, weights_sha256=None) != key


def test_a_key_tells_which_epoch_counts() -> None:
    content = {"data_digest": DATA_DIGEST, "split_digest": SPLIT_DIGEST, "weights_sha256": None}
    document = {"id": "pre", "config": {}}
    by_loss = StageConfig.model_validate_json(json.dumps(document))
    by_acc = StageConfig.model_validate_json(
        json.dumps(document | {"objective": {"metric": "val/gender_acc", "direction": "maximize"}})
    )
    assert by_loss.key(**content) != by_acc.key(**content)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"model": {"name": "basic_cnn", "weights": "init"}}, "the weights of a stage, and there is none"),
        ({"init": {"id": "pre", "config": {}}}, "init.id=pre gives the weights, but model.weights=none"),
        (
            {"model": {"name": "basic_cnn", "weights": "init", "weights_sha256": "0" * 64}},
            "weights_sha256 applies to a file of weights only, but weights=init",
        ),
    ],
)
def test_weights_of_a_stage_need_the_stage_and_the_other_way_round(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config_of(document)
