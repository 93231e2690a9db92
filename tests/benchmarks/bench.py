"""Run every benchmark, and print one table: figure, goal, held or not.

    make bench                                         # all of them: about an hour on two cores
    python tests/benchmarks/bench.py --only images train_step
    python tests/benchmarks/bench.py --tiny            # a minute or two: shows that each works

What a benchmark prints is in FOLDER/<name>.log, the whole table in FOLDER/bench.json. Exit code 0: every goal is held;
1: one is not, or a benchmark failed. Not here are the scripts that need a recorded sweep, another version of this
project or other people's packages: ``champion.py``, ``curves.py``, ``rerun_across.py``, ``rerun_all.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measured import Figure, read

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "images": ("images.py",),
    "train_step": ("train_step.py",),
    "staging": ("staging.py",),
    "mlflow_delivery": ("mlflow_delivery.py", "--bare"),
    "many_trials": ("many_trials.py",),
    "orchestration": ("orchestration.py",),
    "slots": ("slots.py",),
    "slots_warm": ("slots.py", "--warm"),
    "search": ("search.py",),
}
"""Script and arguments of each."""


@dataclass(frozen=True)
class Run:
    """How a benchmark went; no figures where it failed."""

    benchmark: str
    code: int
    seconds: float
    figures: list[Figure]

    @property
    def failed(self) -> bool:
        """Whether it ended before it could report; a goal that is not held is no failure."""
        return not self.figures


def run(benchmark: str, folder: Path, *, tiny: bool) -> Run:
    """Run one benchmark in a process of its own."""
    file = folder / f"{benchmark}.json"
    file.unlink(missing_ok=True)
    script, *arguments = BENCHMARKS[benchmark]
    command = [sys.executable, str(HERE / script), *arguments, "--json", str(file)]
    command += ["--tiny"] if tiny else []
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    }
    begin = time.monotonic()
    with (folder / f"{benchmark}.log").open("wb") as log:
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, check=False
        ).returncode
    figures = read(file) if file.exists() else []
    return Run(benchmark, code, time.monotonic() - begin, figures)


def table(runs: Sequence[Run], *, tiny: bool) -> str:
    """All figures in lines of at most 80 characters."""
    lines = [f"{'benchmark':<16}{'figure':<34}{'value':>14}  {'goal':<8}held"]
    for each in runs:
        if each.failed:
            lines.append(f"{each.benchmark:<16}FAILED with exit code {each.code}; see {each.benchmark}.log")
        for number, figure in enumerate(each.figures):
            held = "" if tiny else {None: "", True: "yes", False: "NO"}[figure.held]
            first = each.benchmark if number == 0 else ""
            shown = f"{figure.value:.4g} {figure.unit}".strip()
            lines.append(f"{first:<16}{figure.name:<34}{shown:>14}  {figure.goal:<8}{held}".rstrip())
    return "\n".join(lines)


def main() -> int:
    """Run them, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help="run these alone")
    parser.add_argument("--tiny", action="store_true", help="only show that each works; the figures mean nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/bench"), metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    runs = []
    for benchmark in arguments.only or BENCHMARKS:
        print(f"{benchmark} ...", file=sys.stderr, flush=True)
        runs.append(run(benchmark, arguments.output, tiny=arguments.tiny))
    document = {
        "tiny": arguments.tiny,
        "machine": {"cores": os.cpu_count(), "platform": platform.platform()},
        "benchmarks": [
            {
                "name": each.benchmark,
                "seconds": round(each.seconds, 1),
                "failed": each.failed,
                "code": each.code,
                "figures": [
                    {**asdict(figure), "held": None if arguments.tiny else figure.held} for figure in each.figures
                ],
            }
            for each in runs
        ],
    }
    (arguments.output / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
    print(table(runs, tiny=arguments.tiny))
    return 1 if any(each.failed or each.code for each in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
