"""Three processes that train one trial together, on gloo, against one that trains it alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from agr_core.config import SyntheticConfig, TrialConfig
from agr_core.data.loading.loader import batch_bounds, training_jobs
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.splits.splits import make_split, write_split
from agr_core.errors import ConfigError
from agr_core.evaluation.names import is_of_the_machine
from agr_core.objective import Objective
from agr_core.trainer.loop import Training, evaluate_part

PROCESSES = 3
OBJECTIVE = Objective(metric="val/age_mae", direction="minimize")

# Of these one process and three make the same steps, but for rounding: nothing is drawn or normalised by part.
PLAIN: dict[str, Any] = {
    "image": {"size": 16},
    "tasks": ["age", "gender"],
    "batch_size": 16,
    "accumulate": 2,
    "augment": "light",
    "sampler": {"name": "weighted", "by": "gender"},
    "model": {
        "name": "basic_cnn",
        "conv_layers": 1,
        "base_features": 4,
        "hidden": 8,
        "batch_norm": False,
        "dropout": 0,
    },
    "loss": {"balance": "uncertainty"},
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
    "schedule": {"name": "constant", "epochs": 2},
}
# Of these they do not; but three do what three did.
NOISY: dict[str, Any] = {
    "image": {"size": 16},
    "batch_size": 20,
    "mixup": {},
    "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 4, "hidden": 8},
    "optimizer": {"name": "adam", "lr": 0.01},
    "averaging": {"name": "swa", "start_epoch": 1},
    "schedule": {"name": "constant", "epochs": 2},
}
CASCADE: dict[str, Any] = {
    **{part: NOISY[part] for part in ("image", "batch_size", "optimizer")},
    "model": {"name": "cascade", "by": "race", "base": NOISY["model"]},
    "schedule": {"name": "constant", "epochs": 1},
}

# One process of the three. For each configuration: trains it, and trains it again in a second training that goes on
# from the checkpoint of the first after one epoch.
PROCESS = """
import json, os, sys
from pathlib import Path
from torch import distributed
from agr_core.config import TrialConfig
from agr_core.data.loading.trial_data import TrialData
from agr_core.objective import Objective
from agr_core.trainer.distributed import Team
from agr_core.trainer.loop import Training
folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
team = Team.joined()
for name, document in json.loads((folder / "configs.json").read_text()).items():
    config = TrialConfig.from_document(document)
    data = TrialData.open(
        config, packed=folder / "packed", split=folder / "split.parquet", cache=folder, part=(rank, size)
    )
    objective = Objective(metric="val/age_mae", direction="minimize")
    training = Training(config, data, objective, team=team)
    while not training.finished:
        training.run_epoch()
        if team.leads and training.epochs_done == 1:
            training.save(folder / name / "first")
    if team.leads:
        training.save(folder / name / "whole")
    distributed.barrier()
    again = Training(config, data, objective, team=team)
    again.restore(folder / name / "first")
    while not again.finished:
        again.run_epoch()
    if team.leads:
        again.save(folder / name / "resumed")
    sums = team.gather(sum(float(p.double().sum()) for p in again._predictor.model.state_dict().values()))
    assert len(set(sums)) == 1, sums
distributed.destroy_process_group()
os._exit(0)  # all is written; now and then a thread of torch's aborts a process that ends in the usual way
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes left."""
    folder = tmp_path_factory.mktemp("together")
    pack("synthetic", folder / "packed", synthetic=SyntheticConfig(images=60, size=16, seed=3))
    config = TrialConfig.from_document(PLAIN)
    write_split(make_split(Packed.open(folder / "packed").table, config.data.split), folder / "split.parquet")
    documents = {
        name: {**document, "compute": {"processes": PROCESSES}}
        for name, document in (("plain", PLAIN), ("noisy", NOISY), ("cascade", CASCADE))
    }
    (folder / "configs.json").write_text(json.dumps(documents))
    command = [sys.executable, "-c", PROCESS, str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank), str(PROCESSES)], stderr=subprocess.PIPE, text=True)
        for rank in range(PROCESSES)
    ]
    try:
        said = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * PROCESSES, "\n".join(said)
    return folder


def trial_data(folder: Path, document: dict[str, Any]) -> TrialData:
    config = TrialConfig.from_document(document)
    return TrialData.open(config, packed=folder / "packed", split=folder / "split.parquet", cache=folder)


def reports(checkpoint: Path) -> list[dict[str, Any]]:
    """Figures of each epoch, without times."""
    loop = json.loads((checkpoint / "state.json").read_text())["loop"]
    return [
        {name: value for name, value in report["metrics"].items() if not is_of_the_machine(name)}
        for report in loop["reports"]
    ]


@pytest.mark.slow
class TestTogether:
    def test_three_processes_make_the_steps_of_one(self, folder: Path) -> None:
        alone = Training(TrialConfig.from_document(PLAIN), trial_data(folder, PLAIN), OBJECTIVE)
        while not alone.finished:
            alone.run_epoch()
        alone.save(folder / "alone")

        one, three = (load_file(folder / place / "last.safetensors") for place in ("alone", "plain/whole"))
        assert one.keys() == three.keys()
        assert any(name.startswith("loss.") for name in one), "learned weights of the tasks"
        for name in one:
            torch.testing.assert_close(three[name], one[name], rtol=1e-4, atol=1e-5)
        for of_one, of_three in zip(reports(folder / "alone"), reports(folder / "plain/whole"), strict=True):
            assert of_three.keys() == of_one.keys()
            for name, value in of_one.items():
                assert of_three[name] == pytest.approx(value, rel=0.02, abs=0.02), name

    @pytest.mark.parametrize("name", ["plain", "noisy", "cascade"])
    def test_a_resumed_training_has_the_bits_of_the_uninterrupted_one(self, folder: Path, name: str) -> None:
        whole, resumed = (load_file(folder / name / end / "last.safetensors") for end in ("whole", "resumed"))
        assert all(torch.equal(whole[tensor], resumed[tensor]) for tensor in whole)
        assert reports(folder / name / "whole") == reports(folder / name / "resumed")

    @pytest.mark.parametrize(("name", "document"), [("plain", PLAIN), ("noisy", NOISY), ("cascade", CASCADE)])
    def test_the_figures_are_those_of_the_whole_part(self, folder: Path, name: str, document: dict[str, Any]) -> None:
        config, data = TrialConfig.from_document(document), trial_data(folder, document)
        said = reports(folder / name / "whole")
        best = min(said, key=lambda metrics: float(metrics["val/age_mae"]))
        found = evaluate_part(config, data, folder / name / "whole/best.safetensors", "val").metrics
        # The same images in the same order and batches: not a bit differs.
        assert {figure: best[figure] for figure in found} == found


def jobs(rank: int, processes: int, n: int = 103, batch_size: int = 16) -> list[Any]:
    order = np.random.default_rng(0).permutation(n)
    return list(training_jobs(order, batch_size=batch_size, seed=1, epoch=2, augmented=True, part=(rank, processes)))


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_each_batch_is_shared_out_without_overlap_each_image_with_its_own_seed(processes: int) -> None:
    parts = [jobs(rank, processes) for rank in range(processes)]
    bounds = batch_bounds(103, 16, processes=processes)
    whole = jobs(0, 1)
    rows = np.concatenate([job.rows for job in whole])
    seeds = [seed for job in whole for seed in job.seeds]
    for number, (start, stop) in enumerate(bounds):
        shared = [part[number] for part in parts]
        np.testing.assert_array_equal(np.concatenate([job.rows for job in shared]), rows[start:stop])
        assert [seed for job in shared for seed in job.seeds] == seeds[start:stop]
        assert {job.whole for job in shared} == {stop - start}
        sizes = [len(job.rows) for job in shared]
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
    assert bounds[-1][1] == 103


def test_a_batch_too_small_to_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size=7 is shared by compute\.processes=4"):
        TrialConfig.from_document({"batch_size": 7, "compute": {"processes": 4}})


def test_a_team_of_another_size_than_configured_is_refused(make_config: Any, data: Any, objective: Objective) -> None:
    with pytest.raises(ConfigError, match=r"compute\.processes=2, but 1 train"):
        Training(make_config(compute={"processes": 2}), data, objective)


def test_the_number_of_processes_is_part_of_what_is_trained() -> None:
    digests = {
        TrialConfig.from_document({"compute": {"processes": processes}}).digest(data_digest="d", split_digest="s")
        for processes in (1, 2)
    }
    assert len(digests) == 2
    assert TrialConfig().digest(data_digest="d", split_digest="s") in digests
