from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.spec.schema import sweep_schema

ROOT = Path(__file__).parents[3]
SWEEPS = sorted((ROOT / "sweeps").glob("**/*.yaml"))
BROKEN = ROOT / "tests/orchestrator/spec/broken"
HEAVY = ("torch", "torchvision", "timm", "ray", "mlflow", "pandas", "boto3", "optuna", "sklearn", "matplotlib")

run = CliRunner().invoke


def test_a_right_file_is_summed_up() -> None:
    result = run(app, ["validate", str(ROOT / "sweeps/quickstart.yaml")])
    assert result.exit_code == 0
    for words in ("quickstart", "tpe, 20 configurations", "minimize val/age_mae", "optimizer.lr", "trial 3"):
        assert words in result.stdout
    assert result.stderr == ""


def test_the_summary_as_json() -> None:
    result = run(app, ["validate", str(ROOT / "sweeps/quickstart.yaml"), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["size"] is None
    assert found["search"] == {"algorithm": "tpe", "trials": 20, "seed": 7, "start": 0}
    assert found["rungs"] == [{"epochs": 2, "trials": 20}, {"epochs": 6, "trials": 6}]
    assert len(found["samples"]) == 3
    assert all("model.name" in drawn["params"] for drawn in found["samples"])
    assert found["problems"] == []


def test_a_start_and_a_confirmation_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "name: small\nobjective: {metric: val/age_mae, direction: minimize}\nspace: {batch_size: [16, 32]}\n"
        "search: {algorithm: random, trials: 2, start: [{batch_size: 32}]}\nconfirm: {top: 3, seeds: 5}\n"
    )
    result = run(app, ["validate", str(file)])
    assert "start      1 configurations tried first" in result.stdout
    assert "confirm    the best 3 again, with 5 fresh seeds each" in result.stdout
    assert "confirm.top is 3, but the search has 2 configurations" in result.stderr


def test_every_problem_is_one_line_with_its_place() -> None:
    file = BROKEN / "many_at_once.yaml"
    result = run(app, ["validate", str(file)])
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith(f"{file}:10:3: trial.optimiser: unknown field. Did you mean 'optimizer'?")


def test_problems_as_json() -> None:
    result = run(app, ["validate", str(BROKEN / "variants_wrong.yaml"), "--json"])
    assert result.exit_code == 2
    problems = json.loads(result.stdout)["problems"]
    assert len(problems) == 5
    assert set(problems[0]) == {"file", "line", "column", "path", "message"}


def test_values_are_set_before_the_check() -> None:
    file = str(ROOT / "sweeps/quickstart.yaml")
    result = run(app, ["validate", file, "--json", "--set", "search.trials=5", "--set", "trial.schedule.epochs=3"])
    found = json.loads(result.stdout)
    assert found["search"]["trials"] == 5
    assert found["rungs"] == [{"epochs": 2, "trials": 5}, {"epochs": 3, "trials": 1}]
    refused = run(app, ["validate", file, "--set", "trial.schedule.epochs=0"])
    assert refused.exit_code == 2
    assert "trial.schedule.epochs: 0 given; it must be at least 1. (Given by --set" in refused.stderr


def test_warnings_go_to_standard_error_and_are_no_failure() -> None:
    result = run(app, ["validate", str(ROOT / "sweeps/quickstart.yaml"), "--set", "scheduler.grace_epochs=9"])
    assert result.exit_code == 0
    assert "warning: scheduler.grace_epochs is 9" in result.stderr


def test_a_missing_file_is_one_error() -> None:
    result = run(app, ["validate", "nowhere.yaml"])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: cannot read the sweep file nowhere.yaml: No such file or directory. Give the path of a YAML file.\n"
    )


def test_models_are_built_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        "name: small\ntrial: {image: {size: 48}}\nspace: {model: [basic_cnn, coatnet_nano_cc_224]}\n"
        "objective: {metric: val/age_mae, direction: minimize}\n"
    )
    assert run(app, ["validate", str(file)]).exit_code == 0
    refused = run(app, ["validate", str(file), "--models"])
    assert refused.exit_code == 2
    assert f"{file}: model 'coatnet_nano_cc_224' cannot take image.size=48" in refused.stderr
    built = run(app, ["validate", str(file), "--models", "--json", "--set", "space.model=[basic_cnn, resnet10t]"])
    assert json.loads(built.stdout)["models"] == 2


def test_the_schema_is_written(tmp_path: Path) -> None:
    result = run(app, ["schema", "-o", str(tmp_path / "schema.json")])
    assert result.exit_code == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == sweep_schema()


def test_a_schema_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    result = run(app, ["schema", "-o", str(tmp_path / "no" / "schema.json")])
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_validating_takes_no_heavy_package_and_less_than_two_seconds(file: Path) -> None:
    code = (
        "import sys, time\n"
        "from orchestrator.cli.main import app\n"
        "try:\n    app(['validate', sys.argv[1]])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "print(time.process_time())\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # Computing time, since the wall clock also shows what runs beside the tests.
    assert float(result.stdout.splitlines()[-1]) < 2


PROFILED = """\
name: profiled
objective: {metric: val/age_mae, direction: minimize}
trial: {schedule: {name: constant, epochs: 9}}
space: {batch_size: [8, 16, 32]}
search: {algorithm: random, trials: 3}
profiles:
  cpu: {search: {trials: 2}, trial: {schedule: {epochs: 1}}}
  broken: {trial: {schedule: {epochs: 0}}}
"""


def test_a_profile_is_chosen_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "profiled.yaml"
    file.write_text(PROFILED)
    result = run(app, ["validate", str(file), "--profile", "cpu"])
    assert result.exit_code == 0
    assert "profiles   cpu (chosen), broken" in result.stdout
    assert "random, 2 configurations" in result.stdout
    found = json.loads(run(app, ["validate", str(file), "--profile", "cpu", "--json"]).stdout)
    assert (found["profile"], found["profiles"], found["rungs"]) == (
        "cpu",
        ["cpu", "broken"],
        [{"epochs": 1, "trials": 2}],
    )


def test_without_a_profile_every_profile_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "profiled.yaml"
    file.write_text(PROFILED)
    result = run(app, ["validate", str(file)])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "under --profile broken:"
    assert result.stderr.splitlines()[1].startswith(f"{file}:8:39: trial.schedule.epochs: 0 given")
    file.write_text(PROFILED.partition("  broken")[0])
    assert run(app, ["validate", str(file)]).exit_code == 0
    assert run(app, ["validate", str(file), "--profile", "cpy"]).exit_code == 2
