"""Which combinations of a sweep are measured: those that differ in memory or speed, and of too many the extremes."""

from __future__ import annotations

from typing import Any

from orchestrator.planning.loads import combinations, load_of
from tests.parts.sweeps import small_sweep


def test_what_changes_neither_memory_nor_speed_makes_no_further_combination() -> None:
    space = {
        "model": {"name": "basic_cnn", "conv_layers": [2, 3], "dropout": {"uniform": [0.1, 0.6]}},
        "optimizer": {"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}},
        "augment": ["none", {"name": "light", "flip": {"uniform": [0.1, 0.5]}}],
    }
    found = combinations(small_sweep(space=space).space)
    assert (found.total, found.explained) == (4, "")
    assert [each.branch for each in found.chosen] == [
        "model.conv_layers=2, augment.name=none",
        "model.conv_layers=2, augment.name=light",
        "model.conv_layers=3, augment.name=none",
        "model.conv_layers=3, augment.name=light",
    ]


def test_ranges_are_measured_at_both_ends_in_all_combinations_with_the_others() -> None:
    space = {
        "model": {"name": "basic_cnn", "base_features": {"randint": [8, 32]}},
        "batch_size": {"randint": [16, 256]},
    }
    found = combinations(small_sweep(space=space).space)
    sizes = {(each.config.model.base_features, each.config.batch_size) for each in found.chosen}  # type: ignore[union-attr]
    assert sizes == {(8, 16), (8, 256), (32, 16), (32, 256)}


def test_of_too_many_each_model_has_its_turn_and_the_largest_comes_first() -> None:
    space: dict[str, Any] = {
        "model": [{"name": "basic_cnn"}, {"name": "resnet10t"}],
        "batch_size": [16, 32, 64, 128],
    }
    found = combinations(small_sweep(space=space).space, limit=5)
    assert found.total == 8
    assert [(each.config.model.name, each.config.batch_size) for each in found.chosen] == [
        ("basic_cnn", 128),
        ("resnet10t", 128),
        ("basic_cnn", 16),
        ("resnet10t", 16),
        ("basic_cnn", 64),
    ]
    assert "8 combinations, 5 of them measured" in found.explained


def test_a_stage_is_a_combination_of_its_own() -> None:
    trial = {"schedule": {"name": "constant", "epochs": 2}, "model": {"name": "basic_cnn"}}
    stages = [{"id": "large", "batch_size": 128}, {"id": "fine"}]
    found = combinations(small_sweep(trial=trial | {"stages": stages}, space={}).space)
    assert [(each.branch, each.config.batch_size) for each in found.chosen] == [
        ("basic_cnn", 64),
        ("stage=large", 128),
    ]


def test_weights_and_rates_do_not_change_a_load() -> None:
    base = small_sweep().space.build(lambda _, domain: domain.choices[0] if domain.choices else domain.low).config
    document = base.to_document()
    other = {**document, "seed": 7, "model": {**document["model"], "dropout": 0.1, "weights": "x.safetensors"}}
    assert load_of(other) == load_of(document)
    assert load_of({**document, "batch_size": 7}) != load_of(document)
