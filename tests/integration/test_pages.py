"""README and every page of the documents: their commands in the order of the page, on sweeps made small.

``make tour`` runs them unchanged, and those of blocks that are marked for it too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.documents import ROOT, all_blocks, blocks_of
from tests.parts.pages import Shell, is_run

pytestmark = pytest.mark.slow

PAGES = sorted({block.document for block in all_blocks() if is_run(block, nightly=False)})
FIRST = "agr submit sweeps/quickstart.yaml"
SMALLER = {
    "quickstart.yaml": {"{images: 3000}": "{images: 300}", "epochs: 6": "epochs: 3", "trials: 20": "trials: 4"},
    "ablation.yaml": {
        "source: synthetic\n": "source: synthetic\n    synthetic: {images: 300}\n",
        "epochs: 5": "epochs: 1",
    },
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"AGR_HOME": str(tmp_path_factory.mktemp("pages") / "home"), "MLFLOW_TRACKING_URI": ""}


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Shell:
    """A shell in a folder of its own, with the repository's sweeps, some of them made smaller."""
    shutil.copytree(ROOT / "sweeps", tmp_path / "sweeps")
    for name, changes in SMALLER.items():
        file = tmp_path / "sweeps" / name
        text = file.read_text()
        for shipped, small in changes.items():
            assert text.count(shipped) == 1, f"{name}: {shipped}"
            text = text.replace(shipped, small)
        file.write_text(text)
    return Shell(tmp_path, environment)


@pytest.fixture(scope="module")
def done() -> Iterator[set[str]]:
    """Lines of earlier pages that are not run again."""
    return set()


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_they_say(page: str, shell: Shell, done: set[str]) -> None:
    if FIRST not in done:
        shell.run_line(FIRST)
        done.add(FIRST)
    for block in blocks_of(ROOT / page):
        if is_run(block, nightly=False):
            shell.run(block, done=done)
