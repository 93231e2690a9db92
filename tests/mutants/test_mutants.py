"""The run of mutants, on a small project with a tested and an untested line."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cosmic_ray.work_item import MutationSpec

from tests.mutants import mutants
from tests.mutants.mutants import Baseline, annotations, known_equivalents, shortest_reaching, statement_lines

ROOT = Path(__file__).parents[2]

MODULE = '''\
"""Ages."""
from __future__ import annotations

LIMIT: int | None = 18


def is_adult(age: int | None) -> bool:
    return (
        age is not None
        and age >= LIMIT
    )


def is_child(age: int) -> bool:
    if age < LIMIT:
        return True
    return False


def never_called(age: int) -> int:
    return age + 1
'''

TESTS = """\
from ages.rules import is_adult, is_child


def test_adults_are_at_least_18():
    assert [is_adult(age) for age in (None, 17, 18, 19)] == [False, False, True, True]


def test_children_have_a_test_that_sees_little():
    assert is_child(3)
"""

CONFIG = """\
[cosmic-ray]
module-path = ["ages"]
excluded-modules = []

[selection]
tests = ["tests"]
markers = "not slow"
preload = []
"""


def test_annotations_are_no_places_to_change() -> None:
    places = annotations(MODULE)
    lines = MODULE.splitlines()
    assert {lines[line - 1][column] for line, column in places} >= set("int|None")
    assert {line for line, _ in places} == {4, 7, 14, 20}
    assert (4, lines[3].index("18")) not in places


@pytest.mark.parametrize(("line", "statement"), [(4, {4}), (9, {8, 9, 10, 11}), (7, {7}), (15, {15}), (16, {16})])
def test_a_change_is_seen_by_the_tests_that_reach_its_statement(line: int, statement: set[int]) -> None:
    assert set(statement_lines(MODULE, line)) == statement


def test_the_shortest_tests_come_first_and_take_no_longer_than_a_limit() -> None:
    baseline = Baseline(
        seconds={"long": 90.0, "middle": 10.0, "short": 1.0, "other": 0.1},
        reached={"ages/rules.py": {9: ["long", "short", "middle"], 16: ["long"], 4: [""], 15: ["other", "long"]}},
    )

    def chosen(line: int) -> list[str]:
        mutation = MutationSpec(Path("ages/rules.py"), "core/AddNot", 0, (line, 0), (line, 1))
        return shortest_reaching(mutation, MODULE, baseline)

    assert chosen(10) == ["short", "middle"]
    assert chosen(16) == ["long"], "one at least"
    assert chosen(4) == ["other", "short", "middle"], "what runs on import is tested by all of the module's tests"
    assert chosen(20) == []


def test_every_equivalent_mutant_is_of_a_line_that_is_there() -> None:
    gone = [
        (module, diff)
        for module, diff in known_equivalents(ROOT)
        if diff.splitlines()[0].removeprefix("- ")
        not in {line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()}
    ]
    assert gone == []


@pytest.mark.slow
def test_what_a_test_sees_is_killed_and_what_none_sees_survives(tmp_path: Path) -> None:
    files = {
        "ages/__init__.py": "",
        "ages/rules.py": MODULE,
        "tests/test_rules.py": TESTS,
        mutants.CONFIG: CONFIG,
        mutants.EQUIVALENT: textwrap.dedent("""\
            [[mutant]]
            module = "ages/rules.py"
            line = "return age + 1"
            becomes = "return age + 2"
            why = "nobody calls it"
        """),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    def run(*arguments: str) -> str:
        command = [sys.executable, str(Path(mutants.__file__)), "--sample", "100", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    shown = run()

    outcomes = {tuple(line.split()[-2:]) for line in shown.splitlines() if "/rules.py:" in line}
    assert {("killed", "ages/rules.py:10"), ("survived", "ages/rules.py:17")} <= outcomes
    assert ("killed", "ages/rules.py:17") not in outcomes
    survivors = (tmp_path / "build/mutants/survivors.txt").read_text()
    assert "never_called" in survivors or shown.splitlines()[-3].endswith("| 1 |"), "it may be the equivalent one"
    assert "return False\n+ return True" in survivors
    assert (tmp_path / "ages/rules.py").read_text() == MODULE, "only the copy is changed"
    again = run("--resume")
    assert "/rules.py:" not in again, "nothing is tried twice"
    assert again.splitlines()[-4:] == shown.splitlines()[-4:]
