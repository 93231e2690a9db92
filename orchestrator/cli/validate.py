"""``agr validate`` and ``agr schema``: sweep files, before anything is rented."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import EXIT_INPUT, JsonOption, ProfileOption, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.spec.load import Sweep

_SAMPLES = 3

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the file first: path from its root, value as YAML; may be repeated. "
        "Example: --set trial.data.source=faces.tar",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(validate)
    app.command()(schema)


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep file.")],
    profile: ProfileOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a sweep file; print the size of its space, its rungs and three of its trials.

    Every problem is printed as FILE:LINE:COLUMN: PATH: what was given, the rule, the way out; the exit code is then 2.
    Without --profile the file is checked as it is and under each of its profiles.

    Example: agr validate sweeps/quickstart.yaml
    """
    from orchestrator.errors import SpecError
    from orchestrator.spec.load import load_sweep

    with errors_in_one_line():
        try:
            sweep = load_sweep(file, profile=profile, overrides=overrides or ())
            if profile is None:
                _check_under_profiles(file, sweep.profiles, overrides or ())
        except SpecError as error:
            if as_json:
                problems = [{**vars(problem), "file": problem.file or error.file} for problem in error.problems]
                print_json({"problems": problems})
            say(str(error))
            raise typer.Exit(EXIT_INPUT) from error
        found = _summary(sweep)
        if as_json:
            print_json(found)
        else:
            _print(found)


def _check_under_profiles(file: Path, profiles: Sequence[str], overrides: Sequence[str]) -> None:
    from orchestrator.errors import SpecError
    from orchestrator.spec.load import load_sweep

    for profile in profiles:
        try:
            sweep = load_sweep(file, profile=profile, overrides=overrides)
        except SpecError:
            say(f"under --profile {profile}:")
            raise
        for warning in sweep.warnings:
            say(f"warning: under --profile {profile}: {warning}")


def schema(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("sweeps/schema.json"),
) -> None:
    """Write the JSON Schema of sweep files, by which editors complete and check them."""
    from agr_core.errors import InputError
    from orchestrator.spec.schema import sweep_schema

    with errors_in_one_line():
        try:
            output.write_text(json.dumps(sweep_schema(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}. Give another file with --output.") from error
        say(f"wrote {output}")


def _summary(sweep: Sweep) -> dict[str, Any]:
    """What the command says, as JSON."""
    from orchestrator.spec.preview import rung_table, sample, stages

    search = sweep.spec.search
    assert search is not None  # load_sweep fills it in
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
        "confirm": None if sweep.spec.confirm is None else sweep.spec.confirm.model_dump(mode="json"),
        "objective": sweep.spec.model_dump(mode="json", include={"objective"})["objective"],
        "keep": {label: objective.model_dump(mode="json") for label, objective in sweep.spec.keep.items()},
        "stages": list(stages(samples)),
        "rungs": [vars(rung) for rung in rung_table(sweep)],
        "samples": [{"variant": drawn.variant, "params": drawn.params} for drawn in samples],
        "warnings": list(sweep.warnings),
        "problems": [],
    }


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    from agr_core.objective import Objective
    from orchestrator.cli.terminal import Terminal

    console = Terminal(soft_wrap=True, highlight=False)
    size, search, objective = found["size"], found["search"], found["objective"]
    space = "has continuous ranges" if size is None else f"{size:,} configuration{'s' if size > 1 else ''}"
    seeds = f" with {found['repeat']} seeds each" if found["repeat"] > 1 else ""
    console.print(f"{found['name']}: the sweep file is right")
    if found["profiles"]:
        console.print(f"profiles   {', '.join(_marked(each, found['profile']) for each in found['profiles'])}")
    console.print(f"space      {space}")
    console.print(f"search     {search['algorithm']}, {search['trials']} configurations{seeds}, seed {search['seed']}")
    if search["start"]:
        console.print(f"start      {search['start']} configurations tried first")
    if found["confirm"] is not None:
        top, fresh = found["confirm"]["top"], found["confirm"]["seeds"]
        console.print(f"confirm    the best {top} again, with {fresh} fresh seeds each")
    for document in objective if isinstance(objective, list) else [objective]:
        aim = Objective.model_validate(document)
        console.print(f"objective  {aim.direction} {aim.formula}")
    for label, document in found["keep"].items():
        kept = Objective.model_validate(document)
        console.print(f"keep       {label}: {kept.direction} {kept.formula}")
    for row in found["stages"]:
        console.print(f"stages     {row}")
    rungs = Table(title="Trials that reach an epoch", title_justify="left")
    rungs.add_column("epoch", justify="right")
    rungs.add_column("trials", justify="right")
    for rung in found["rungs"]:
        rungs.add_row(str(rung["epochs"]), str(rung["trials"]))
    console.print(rungs)
    console.print(_samples_table(found["samples"]))
    for warning in found["warnings"]:
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
