"""Figures of groups: those of the group's images alone, averaging to the whole; and tables that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parts import config_of, labels_of, logits_of, part_of

from agr_core.evaluation.groups import group_figures, impossible_groups
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES

AGE_GROUPS = [(0, 2), (3, 6), (7, 14), (15, 30), (31, 40), (41, 65), (66, 116)]


def members(labels: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Which images are in each group, found without the code under test."""
    age = {f"{low}-{high}": (labels.age >= low) & (labels.age <= high) for low, high in AGE_GROUPS}
    race = {name: labels.race == place for place, name in enumerate(UTKFACE_RACES)}
    return {"race": race, "gender": {name: labels.gender == place for place, name in enumerate(GENDERS)}, "age": age}


def test_a_groups_figures_are_those_of_its_images_alone() -> None:
    config = config_of()
    labels, logits = labels_of(300, kind="exact", unknown=0.2), logits_of(config, 300)
    metrics, _ = part_of(config, labels, logits, kind="exact")
    compared = 0
    for by, groups in members(labels).items():
        for name, member in groups.items():
            kept = type(labels)(*(getattr(labels, field)[member] for field in vars(labels)))
            alone, _ = part_of(config, kept, {task: value[member] for task, value in logits.items()}, kind="exact")
            assert metrics[f"images.by_{by}.{name}"] == alone["images"] == int(member.sum())
            grouped = [key for key in metrics if key.endswith(f".by_{by}.{name}") and not key.startswith("images")]
            assert {key: metrics[key] for key in grouped} == pytest.approx(
                {key: alone[key.partition(".by_")[0]] for key in grouped}
            )
            compared += len(grouped)
    assert compared == 5 * 5 + 2 * 5 + 7 * 3


def test_the_gap_is_between_the_best_and_the_worst_group() -> None:
    config = config_of()
    metrics, _ = part_of(config, labels_of(200, kind="exact"), logits_of(config, 200), kind="exact")
    for figure in ("age_mae", "age_acc.utk7", "gender_acc"):
        groups = [metrics[f"{figure}.by_race.{race}"] for race in UTKFACE_RACES]
        assert metrics[f"{figure}.gap_by_race"] == max(groups) - min(groups) > 0


@pytest.mark.parametrize("kind", ["exact", "range"])
def test_no_trial_reports_impossible_groups(kind: str) -> None:
    config = config_of()
    metrics, _ = part_of(config, labels_of(200, kind=kind), logits_of(config, 200), kind=kind, schemes=("fairface9",))
    assert metrics["images"] == sum(metrics[f"images.by_race.{race}"] for race in UTKFACE_RACES)
    assert impossible_groups(metrics) == []


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 3)), min_size=1))
def test_groups_that_cover_all_images_average_to_the_whole(images: list[tuple[float, int]]) -> None:
    values, index = np.array([value for value, _ in images]), np.array([group for _, group in images])
    found = group_figures({"f": values}, "race", index, "abcd")
    mean = sum(found[f"images.by_race.{g}"] * found[f"f.by_race.{g}"] for g in "abcd" if f"f.by_race.{g}" in found)
    assert mean / len(images) == pytest.approx(values.mean(), abs=1e-9)
    assert impossible_groups({"f": values.mean(), "images": len(images), **found}) == []


def test_an_empty_group_has_no_figure_and_one_group_has_no_gap() -> None:
    found = group_figures({"f": np.array([1.0, 3.0, np.nan])}, "race", np.array([0, 0, -1]), ("a", "b"))
    assert found == {"f.by_race.a": 2.0, "images.by_race.a": 2.0}


# Report S0's per-race age accuracies and the overall ones of the same model (docs/seeds.md, S0-R1, R3 and R5, R6).
S0_UTKFACE = {"White": 0.392, "Black": 0.371, "Asian": 0.483, "Indian": 0.405, "Others": 0.415}
S0_FAIRFACE = {
    "East Asian": 0.740, "Indian": 0.721, "Black": 0.711, "White": 0.719,
    "Middle Eastern": 0.724, "Latino_Hispanic": 0.728, "Southeast Asian": 0.727,
}  # fmt: skip


@pytest.mark.parametrize(("overall", "groups"), [(0.196, S0_UTKFACE), (0.551, S0_FAIRFACE)])
def test_report_s0s_tables_by_race_are_found_impossible(overall: float, groups: dict[str, float]) -> None:
    metrics = {"age_acc": overall, "images": 100.0 * len(groups)}
    metrics |= {f"age_acc.by_race.{race}": value for race, value in groups.items()}
    metrics |= {f"images.by_race.{race}": 100.0 for race in groups}
    (words,) = impossible_groups(metrics)
    assert f"age_acc is {overall}" in words
    assert "by race" in words


def test_groups_that_leave_images_out_say_nothing_about_the_whole() -> None:
    metrics = {"age_acc": 0.2, "images": 300.0, "age_acc.by_race.White": 0.4, "images.by_race.White": 100.0}
    assert impossible_groups(metrics) == []
