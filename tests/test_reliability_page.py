"""docs/reliability.md: every fault has a test, and every test that is named exists."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_every_fault_says_what_happens_and_what_is_lost() -> None:
    assert len(rows()) >= 20
    for row in rows():
        assert len(row) == 4, row
        assert all(row), row


def test_every_fault_is_shown_by_tests_that_exist() -> None:
    for fault, *_, shown_by in rows():
        links = re.findall(r"\[(test_\w+)\]\(([^)]+)\)", shown_by)
        assert links, f"{fault}: no test"
        for name, target in links:
            path = (PAGE.parent / target).resolve()
            assert path.exists(), f"{fault}: {target}"
            assert re.search(rf"def {name}\(", path.read_text(encoding="utf-8")), f"{fault}: no {name} in {target}"
