"""Run the commands of every page as they stand, in a clean clone of HEAD; ``make tour`` runs this.

README comes first, with its installation and its full sweep, and has a limit of fifteen minutes. The other pages follow
in the same clone, cleaned before each, and with the same home.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.parts.documents import ROOT, all_blocks, blocks_of
from tests.parts.pages import check_output, is_run, script_of

README = "README.md"
README_LIMIT_S = 15 * 60
_OURS = ("AGR_", "MLFLOW_", "RAY_", "VIRTUAL_ENV", "PYTHONPATH")


def pages() -> list[str]:
    """Return the pages with commands to run, README first."""
    named = {block.document for block in all_blocks() if is_run(block, nightly=True)}
    return sorted(named, key=lambda page: (page != README, page))


def run_page(page: str, clone: Path, environment: dict[str, str]) -> float:
    """Run a page in one shell, with its output on the terminal; return the seconds it took.

    Raises:
        AssertionError: If a command fails or prints an error, or README takes too long.
    """
    script = script_of(block for block in blocks_of(ROOT / page) if is_run(block, nightly=True))
    started, printed = time.monotonic(), []
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=clone, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as shell:  # fmt: skip
        assert shell.stdout is not None
        for line in shell.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            printed.append(line)
    took = time.monotonic() - started
    check_output("".join(printed[-200:]), shell.returncode)
    check_output("".join(printed), 0)
    assert page != README or took < README_LIMIT_S, f"README's tour took {took:.0f} s"
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", default=pages(), help="such as docs/start.md; README.md first installs")
    parser.add_argument("--folder", type=Path, help="keep clone and home here; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agr-tour-") as temporary:
        folder = arguments.folder or Path(temporary)
        clone = folder / "agr"
        if not clone.exists():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment["AGR_HOME"] = str(folder / "home")
        in_venv = environment | {"PATH": f"{clone / '.venv/bin'}{os.pathsep}{environment['PATH']}"}
        results = {}
        for page in arguments.pages:
            print(f"\n===== {page}", flush=True)
            subprocess.run(["git", "clean", "-fdq"], cwd=clone, check=True)
            try:
                took = run_page(page, clone, environment if page == README else in_venv)
                results[page] = f"{took:6.0f} s"
            except AssertionError as error:
                results[page] = f"FAILED: {str(error).splitlines()[0]}"
            finally:
                if page == "docs/stack.md":
                    subprocess.run(["agr", "stack", "down"], cwd=clone, env=in_venv, check=False)
        print("\n" + "\n".join(f"{page:30} {result}" for page, result in results.items()))
    return int(any(result.startswith("FAILED") for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
