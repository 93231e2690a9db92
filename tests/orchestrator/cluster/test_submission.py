from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agr_core.errors import InputError
from orchestrator.cluster.submission import leave_submission, local_files, take_submission
from orchestrator.spec.load import load_sweep
from orchestrator.storage import open_storage

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        pytest.param({"trial": {"data": {"source": "faces/utk"}}}, ["trial.data.source=faces/utk"], id="folder"),
        pytest.param({"trial": {"data": {"source": "s3://b/utk"}}}, [], id="store"),
        pytest.param({"trial": {"data": {"source": "synthetic"}}}, [], id="drawn"),
        pytest.param({"trial": {"data": {"source": "synthetic:7"}}}, [], id="drawn from a seed"),
        pytest.param(
            {"space": {"data": {"source": ["s3://b/x", "/data/y"]}}},
            ["space.data.source=/data/y"],
            id="one of a choice",
        ),
        pytest.param(
            {"space": {"data": {"source": {"choice": ["/data/y"]}}}},
            ["space.data.source=/data/y"],
            id="explicit choice",
        ),
        pytest.param(
            {"variants": {"a": {"data": {"sources": {"u": "u.tar", "v": "s3://b/v"}}}}},
            ["variants.a.data.sources.u=u.tar"],
            id="one of several sources",
        ),
        pytest.param(
            {"trial": {"data": {"split": {"strategy": "file", "path": "s.csv"}}}},
            ["trial.data.split.path=s.csv"],
            id="split file",
        ),
        pytest.param(
            {
                "space": {
                    "model": [{"name": "resnet18", "weights": "a.safetensors"}, {"name": "vgg11", "weights": "timm"}]
                }
            },
            ["space.model.weights=a.safetensors"],
            id="weights of a branch",
        ),
        pytest.param({"trial": {"model": {"weights": "trial:1234"}}}, [], id="weights of a trial"),
    ],
)
def test_files_of_this_machine_are_found_wherever_they_stand(document: dict[str, Any], named: list[str]) -> None:
    assert list(local_files(document)) == named


def test_a_sweep_with_local_data_is_refused_with_the_command_that_helps() -> None:
    sweep = load_sweep(ROOT / "sweeps/quickstart.yaml", overrides=["trial.data.source=faces"])
    with pytest.raises(InputError, match=r"trial.data.source=faces.*agr data pack FOLDER -o s3://"):
        leave_submission(open_storage("s3://bucket/prefix"), "quickstart-1", sweep)


def test_a_storage_of_this_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder of this machine"):
        leave_submission(open_storage(str(tmp_path)), "quickstart-1", load_sweep(ROOT / "sweeps/quickstart.yaml"))


@pytest.mark.services
def test_a_sweep_comes_out_of_the_storage_as_it_went_in(s3_uri: str) -> None:
    sweep = load_sweep(ROOT / "sweeps/quickstart.yaml", overrides=["search.trials=3"])
    leave_submission(open_storage(s3_uri), "quickstart-1", sweep)
    taken = take_submission(open_storage(s3_uri), "quickstart-1")
    assert taken.document == sweep.document
    assert taken.spec == sweep.spec
    assert taken.profile == sweep.profile
