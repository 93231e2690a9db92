"""Records a small trial with an older commit and trains it again with this checkout; the figures must be identical.

    python tests/benchmarks/rerun_across.py COMMIT [--sweep FILE]

The older commit is checked out beside this repository's files and imported from there, in this environment and on this
machine, so that only the code differs. Its first trial is then trained again by `agr rerun --json` of this checkout.
Prints both trials, whether they are identical, and every drift that the re-run lists. Exits with 1 if a figure differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SWEEP = """\
name: across
trial:
  data: {source: synthetic, synthetic: {images: 300}, split: {strategy: stratified, by: [age, gender], seed: 42}}
  tasks: [age, gender]
  image: {size: 32}
  batch_size: 64
  model: {name: basic_cnn, base_features: 8, conv_layers: 2}
  schedule: {name: cosine, epochs: 2}
space:
  optimizer: {name: nadam, lr: {loguniform: [1.0e-4, 1.0e-2]}}
search: {algorithm: random, trials: 1, seed: 7}
objective: {metric: val/age_mae, direction: minimize}
"""


def agr(code: Path, home: Path, *arguments: str) -> Any:
    """The JSON that a command of the sources in ``code`` prints; its other output goes to this process's."""
    environment = {**os.environ, "PYTHONPATH": str(code), "AGR_HOME": str(home)}
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments, "--json"]
    done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"`agr {' '.join(arguments)}` of {code} ended with {done.returncode} and printed no result.")
    return json.loads(done.stdout)


def main() -> int:
    """Record, train again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the commit that records the trial")
    parser.add_argument("--sweep", type=Path, help="a sweep file that both commits take; default: one small trial")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, older = Path(folder, "home"), Path(folder, "older")
        home.mkdir()
        file = Path(folder, "across.yaml")
        file.write_text(arguments.sweep.read_text("utf-8") if arguments.sweep else SWEEP, encoding="utf-8")
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", older, arguments.commit], check=True)
        try:
            recorded = agr(older, home, "submit", str(file))["best"]
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", older], check=True)
        again = agr(ROOT, home, "rerun", recorded["trial_id"])
    print(f"recorded by {arguments.commit}: trial {recorded['trial_id']}, value {recorded['value']}")
    print(f"trained again: trial {again['trial_id']}, largest difference {again['max_abs_diff']}")
    print(*(f"drift: {line}" for line in again["drift"]), sep="\n")
    print(*(f"difference: {line}" for line in again["differences"]), sep="\n")
    print("identical" if again["identical"] else "NOT identical")
    return 0 if again["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
