"""``agr validate`` and ``agr schema``: checks of sweep files before a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import EXIT_INPUT, JsonOption, ProfileOption, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.spec.load import Sweep

_SAMPLES = 3
_SCHEMA = Path("sweeps/schema.json")

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a value: path from the file's root, value as YAML; repeatable. "
        "Example: --set trial.data.source=faces.tar",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(validate)
    app.command()(schema)


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file.")],
    profile: ProfileOption = None,
    overrides: SetOption = None,
    models: Annotated[
        bool,
        typer.Option(
            "--models",
            help="Also build every choice and both ends of every range, without allocating weights; takes seconds.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a sweep file; print the size of its search space, its rungs and three sample trials.

    Every problem is printed as FILE:LINE:COLUMN: PATH: given value, rule, remedy; the exit code is then 2. Without
    --profile the file is checked as it is and with each of its profiles.

    Example: agr validate sweeps/quickstart.yaml
    """
    from orchestrator.errors import SpecError
    from orchestrator.spec.load import load_sweep

    with errors_in_one_line():
        try:
            sweep = load_sweep(file, profile=profile, overrides=overrides or ())
            if profile is None:
                _check_under_profiles(file, sweep.profiles, overrides or (), models=models)
            built = _check_models(sweep, file) if models else None
        except SpecError as error:
            if as_json:
                problems = [{**vars(problem), "file": problem.file or error.file} for problem in error.problems]
                print_json({"problems": problems})
            say(str(error))
            raise typer.Exit(EXIT_INPUT) from error
        summary = _summary(sweep) | {"models": built}
        if as_json:
            print_json(summary)
        else:
            _print(summary)


def _check_models(sweep: Sweep, file: Path) -> int:
    from orchestrator.spec.checks.models import check_models

    return check_models(sweep.space, file=str(file))


def _check_under_profiles(file: Path, profiles: Sequence[str], overrides: Sequence[str], *, models: bool) -> None:
    from orchestrator.errors import SpecError
    from orchestrator.spec.load import load_sweep

    for profile in profiles:
        try:
            sweep = load_sweep(file, profile=profile, overrides=overrides)
            if models:
                _check_models(sweep, file)
        except SpecError:
            say(f"under --profile {profile}:")
            raise
        for warning in sweep.warnings:
            say(f"warning: under --profile {profile}: {warning}")


def schema(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=f"File to write; default: {_SCHEMA} where there is one (a checkout), else standard output.",
        ),
    ] = None,
) -> None:
    """Write the JSON Schema of sweep files, for completion and checks in editors.

    Example: agr schema -o sweep-schema.json
    """
    from agr_core.errors import InputError
    from orchestrator.spec.schema import sweep_schema

    with errors_in_one_line():
        document = json.dumps(sweep_schema(), indent=1) + "\n"
        if output is None and not _SCHEMA.exists():
            sys.stdout.write(document)
            return
        output = output or _SCHEMA
        try:
            output.write_text(document, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}. Give another file with --output.") from error
        say(f"wrote {output}")


def _summary(sweep: Sweep) -> dict[str, Any]:
    """Return the command's JSON document."""
    from orchestrator.spec.checks.check import packages_of
    from orchestrator.spec.preview import rung_table, sample, stages

    search = sweep.spec.search
    assert search is not None  # set by load_sweep
    samples = sample(sweep, _SAMPLES)
    return {
        "name": sweep.spec.name,
        "profile": sweep.profile,
        "profiles": list(sweep.profiles),
        "size": sweep.space.size(),
        "search": {
            "algorithm": search.algorithm,
            "trials": search.trials,
            "seed": search.seed,
            "start": len(search.start),
        },
        "repeat": 1 if sweep.spec.repeat is None else sweep.spec.repeat.seeds,
        "folds": sweep.spec.folds,
        "confirm": None if sweep.spec.confirm is None else sweep.spec.confirm.model_dump(mode="json"),
        "objective": sweep.spec.model_dump(mode="json", include={"objective"})["objective"],
        "keep": {label: objective.model_dump(mode="json") for label, objective in sweep.spec.keep.items()},
        "stages": list(stages(samples)),
        "plugins": packages_of(sweep.space),
        "rungs": [vars(rung) for rung in rung_table(sweep)],
        "samples": [{"variant": drawn.variant, "params": drawn.params} for drawn in samples],
        "warnings": list(sweep.warnings),
        "problems": [],
    }


def _print(summary: dict[str, Any]) -> None:
    from rich.table import Table

    from agr_core.objective import Objective
    from orchestrator.cli.render.terminal import Terminal

    console = Terminal(soft_wrap=True, highlight=False)
    size, search, objective = summary["size"], summary["search"], summary["objective"]
    space = "has continuous ranges" if size is None else f"{size:,} configuration{'s' if size > 1 else ''}"
    seeds = f" with {summary['repeat']} seeds each" if summary["repeat"] > 1 else ""
    if summary["folds"]:
        seeds = f" on {summary['folds']} folds each"
    console.print(f"{summary['name']}: the sweep file is valid")
    if summary["profiles"]:
        console.print(
            f"profiles   {', '.join(_marked(profile, summary['profile']) for profile in summary['profiles'])}"
        )
    console.print(f"space      {space}")
    console.print(f"search     {search['algorithm']}, {search['trials']} configurations{seeds}, seed {search['seed']}")
    if search["start"]:
        console.print(f"start      {search['start']} configurations tried first")
    if summary["confirm"] is not None:
        top, fresh = summary["confirm"]["top"], summary["confirm"]["seeds"]
        console.print(f"confirm    the best {top} again, with {fresh} fresh seeds each")
    for document in objective if isinstance(objective, list) else [objective]:
        aim = Objective.model_validate(document)
        console.print(f"objective  {aim.direction} {aim.formula}")
    for label, document in summary["keep"].items():
        kept = Objective.model_validate(document)
        console.print(f"keep       {label}: {kept.direction} {kept.formula}")
    if summary["models"] is not None:
        console.print(f"models     {summary['models']} different ones built")
    for name, number in summary["plugins"].items():
        console.print(f"plug-in    {name} {number}")
    for row in summary["stages"]:
        console.print(f"stages     {row}")
    rungs = Table(title="Trials that reach an epoch", title_justify="left")
    rungs.add_column("epoch", justify="right")
    rungs.add_column("trials", justify="right")
    for rung in summary["rungs"]:
        rungs.add_row(str(rung["epochs"]), str(rung["trials"]))
    console.print(rungs)
    console.print(_samples_table(summary["samples"]))
    for warning in summary["warnings"]:
        say(f"warning: {warning}")


def _samples_table(samples: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(title="Trials drawn at random", title_justify="left")
    table.add_column("what varies")
    columns = [
        ({} if drawn["variant"] is None else {"variant": drawn["variant"]}) | drawn["params"] for drawn in samples
    ]
    for number in range(1, len(columns) + 1):
        table.add_column(f"trial {number}")
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(_cell(column[name]) if name in column else "" for column in columns))
    return table


def _marked(profile: str, chosen: str | None) -> str:
    return f"{profile} (chosen)" if profile == chosen else profile


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
