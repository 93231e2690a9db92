"""Every benchmark at its tiny size, through ``bench.py``: that each runs to its end and reports; and the table."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import bench
import measured
from bench import BENCHMARKS, Run, table
from measured import Figure

HERE = Path(__file__).parent
NEED_MORE = {"champion", "curves", "package_model", "rerun_across", "rerun_all"}
"""Scripts that need a recorded sweep, another version of this project, or other people's packages."""
PARTS = {"bench", "eta", "measured"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Folder, document and table of all benchmarks at their tiny size."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, str(HERE / "bench.py"), "--tiny", "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads((folder / "bench.json").read_text())
    return folder, {each["name"]: each for each in document["benchmarks"]}, done.stdout


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_each_runs_to_its_end_and_reports(tiny: tuple[Path, dict[str, Any], str], benchmark: str) -> None:
    folder, found, _ = tiny
    log = (folder / f"{benchmark}.log").read_text()
    assert not found[benchmark]["failed"], log
    assert found[benchmark]["code"] == 0, log
    for figure in found[benchmark]["figures"]:
        assert not math.isnan(figure["value"]), figure
        assert figure["held"] is None, "a tiny size says nothing of a goal"


@pytest.mark.slow
@pytest.mark.services
def test_the_table_names_every_benchmark_in_80_columns(tiny: tuple[Path, dict[str, Any], str]) -> None:
    _, found, shown = tiny
    assert found.keys() == BENCHMARKS.keys()
    for benchmark in BENCHMARKS:
        assert f"\n{benchmark} " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_every_script_is_a_benchmark_or_known_to_need_more() -> None:
    scripts = {path.stem for path in HERE.glob("*.py") if not path.stem.startswith("test_")}
    assert scripts == {Path(script).stem for script, *_ in BENCHMARKS.values()} | NEED_MORE | PARTS


def figure(value: float, **goal: float) -> Figure:
    return Figure(name="speed", value=value, unit="times", **goal)


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (figure(2.0), None),
        (figure(2.0, at_least=2.0), True),
        (figure(1.9, at_least=2.0), False),
        (figure(2.0, at_most=2.0), True),
        (figure(2.1, at_most=2.0), False),
        (figure(math.inf, at_most=2.0), False),
    ],
)
def test_a_goal_is_held_or_not(given: Figure, held: bool | None) -> None:
    assert given.held is held


@pytest.mark.parametrize(("value", "tiny", "code"), [(1.0, False, 1), (1.0, True, 0), (3.0, False, 0)])
def test_a_goal_that_is_not_held_is_the_exit_code(tmp_path: Path, value: float, tiny: bool, code: int) -> None:
    arguments = argparse.Namespace(tiny=tiny, json=tmp_path / "figures.json")
    assert measured.report([figure(5.0), figure(value, at_least=2.0)], arguments) == code
    assert measured.read(arguments.json) == [figure(5.0), figure(value, at_least=2.0)]


def test_the_table_says_what_failed_and_what_is_not_held() -> None:
    runs = [
        Run("images", 1, 1.0, [figure(1.5, at_least=2.0), figure(3.0, at_least=2.0), figure(4.0)]),
        Run("slots", 3, 1.0, []),
    ]
    lines = [line.split() for line in table(runs, tiny=False).splitlines()[1:]]
    assert lines == [
        ["images", "speed", "1.5", "times", "≥", "2", "NO"],
        ["speed", "3", "times", "≥", "2", "yes"],
        ["speed", "4", "times"],
        ["slots", "FAILED", "with", "exit", "code", "3;", "see", "slots.log"],
    ]


def test_a_benchmark_that_crashes_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.BENCHMARKS, "images", ("images.py", "--rounds", "none"))
    crashed = bench.run("images", tmp_path, tiny=True)
    assert crashed.failed
    assert crashed.code == 2
    assert "invalid int value" in (tmp_path / "images.log").read_text()
