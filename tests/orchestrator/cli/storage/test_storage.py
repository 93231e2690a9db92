"""``agr storage`` as people and scripts see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result

from orchestrator.storage.local import LocalStorage

if TYPE_CHECKING:
    from tests.parts.odd_s3 import OddS3

Agr = Callable[..., Result]


def test_check_prints_a_table_with_a_verdict_and_a_document_for_scripts(agr: Agr, tmp_path: Path) -> None:
    folder = str(tmp_path / "folder")

    shown = agr("storage", "check", folder).stdout
    document = json.loads(agr("storage", "check", folder, "--json").stdout)

    assert shown.endswith(f"{folder} can hold sweeps\n")
    assert [set(row) for row in document] == 9 * [{"need", "ok", "observed", "ms"}]
    assert all(row["need"] in shown for row in document)


def test_check_of_a_store_that_lacks_something_ends_with_1_and_names_it(
    agr: Agr, odd_s3: Callable[[str], OddS3]
) -> None:
    odd_s3("conditional-ignored")

    shown = agr("storage", "check", "s3://bucket/a", code=1).stdout
    document = json.loads(agr("storage", "check", "s3://bucket/a", "--json", code=1).stdout)

    assert "s3://bucket/a cannot hold sweeps: conditional create" in shown
    assert [row["need"] for row in document if not row["ok"]] == ["conditional create"]


def test_check_takes_the_storage_of_the_environment(agr: Agr, tmp_path: Path) -> None:
    assert str(tmp_path / "storage") in agr("storage", "check").stdout


@pytest.mark.parametrize("manner", ["conditional-501", "conditional-ignored", "expired"])
def test_submit_refuses_a_store_that_cannot_hold_sweeps_before_anything_goes_up(
    agr: Agr, odd_s3: Callable[[str], OddS3], tmp_path: Path, manner: str
) -> None:
    store = odd_s3(manner)
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "name: tiny\n"
        "trial:\n  data: {source: synthetic}\n  schedule: {name: constant, epochs: 1}\n"
        "search: {algorithm: random, trials: 1}\n"
        "objective: {metric: val/age_mae, direction: minimize}\n"
    )

    result = agr("submit", str(file), "--storage", "s3://bucket/a", code=1)

    assert "s3://bucket/a" in result.stderr
    assert "Traceback" not in result.stderr
    assert not any("datasets" in path or "sweeps" in path for _, path, _ in store.requests)


def test_copy_copies_all_sweeps_or_those_that_are_named(
    agr: Agr, record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    for number in (1, 2):
        sweep = record_sweep(f"faces-20260102-03040{number}-abcd")
        sweep.trial(0, [5.0])
        sweep.end()
    source, target = sweep.storage.uri, str(tmp_path / "target")

    some = json.loads(agr("storage", "copy", source, target, "faces-20260102-030401", "--json").stdout)
    rest = agr("storage", "copy", source, target)

    assert [copied["sweep_id"] for copied in some["sweeps"]] == ["faces-20260102-030401-abcd"]
    assert LocalStorage(tmp_path / "target").folders("sweeps") == LocalStorage(Path(source)).folders("sweeps")
    assert "were already there" in rest.stderr


def test_copy_refuses_one_and_the_same_storage_and_one_without_sweeps(agr: Agr, tmp_path: Path) -> None:
    folder = str(tmp_path / "folder")

    assert "one storage" in agr("storage", "copy", folder, folder, code=2).stderr
    assert "there is no sweep" in agr("storage", "copy", folder, str(tmp_path / "other"), code=2).stderr
