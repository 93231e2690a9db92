"""docs/seeds.md: every row of the five reports has its file, test or page, and every sweep file is on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "seeds.md"
SEEDS = ROOT / "sweeps" / "seeds"

# The checklist, by report and kind of row: how many there are, so that none gets lost.
ROWS = {"S0": 45, "S1": 38, "S2": 19, "S3": 32, "S4": 87}


def rows() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Kind and links (text, target) of each row."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for line in PAGE.read_text().splitlines():
        match = re.match(r"\| (S\d-\S+) \| (\w+) \| .+ \| (.*) \|$", line)
        if match:
            row, kind, where = match.groups()
            assert row not in found, f"{row} stands twice"
            found[row] = kind, re.findall(r"\[([^]]+)\]\(([^)]+)\)", where)
    return found


def test_no_row_is_lost() -> None:
    counts = {report: sum(row.startswith(report) for row in rows()) for report in ROWS}
    assert counts == ROWS


def test_every_row_is_met_by_something_that_exists() -> None:
    for row, (kind, links) in rows().items():
        assert kind in {"system", "component", "analysis", "caveat"}, row
        assert links, f"{row} is met by nothing"
        for text, target in links:
            path = PAGE if target.startswith("#") else (PAGE.parent / target.split("#")[0]).resolve()
            assert path.exists(), f"{row}: {target}"
            if path.name.startswith("test_"):
                assert f"def {text}(" in path.read_text(), f"{row}: no {text} in {target}"


def test_every_system_has_a_sweep_file() -> None:
    for row, (kind, links) in rows().items():
        if kind == "system":
            assert any(target.startswith("../sweeps/seeds/") for _, target in links), row


@pytest.mark.parametrize("file", sorted(SEEDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_file_says_its_command_expectation_and_cost_and_is_on_the_page(file: Path) -> None:
    head = "\n".join(line for line in file.read_text().splitlines() if line.startswith("#"))
    assert f"agr submit sweeps/seeds/{file.name}" in head
    assert "# Expect" in head
    assert "# Cost" in head
    assert f"../sweeps/seeds/{file.name}" in PAGE.read_text()
