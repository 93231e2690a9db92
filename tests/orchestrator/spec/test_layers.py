from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Problem, SpecError
from orchestrator.spec.load import Sweep, load_sweep

BASE = """\
name: base
objective: {metric: val/age_mae, direction: minimize}
trial:
  image: {size: 48}
  optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
  early_stopping: {metric: val/loss, direction: minimize, patience: 3}
  schedule: {name: constant, epochs: 9}
space:
  sampler: [shuffle, {name: weighted, by: age}]
  batch_size: {randint: [16, 64], step: 16}
search: {algorithm: random, trials: 20, seed: 7}
scheduler: asha
budget: {wall: 20m}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return written


@pytest.fixture
def over(write: Any) -> Any:
    """The sweep of a file that extends ``BASE``."""

    def loaded(text: str, **more: Any) -> Sweep:
        write("base.yaml", BASE)
        return load_sweep(write("sweep.yaml", f"extends: base.yaml\n{text}"), **more)

    return loaded


def problems(load: Any, *arguments: Any, **more: Any) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        load(*arguments, **more)
    return caught.value.problems


# --- extends -------------------------------------------------------------------------------------------------------


def test_a_file_is_laid_over_the_one_it_extends(over: Any) -> None:
    document = over("name: mine\ntrial: {image: {color: grey}}\nsearch: {trials: 5}\nbudget: {wall: 1h}\n").document
    assert document["name"] == "mine"
    assert document["trial"]["image"] == {"size": 48, "color": "grey"}
    assert document["search"] == {"algorithm": "random", "trials": 5, "seed": 7}
    assert document["budget"] == {"wall": "1h"}
    assert "extends" not in document


def test_a_component_of_another_name_takes_the_place_of_the_base_s(over: Any) -> None:
    assert over("trial: {optimizer: adam}").document["trial"]["optimizer"] == "adam"
    assert over("trial: {optimizer: {lr: 0.2}}").document["trial"]["optimizer"] == {
        "name": "sgd",
        "lr": 0.2,
        "momentum": 0.9,
    }
    assert over("scheduler: {grace_epochs: 2}").document["scheduler"] == {"name": "asha", "grace_epochs": 2}
    assert over("scheduler: none").document["scheduler"] == "none"


def test_choices_and_domains_are_replaced_whole(over: Any) -> None:
    document = over("space: {sampler: [shuffle], batch_size: {lograndint: [8, 16]}}").document
    assert document["space"] == {"sampler": ["shuffle"], "batch_size": {"lograndint": [8, 16]}}


def test_null_takes_away_what_the_base_says(over: Any) -> None:
    document = over("space: {sampler: null}\nbudget: null\ntrial: {image: null}").document
    assert document["space"] == {"batch_size": {"randint": [16, 64], "step": 16}}
    assert document.get("budget") is None
    assert "image" not in document["trial"]


def test_null_stays_where_it_is_a_value(over: Any) -> None:
    document = over("trial: {early_stopping: null}\nvariants: {plain: {early_stopping: null}}").document
    assert document["trial"]["early_stopping"] is None
    assert document["variants"] == {"plain": {"early_stopping": None}}


def test_null_over_nothing_is_a_mistake(over: Any) -> None:
    (problem,) = problems(over, "trial:\n  imag: null\n")
    assert (problem.line, problem.column, problem.path) == (3, 3, "trial.imag")
    assert "there is none; drop the key" in problem.message


def test_bases_of_bases_are_looked_for_beside_the_file_that_names_them(write: Any) -> None:
    write("shared/root.yaml", BASE)
    write("shared/base.yaml", "extends: root.yaml\nsearch: {trials: 3}\n")
    sweep = load_sweep(write("mine/sweep.yaml", "extends: ../shared/base.yaml\nname: mine\n"))
    assert (sweep.spec.name, sweep.document["search"]["trials"]) == ("mine", 3)


def test_a_circle_of_bases_is_refused_where_it_closes(write: Any, tmp_path: Path) -> None:
    write("a.yaml", "extends: b.yaml\n" + BASE)
    write("b.yaml", "\nextends: a.yaml\n")
    (problem,) = problems(load_sweep, tmp_path / "a.yaml")
    assert (problem.file, problem.line) == (str(tmp_path / "b.yaml"), 2)
    assert "the file extends itself" in problem.message


def test_every_problem_names_the_file_and_line_it_stands_in(write: Any, tmp_path: Path) -> None:
    write("base.yaml", BASE.replace("size: 48", "sise: 48").replace("epochs: 9", "epochs: 0"))
    file = write("sweep.yaml", "extends: base.yaml\ntrial:\n  schedule:\n    epochs: -1\n")
    with pytest.raises(SpecError) as caught:
        load_sweep(file)
    lines = str(caught.value).splitlines()
    assert [line.partition(": trial")[0] for line in lines] == [f"{file}:4:13", f"{tmp_path / 'base.yaml'}:4:11"]
    assert "trial.schedule.epochs: -1 given" in lines[0]
    assert "trial.image.sise: unknown field" in lines[1]


def test_a_base_that_is_not_yaml_is_named(write: Any, tmp_path: Path) -> None:
    write("base.yaml", "name: [\n")
    with pytest.raises(SpecError, match=r"base\.yaml:2:1: this is not YAML"):
        load_sweep(write("sweep.yaml", "extends: base.yaml\n"))


# --- profiles ------------------------------------------------------------------------------------------------------

PROFILES = """
profiles:
  cpu:
    name: base-cpu
    trial: {image: {size: 16}, schedule: {epochs: 2}}
    space: {sampler: null}
    search: {trials: 4}
    scheduler: none
  tiny: {search: {trials: 1}}
"""


def test_a_profile_is_laid_over_the_file_and_before_set(write: Any) -> None:
    file = write("sweep.yaml", BASE + PROFILES)
    sweep = load_sweep(file, profile="cpu", overrides=["trial.image.size=24"])
    assert (sweep.profile, sweep.profiles) == ("cpu", ("cpu", "tiny"))
    assert sweep.document["name"] == "base-cpu"
    assert sweep.document["trial"]["image"]["size"] == 24
    assert sweep.document["trial"]["schedule"] == {"name": "constant", "epochs": 2}
    assert list(sweep.document["space"]) == ["batch_size"]
    assert (sweep.document["search"]["trials"], sweep.document["scheduler"]) == (4, "none")
    assert "profiles" not in sweep.document


def test_without_one_the_file_is_as_it_is(write: Any) -> None:
    sweep = load_sweep(write("sweep.yaml", BASE + PROFILES))
    assert sweep.profile is None
    assert sweep.document["search"]["trials"] == 20


def test_profiles_of_the_base_are_extended_too(write: Any) -> None:
    write("base.yaml", BASE + PROFILES)
    child = "extends: base.yaml\nprofiles: {cpu: {search: {trials: 2}, space: {batch_size: null}}}\n"
    sweep = load_sweep(write("sweep.yaml", child), profile="cpu")
    assert sweep.document["search"]["trials"] == 2
    assert sweep.document["space"] == {}


def test_variants_come_and_go_with_a_profile(write: Any) -> None:
    variants = "variants: {small: {image: {size: 16}}, large: {image: {size: 64}}}\n"
    profile = "profiles: {cpu: {variants: {large: null, small: {batch_size: 8}}, space: {batch_size: null}}}\n"
    sweep = load_sweep(write("sweep.yaml", BASE + variants + profile), profile="cpu")
    assert sweep.document["variants"] == {"small": {"image": {"size": 16}, "batch_size": 8}}


def test_an_unknown_profile_is_answered_with_those_there_are(write: Any) -> None:
    file = write("sweep.yaml", BASE + PROFILES)
    (problem,) = problems(load_sweep, file, profile="cpy")
    assert "no profile 'cpy'; it has cpu, tiny. Did you mean 'cpu'?" in problem.message
    (problem,) = problems(load_sweep, write("plain.yaml", BASE), profile="cpu")
    assert "it has none" in problem.message


def test_a_problem_of_a_profile_has_its_line(write: Any) -> None:
    file = write("sweep.yaml", BASE + PROFILES.replace("size: 16", "size: 0"))
    problem = problems(load_sweep, file, profile="cpu")[0]
    assert (problem.line, problem.path) == (BASE.count("\n") + 5, "trial.image.size")


def test_what_a_profile_says_below_the_space_has_no_effect_and_is_refused(write: Any) -> None:
    profile = "profiles: {cpu: {trial: {batch_size: 8}}}\n"
    (problem,) = problems(load_sweep, write("sweep.yaml", BASE + profile), profile="cpu")
    assert "`space` varies batch_size, so this has no effect; set space.batch_size instead" in problem.message


@pytest.mark.parametrize("key", ["extends", "profiles"])
def test_layers_cannot_be_nested_or_set(write: Any, key: str) -> None:
    file = write("sweep.yaml", BASE + f"profiles: {{cpu: {{{key}: base.yaml}}}}\n")
    (problem,) = problems(load_sweep, file, profile="cpu")
    assert "a profile cannot have" in problem.message
    (problem,) = problems(load_sweep, file, overrides=[f"{key}=x"])
    assert "set the field itself" in problem.message


STAGES = """
  stages:
    - {id: celeba, schedule: {epochs: 10}, optimizer: {name: adam, lr: 0.1}}
    - {id: adience, batch_size: 8}
"""


def test_stages_are_changed_by_their_id(write: Any) -> None:
    trial = BASE.replace("space:", STAGES.strip("\n") + "\nspace:")
    profile = "profiles: {cpu: {trial: {stages: [{id: celeba, schedule: {epochs: 1}, optimizer: nadam}]}}}\n"
    stages = load_sweep(write("sweep.yaml", trial + profile), profile="cpu").document["trial"]["stages"]
    assert stages == [
        {"id": "celeba", "schedule": {"epochs": 1}, "optimizer": "nadam"},
        {"id": "adience", "batch_size": 8},
    ]
    other = "profiles: {cpu: {trial: {stages: [{id: other}, {id: adience}]}}}\n"
    stages = load_sweep(write("other.yaml", trial + other), profile="cpu").document["trial"]["stages"]
    assert stages == [{"id": "other"}, {"id": "adience"}]


def test_a_problem_in_a_stage_of_a_profile_has_its_line(write: Any) -> None:
    trial = BASE.replace("space:", STAGES.strip("\n") + "\nspace:")
    profile = "profiles:\n  cpu:\n    trial:\n      stages:\n        - {id: celeba, schedule: {epochs: 0}}\n"
    (problem,) = problems(load_sweep, write("sweep.yaml", trial + profile), profile="cpu")
    assert (problem.line, problem.path) == (trial.count("\n") + 5, "trial.stages[0].schedule.epochs")
