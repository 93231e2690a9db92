"""docs/seeds.md: every row of the five reports has its file, test or page, and every sweep file is on it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agr_core.data.drawn.layouts import LAYOUTS
from orchestrator.spec.checks.metrics_checks import reported
from orchestrator.spec.load import load_sweep
from tests.parts.seeds import NAMES, Drawing, drawings, overrides

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "seeds.md"
SEEDS = ROOT / "sweeps" / "seeds"
REAL = ROOT / "sweeps" / "real"

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


def test_each_header_draws_all_that_its_command_reads_and_headers_agree_on_it() -> None:
    every: dict[str, Drawing] = {}
    for name in NAMES:
        read = {value for value in overrides(name, Path("drawn")) if "=drawn/" in value}
        assert {value.split("=drawn/")[1] for value in read} == set(drawings(name)), name
        for folder, drawing in drawings(name).items():
            assert every.setdefault(folder, drawing) == drawing, (name, folder)
    seeds_of_one_kind = [(LAYOUTS.get(drawing.layout).like, drawing.seed) for drawing in every.values()]
    assert len(set(seeds_of_one_kind)) == len(every), "the same faces in two data sets"


def test_make_runs_all_files_as_shipped_or_those_that_are_named() -> None:
    def recipe(*variables: str) -> list[str]:
        done = subprocess.run(
            ["make", "-n", "-s", "-o", ".venv/.installed-dev", "seeds-as-shipped", *variables],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()[1:]

    assert recipe() == ["-m", "tests.parts.seeds"]
    assert recipe("FILES=s1_caffe s4_bins", "SEED=7") == [*recipe(), "s1_caffe", "s4_bins", "--seed", "7"]


def test_a_file_that_is_not_there_is_refused_before_anything_is_drawn() -> None:
    words = [sys.executable, "-m", "tests.parts.seeds", "1000"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no file '1000' in sweeps/seeds; there are s0_backbones" in done.stderr


@pytest.mark.parametrize("file", sorted(REAL.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_comparison_on_real_faces_has_three_seeds_a_table_and_a_place_on_the_page(file: Path) -> None:
    text = file.read_text()
    document = yaml.safe_load(text)
    assert document["repeat"] == {"seeds": 3}
    table = re.search(r"^# table  (agr table (\S+) --.+)$", text, flags=re.MULTILINE)
    assert table is not None
    assert table[2] == document["name"] == f"real-{file.stem.replace('_', '-')}"
    page = (ROOT / "docs" / "tables.md").read_text()
    assert f"(../sweeps/real/{file.name})" in page
    assert table[1] in page


@pytest.mark.parametrize("file", sorted(REAL.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_comparison_on_real_faces_names_metrics_that_its_labels_have(file: Path) -> None:
    """`agr validate` reads no data, and takes the metrics of both kinds of labels where it does not know the kind."""
    text = file.read_text()
    like = "fairface" if yaml.safe_load(text)["trial"]["data"]["source"] == "fairface" else "plain"
    drawn = ["trial.data.source=synthetic", f"trial.data.synthetic.like={like}"]
    sweep = load_sweep(file, overrides=drawn)  # refuses an objective that no trial reports
    config = sweep.space.build(lambda _, domain: domain.choices[0] if domain.choices else domain.low).config
    columns = re.search(r"^# table  .* --cols (\S+)$", text, flags=re.MULTILINE)
    assert columns is not None
    for column in columns[1].split(","):
        assert f"val/{column.split('/')[1]}" in reported(config), column
