"""Helpers for ``sweeps/seeds``: commands from the files' headers, and drawn data in the layouts of their data sets.

``python -m tests.parts.seeds`` submits each file as shipped, without a profile, by the command of its header; ``make
seeds-as-shipped`` runs it. Arguments select files, and ``--seed`` draws other faces. Unless ``AGR_HOME`` is set, each
sweep is stored in a folder of ``build/seeds-as-shipped`` and removed when it has completed: all together hold 40 GB.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from agr_core.config import SyntheticConfig
from agr_core.data.drawn.layouts import LAYOUTS, write_layout

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "sweeps" / "seeds"
NAMES = tuple(sorted(path.stem for path in SEEDS.glob("*.yaml")))
DRAWN = "build/drawn"
"""Where the headers' commands look for drawn data."""

_COMMAND = re.compile(r"# (\w+) +(.*)")


def commands(name: str, kind: str) -> list[list[str]]:
    """Return the words of each header command for ``kind`` (``draw``, ``drawn``, ``table``), its lines joined."""
    found: list[str] = []
    goes_on = False
    for line in (SEEDS / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if goes_on:
            found[-1] += " " + line.removeprefix("#").strip()
        elif (match := _COMMAND.fullmatch(line)) and match[1] == kind and match[2].startswith("agr "):
            found.append(match[2])
        else:
            continue
        goes_on = found[-1].endswith("\\")
        found[-1] = found[-1].removesuffix("\\").strip()
    return [shlex.split(command) for command in found]


def overrides(name: str, drawn: Path) -> list[str]:
    """Return the ``--set`` arguments of a header's command for drawn data in the folder ``drawn``."""
    (words,) = commands(name, "drawn")
    assert words[:3] == ["agr", "submit", f"sweeps/seeds/{name}.yaml"], words
    assert set(words[3::2]) == {"--set"}, words
    return [text.replace(f"{DRAWN}/", f"{drawn}/") for text in words[4::2]]


@dataclass(frozen=True)
class Drawing:
    """Arguments of a header's ``agr data synth``: ``images`` faces of ``size`` pixels in the files of a ``layout``."""

    layout: str
    images: int
    size: int
    seed: int = 0


def drawings(name: str) -> dict[str, Drawing]:
    """Return what a header draws for its command, by the folder in ``DRAWN``."""
    by_folder: dict[str, Drawing] = {}
    for words in commands(name, "draw"):
        assert words[:3] == ["agr", "data", "synth"], words
        options = {option.lstrip("-"): value for option, value in zip(words[3::2], words[4::2], strict=True)}
        folder = options.pop("o").removeprefix(f"{DRAWN}/")
        layout = options.pop("layout")
        by_folder[folder] = Drawing(layout, **{option: int(value) for option, value in options.items()})
    return by_folder


def draw(folder: Path, *, images: int | None = None, size: int | None = None, seed: int = 0) -> None:
    """Draw the faces of every header, each data set into its own folder of ``folder``, unless that exists.

    ``images`` and ``size`` replace those of the headers; ``seed`` is added to theirs.
    """
    every = {place: drawing for name in NAMES for place, drawing in drawings(name).items()}
    for place, drawing in every.items():
        if (folder / place).exists():  # it appears whole
            continue
        config = SyntheticConfig(
            like=LAYOUTS.get(drawing.layout).like,
            images=images or drawing.images,
            size=size or drawing.size,
            seed=seed + drawing.seed,
        )
        write_layout(config, folder / place, drawing.layout)


def main() -> int:
    """Draw the data, then submit the files in sequence; return 0 if all completed, else 1."""
    parser = argparse.ArgumentParser(description="Submit sweeps/seeds as shipped, on drawn data.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"files, of {', '.join(NAMES)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="added to the seeds of the drawn faces")
    parser.add_argument("--images", type=int, help="faces of each data set; default: as in the headers")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"no file {unknown[0]!r} in sweeps/seeds; there are {', '.join(NAMES)}.")
    names = arguments.names or NAMES
    differing = [str(value) for value in (arguments.seed, arguments.images) if value]
    drawn = ROOT / "-".join([DRAWN, *differing])
    draw(drawn, images=arguments.images, seed=arguments.seed)
    agr = str(Path(sys.executable).with_name("agr"))
    refused = []
    for name in names:
        home = ROOT / "build" / "seeds-as-shipped" / name
        environment = {"AGR_HOME": str(home), **os.environ}
        started = time.monotonic()
        words = ["submit", str(SEEDS / f"{name}.yaml")]
        words += [word for text in overrides(name, drawn) for word in ("--set", text)]
        done = subprocess.run([agr, *words], cwd=ROOT, env=environment, check=False)
        sys.stdout.write(f"{name}: exit {done.returncode}, {time.monotonic() - started:.0f} s\n")
        sys.stdout.flush()
        refused += [name] if done.returncode else []
        if done.returncode == 0 and home.exists():  # not where AGR_HOME is set
            shutil.rmtree(home)
    sys.stdout.write(f"{len(names) - len(refused)} of {len(names)} ran to their end\n")
    if refused:
        sys.stdout.write(f"not: {', '.join(refused)}\n")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
