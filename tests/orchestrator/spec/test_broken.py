"""Broken sweep files: each names the problems it must give, in leading comments ``# expect: LINE: PATH: words``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec.load import load_sweep

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
_EXPECT = re.compile(r"# expect: (\d+): ([^ ]*): (.*)")


def expected(path: Path) -> list[tuple[int, str, str]]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    matches = [_EXPECT.fullmatch(line) for line in lines if line.startswith("# expect:")]
    assert matches, f"{path.name} expects nothing"
    return [(int(match[1]), match[2], match[3]) for match in matches if match is not None]


def test_there_are_at_least_twenty_broken_files() -> None:
    assert len(BROKEN) >= 20


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_every_problem_is_reported_with_its_line_and_nothing_else(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep(path)
    problems = caught.value.problems
    wanted = expected(path)
    assert sorted((problem.line, problem.path) for problem in problems) == sorted(
        (line, where) for line, where, _ in wanted
    )
    for line, where, words in wanted:
        messages = [problem.message for problem in problems if (problem.line, problem.path) == (line, where)]
        assert any(words in message for message in messages), messages
    assert all(problem.column >= 1 for problem in problems)
    assert str(caught.value).count("\n") == len(problems) - 1, "one line a problem"
