"""``search.start``: from configurations to points of the space, and back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from agr_core.errors import InputError
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.start import start_of_trial

SPACE: dict[str, Any] = {
    "model": [{"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}, "resnet10t"],
    "optimizer": [
        {"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}},
        {"name": "sgd", "lr": [0.1, 0.2], "momentum": {"uniform": [0.8, 0.9], "step": 0.05}},
    ],
    "augment": ["none", "light"],
    "age": [{"encoding": "regression"}, {"encoding": ["onehot", "ordinal"], "bins": ["utk7", [0, 13, 20, 60]]}],
}


def sweep(*start: Any, **more: Any) -> Sweep:
    document = {
        "name": "start",
        "objective": {"metric": "val/age_mae", "direction": "minimize"},
        "space": SPACE,
        "search": {"algorithm": "tpe", "trials": 20, "start": list(start)},
    }
    return sweep_from_document({**document, **more})


@pytest.mark.parametrize(
    ("entry", "point"),
    [
        ({"augment": "light"}, {"augment": "light"}),
        ({"augment": {"name": "light"}}, {"augment": "light"}),
        ({"model": "resnet10t"}, {"model": "resnet10t"}),
        (
            {"model": {"name": "basic_cnn", "conv_layers": 3}},
            {"model": "basic_cnn", "model[basic_cnn].conv_layers": 3},
        ),
        ({"optimizer": {"name": "sgd"}}, {"optimizer": "sgd"}),
        # The learning rate is of one branch only.
        ({"optimizer": {"lr": 0.2}}, {"optimizer": "sgd", "optimizer[sgd].lr": 0.2}),
        # And so is the momentum; nadam, which comes first, has none.
        ({"optimizer": {"momentum": 0.85}}, {"optimizer": "sgd", "optimizer[sgd].momentum": 0.85}),
        # Which of the two encodings with these bins is drawn.
        ({"age": {"bins": "utk7"}}, {"age": "onehot|ordinal", "age[onehot|ordinal].bins": "utk7"}),
        (
            {"age": {"encoding": "ordinal", "bins": [0, 13, 20, 60]}},
            {
                "age": "onehot|ordinal",
                "age[onehot|ordinal].encoding": "ordinal",
                "age[onehot|ordinal].bins": "[0, 13, 20, 60]",
            },
        ),
        # What does not vary may be said where it is so.
        ({"batch_size": 64, "augment": "none"}, {"augment": "none"}),
    ],
)
def test_an_entry_names_the_values_of_the_domains_it_speaks_of(entry: dict[str, Any], point: dict[str, Any]) -> None:
    assert sweep(entry).start == (point,)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            {"optimizer": {"lr": 0.005}},
            "optimizer: {'lr': 0.005} given, which fits adam and nadam; select one, such as name: adam.",
        ),
        ({"model": {}}, "model: {} given, which fits basic_cnn and resnet10t; select one, such as name: basic_cnn."),
        ({"optimizer": {"momentum": 0.85}}, "0.85 given, but optimizer.momentum is not a field of adam."),
        ({"optimiser": {"lr": 0.01}}, "optimiser is not a field of this configuration. Did you mean 'optimizer'?"),
        ({"optimizer": {"lr": "fast"}}, "'fast' is not a value of loguniform [0.0001, 0.01]. Give a number."),
        ({"optimizer": {"lr": 0.5}}, "optimizer.lr: 0.5 is not a value of loguniform"),
    ],
)
def test_what_several_branches_or_none_have_is_refused(entry: dict[str, Any], problem: str) -> None:
    either = [{"name": name, "lr": {"loguniform": [1.0e-4, 1.0e-2]}} for name in ("adam", "nadam")]
    with pytest.raises(InputError) as caught:
        sweep(entry, space={**SPACE, "optimizer": either})
    assert problem in str(caught.value)


def test_of_options_that_overlap_the_first_is_taken() -> None:
    overlapping = [{"name": "sgd", "lr": {"uniform": [0.1, 0.3]}}, {"name": "sgd", "lr": {"uniform": [0.2, 0.4]}}]
    found = sweep({"optimizer": {"lr": 0.25}}, {"optimizer": {"lr": 0.35}}, space={"optimizer": overlapping})
    first, second = (dict(point) for point in found.start)
    assert first != second
    assert list(first.values())[1] == 0.25
    assert list(second.values())[1] == 0.35


def test_a_variant_may_be_named() -> None:
    found = sweep({"variant": "large", "augment": "light"}, variants={"base": {}, "large": {"batch_size": 128}})

    assert found.start == ({"variant": "large", "augment": "light"},)


def test_every_configuration_of_a_space_leads_back_to_itself() -> None:
    """Drawn at random, written as an entry, read again: the same configuration."""
    generator = random.Random(3)
    variants = {"base": {}, "large": {"batch_size": 128}}
    space = sweep(variants=variants).space
    drawn = [space.build(lambda _, domain: domain.draw(generator)) for _ in range(40)]

    entries = [start_of_trial(space, each.config.to_document(), each.variant) for each in drawn]
    again = sweep(*entries, variants=variants, search={"algorithm": "tpe", "trials": 40, "start": entries})

    assert len(again.start) == 40
    built = [space.build(lambda name, _, point=point: point[name]) for point in again.start]
    assert [(each.config, each.variant) for each in built] == [(each.config, each.variant) for each in drawn]


def test_of_a_trial_what_the_sweep_fixes_is_left() -> None:
    config = sweep().space.build(lambda _, domain: domain.draw(random.Random(0))).config.to_document()
    smaller = sweep_from_document(
        {
            "name": "smaller",
            "objective": {"metric": "val/age_mae", "direction": "minimize"},
            "space": {"optimizer": {"name": config["optimizer"]["name"], "lr": {"loguniform": [1.0e-5, 1.0]}}},
            "search": {"algorithm": "random", "trials": 2},
        }
    )

    assert start_of_trial(smaller.space, config, None) == {"optimizer": {"lr": config["optimizer"]["lr"]}}


def test_a_trial_outside_the_space_is_refused_with_the_value() -> None:
    space = sweep().space
    config = space.build(lambda _, domain: domain.draw(random.Random(0))).config.to_document()
    config["optimizer"] = {**config["optimizer"], "name": "nadam", "lr": 0.5}

    with pytest.raises(InputError, match=r"is outside the space: optimizer\.lr: 0\.5 is not a value of loguniform"):
        start_of_trial(space, config, None)
