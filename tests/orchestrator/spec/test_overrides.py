"""``--set``: what an override may change, and how one that cannot be applied is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec.load import Sweep, load_sweep, sweep_from_document

SWEEPS = Path(__file__).parents[3] / "sweeps"
OBJECTIVE = {"metric": "val/age_mae", "direction": "minimize"}


def sweep(**more: Any) -> Sweep:
    return sweep_from_document({"name": "test", "objective": OBJECTIVE, **more})


def problems(**more: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        sweep(**more)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    return file


MINIMAL = "name: minimal\nobjective: {metric: val/age_mae, direction: minimize}\n"


def test_an_override_edits_the_document_before_it_is_checked(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "trial: {optimizer: adam}\nscheduler: none\n")
    loaded = load_sweep(
        file,
        overrides=[
            "trial.data.source=s3://agr/utkface",
            "trial.optimizer.lr=1e-4",
            "space.model=[resnet10t, {name: basic_cnn, conv_layers: [2, 3]}]",
            "space.model.1.conv_layers=4",
            "scheduler.name=asha",
            "budget.wall=1h",
            "description=no",
        ],
    )
    config = loaded.space.build(lambda *_: "basic_cnn").config
    assert config.data.source == "s3://agr/utkface"
    assert (config.optimizer.name, config.optimizer.lr) == ("adam", 1e-4)
    assert config.model.model_dump()["conv_layers"] == 4
    assert loaded.spec.scheduler.name == "asha"
    assert loaded.spec.budget.wall == 3600
    assert loaded.spec.description == "no"
    assert loaded.document["trial"]["optimizer"] == {"name": "adam", "lr": 1e-4}
    assert file.read_text() == MINIMAL + "trial: {optimizer: adam}\nscheduler: none\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trial.batch_size", "write --set path=value"),
        ("=3", "write --set path=value"),
        ("trial.batch_size=[1", "trial.batch_size: the value of --set is not YAML"),
        ("trial.batch_sise=3", "trial.batch_sise: unknown field. Did you mean 'batch_size'?"),
        ("trail.batch_size=3", "trail: unknown field. Did you mean 'trial'?"),
        ("trial.batch_size=-3", "trial.batch_size: -3 given; it must be at least 1."),
        ("trial.batch_size.x=3", "trial.batch_size is 8, so there is no 'x' in it"),
        ("space.model.2=resnet18", "space.model has 2 items, counted from 0; there is no item '2'"),
        ("space.model.last=resnet18", "there is no item 'last'"),
        ("trial.model=resnet18", "`space` varies model, so this has no effect; set space.model instead"),
        ("trial.model.pool=avg", "`space` varies model, so this has no effect"),
        ("variants.a.optimizer.lr=0.1", "`space` varies optimizer.lr, so this has no effect"),
        ("trial.optimizer={name: sgd, lr: 0.1}", "`space` varies optimizer.lr, so this has no effect"),
        ("space=3", "space: 3 given; it must be a mapping"),
    ],
)
def test_an_override_that_cannot_be_is_refused(tmp_path: Path, override: str, message: str) -> None:
    text = MINIMAL + (
        "trial: {batch_size: 8, optimizer: {name: sgd}}\nvariants: {a: {}}\n"
        "space: {model: [resnet10t, basic_cnn], optimizer: {lr: [0.1, 0.2]}}\n"
    )
    file = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_sweep(file, overrides=[override])
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{file}: "), "what is in no file has no line"


def test_an_override_may_choose_the_component_whose_fields_vary(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "trial: {optimizer: sgd}\nspace: {optimizer: {lr: [0.1, 0.2]}}\n")
    loaded = load_sweep(file, overrides=["trial.optimizer=nadam"])
    assert loaded.space.build(lambda *_: 0.1).config.optimizer.name == "nadam"


def test_an_override_may_narrow_the_space(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "space: {batch_size: [8, 16]}\n")
    assert load_sweep(file, overrides=["space.batch_size=8"]).space.size() == 1


def test_all_overrides_are_judged_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep(write(tmp_path, MINIMAL + "retries: -1\n"), overrides=["nothing", "trial.x=1", "trial.seed=a"])
    assert len(caught.value.problems) == 4
