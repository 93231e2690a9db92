"""``agr data split``: assign images to train, val and test, and write the assignment to a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, errors_in_one_line, print_json

if TYPE_CHECKING:
    import pandas as pd

    from agr_core.config import DataConfig
    from agr_core.data.splits.split_file import Split


def split(
    source: Annotated[str, typer.Argument(help="Packed folder, s3://bucket/prefix, or a raw folder or archive.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    strategy: Annotated[str, typer.Option(help="stratified, random, kfold, official or file.")] = "stratified",
    by: Annotated[str | None, typer.Option(help="Labels to stratify by, such as age,gender.")] = None,
    fractions: Annotated[str | None, typer.Option(help="Shares of train, val and test, such as 0.8,0.1,0.1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the split.")] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds (kfold).")] = None,
    fold: Annotated[int | None, typer.Option(help="Test fold, counted from 0 (kfold).")] = None,
    train: Annotated[str | None, typer.Option(help="Training partitions, such as 0,1,2 (official).")] = None,
    val: Annotated[str | None, typer.Option(help="Validation partitions (official).")] = None,
    test: Annotated[str | None, typer.Option(help="Test partitions (official).")] = None,
    path: Annotated[str | None, typer.Option(help="Published split: a CSV file, a folder of them, .parquet.")] = None,
    leaks: Annotated[str | None, typer.Option(help="move or keep leaking images of a published split.")] = None,
    leave_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV whose column file lists images to exclude (`data audit`).")
    ] = None,
    ages: Annotated[str | None, typer.Option(help="Lowest and highest age used, in years, such as 10,65.")] = None,
    bins: Annotated[str, typer.Option("--bins", metavar="SCHEME", help="Age bins for the counts.")] = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Split a data set into train, val and test, and print the counts; options have the defaults of `data.split`.

    A trial uses the file with data.split: {strategy: file, path: FILE}. Example: agr data split faces
    -o split.parquet --by age,gender
    """
    with errors_in_one_line():
        from agr_core.bins import check_bins
        from agr_core.data.splits.splits import write_split
        from agr_core.data.stats.stats import describe_split
        from orchestrator.assets.datasets import opened
        from orchestrator.settings import Settings

        check_bins(bins)
        partitions = {"train": _words(train), "val": _words(val), "test": _words(test)}
        given = {
            "strategy": strategy,
            "by": _words(by),
            "fractions": _numbers(fractions, "--fractions"),
            "seed": seed,
            "folds": folds,
            "fold": fold,
            "partitions": {part: words for part, words in partitions.items() if words} or None,
            "path": path,
            "leaks": leaks,
        }
        data = _data_config({"ages": _numbers(ages, "--ages"), "split": _given_options(given)})
        with opened(source, cache=Settings.from_environment().cache) as packed:
            made = _made(packed.table, data, leave_out)
            _refuse_another_split(output, made.digest)
            write_split(made, output)
            _show_split(describe_split(packed, made, bins), output, as_json)


def _made(table: pd.DataFrame, data: DataConfig, leave_out: Path | None) -> Split:
    """Return the split of a data set; images listed in ``leave_out`` are in no part."""
    import numpy as np

    from agr_core.data.audit.fix import read_left_out
    from agr_core.data.splits.splits import LEFT_OUT, make_split

    if leave_out is None:
        return make_split(table, data.split, ages=data.ages)
    out = read_left_out(table, leave_out.expanduser())
    made = make_split(table[~out].reset_index(drop=True), data.split, ages=data.ages)
    parts = np.full(len(table), LEFT_OUT, dtype=object)
    parts[~out] = made.parts
    left_out = {**made.left_out, f"left out by {leave_out.name}": int(out.sum())}
    return replace(made, sample_ids=table["sample_id"].to_numpy(dtype=object), parts=parts, left_out=left_out)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",")]


def _numbers(text: str | None, option: str) -> list[float] | None:
    from agr_core.errors import InputError

    if text is None:
        return None
    try:
        return [int(word) if word.strip().isdigit() else float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {text!r} must be comma-separated numbers, such as 10,65.") from error


def _given_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _data_config(document: dict[str, Any]) -> DataConfig:
    from pydantic import ValidationError

    from agr_core.config import DataConfig
    from agr_core.errors import InputError

    try:
        return DataConfig.model_validate_json(json.dumps(_given_options(document)))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise InputError("; ".join(problems)) from error


def _refuse_another_split(output: Path, digest: str) -> None:
    from agr_core.data.splits.splits import read_split
    from agr_core.errors import InputError

    if output.exists() and read_split(output).digest != digest:
        raise InputError(f"{output} holds another split; choose another file, or remove it.")


def _show_split(description: dict[str, Any], output: Path, as_json: bool) -> None:
    if as_json:
        print_json(description)
        return
    from rich.table import Table

    from orchestrator.cli.render.terminal import Terminal

    console = Terminal(highlight=False)
    console.print(f"{output}: digest {description['digest'][:12]}", soft_wrap=True)
    parts = description["parts"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for part in parts:
        table.add_column(part, justify="right", min_width=8)
    table.add_row("images", *(f"{part['images']:,}" for part in parts.values()))
    for title in ("bins", "gender", "race"):
        for name in next(iter(parts.values()))[title]:
            label = f"age {name}" if title == "bins" else name
            table.add_row(label, *(f"{part[title][name]:,}" for part in parts.values()))
    console.print(table)
    groups = description["groups"]
    console.print(
        f"{groups['groups']:,} groups of identical images or of one subject, {groups['images']:,} images in them"
    )
    for note in description["notes"]:
        console.print(note, soft_wrap=True)
