"""``agr data pack``: pack a raw data set, or any images with a table of labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import JsonOption, errors_in_one_line, print_json, say
from orchestrator.cli.render.data_tables import print_description

if TYPE_CHECKING:
    from agr_core.data.packed.pack import Packed
    from agr_core.data.readers import Reader
    from agr_core.data.readers.tabular import LabelOptions, Plan

BinsOption = Annotated[str, typer.Option("--bins", metavar="SCHEME", help="Age bins for the counts.")]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="Folder to create, or s3://bucket/prefix.")]

_LOST_WARNING = 0.01


class LabelName(StrEnum):
    """Label that images may lack; Typer lists the names in the help."""

    age = "age"
    gender = "gender"
    race = "race"
    attributes = "attributes"


def pack(
    source: Annotated[
        str, typer.Argument(help="Folder, .tar, .tar.gz or .zip of images, or a table that contains them.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder to create, or s3://bucket/prefix.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Table of labels, beside the images or elsewhere: .csv, .tsv, .jsonl, .parquet or .xlsx.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN,...",
            help="Columns of path, age, gender, race, subject, partition; default: columns of the usual names.",
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="ROLE.VALUE=MEANING,...",
            help="Meaning of label values, such as gender.1=male,race.4=Others.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Reuse --labels, --columns and --map of this packed data set."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the labels and ten images, and write nothing.")
    ] = False,
    reader: Annotated[
        str | None, typer.Option(help="Reader of file names and labels; default: detected from the files.")
    ] = None,
    min_face_score: Annotated[
        float | None, typer.Option(help="Skip images with a lower face detection score (IMDb-WIKI only).")
    ] = None,
    keep_copies: Annotated[
        bool, typer.Option("--keep-copies", help="Pack all copies of a face in Kaggle's edition of UTKFace.")
    ] = False,
    crop: Annotated[
        bool, typer.Option("--crop", help="Pack only the largest face of each image, detected by MTCNN.")
    ] = False,
    margin: Annotated[
        float | None, typer.Option(help="Margin on each side, as a share of the face; default 0.4 (with --crop).")
    ] = None,
    crop_size: Annotated[
        int | None, typer.Option(help="Largest side of a crop, pixels; default: not resized (with --crop).")
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Turn each crop so that the eyes are level (with --crop).")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Number of face detection processes; default: one per core (with --crop).")
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Skip the images in the column file of this CSV, as listed by `agr data audit --fix`."
        ),
    ] = None,
    require: Annotated[list[LabelName] | None, typer.Option(help="Skip images without this label; repeatable.")] = None,
    allow_skipped: Annotated[
        bool, typer.Option("--allow-skipped", help="Pack the rest even if more than 10 % is unusable.")
    ] = False,
    bins: BinsOption = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Pack a raw data set, labels together with images; list unusable files with the reason.

    Examples: agr data pack UTKFace.tar -o s3://agr/utkface
              agr data pack photos --labels labels.csv --map gender.1=male,gender.2=female -o faces
    """
    with errors_in_one_line():
        from agr_core.bins import check_bins
        from agr_core.data.audit.fix import left_out_reasons
        from agr_core.data.face_crop import FaceCropper
        from agr_core.errors import InputError
        from orchestrator.assets.datasets import MAX_LOST, packed_to

        check_bins(bins)
        if not crop and (align or any(option is not None for option in (margin, crop_size, workers))):
            raise InputError("--margin, --crop-size, --align and --workers need --crop; add it, or leave them out.")
        cropper = FaceCropper(margin=0.4 if margin is None else margin, size=crop_size, align=align) if crop else None
        options = _label_options(labels, columns or (), map_ or (), mapping)
        if options is not None and (reader is not None or min_face_score is not None):
            raise InputError("--reader and --labels both set how labels are read; leave one out.")
        chosen = _reader(reader, min_face_score)
        listed = None if leave_out is None else left_out_reasons(leave_out.expanduser())
        if dry_run:
            _dry_run(source, chosen, options, keep_copies=keep_copies, leave_out=listed, as_json=as_json)
            return
        if output is None:
            raise InputError("no output given; give --output FOLDER, or --dry-run to write nothing.")
        say(f"packing {source} into {output} ...")
        with packed_to(
            source,
            output,
            reader=chosen,
            labels=options,
            keep_copies=keep_copies,
            on_plan=print_plan,
            cropper=cropper,
            crop_workers=(os.cpu_count() or 1) if workers is None else workers,
            require=require or (),
            leave_out=listed,
            max_lost=None if allow_skipped else MAX_LOST,
        ) as packed:
            show_packed(packed, output, bins, as_json)
            _say_copies(packed)
            _say_audit(packed, output)
            _warn_of_lost(packed)


def show_packed(packed: Packed, location: str, bins: str, as_json: bool) -> None:
    """Print the description of a packed data set; ``location`` is its path or URI."""
    from agr_core.data.stats.stats import describe

    description = describe(packed, bins)
    if as_json:
        print_json(description)
    else:
        headline = f"{location}: {description['images']:,} images, digest {description['digest'][:12]}"
        print_description(headline, description, bins)


def _label_options(
    labels: str | None, columns: list[str] | tuple[()], values: list[str] | tuple[()], mapping: Path | None
) -> LabelOptions | None:
    from agr_core.data.packed.pack import read_manifest
    from agr_core.data.readers.tabular import LabelOptions

    options = LabelOptions.parse(labels, columns, values)
    if mapping is not None:
        folder = mapping.parent if mapping.name == "manifest.json" else mapping
        return options.over(LabelOptions.from_manifest(read_manifest(folder.expanduser()), str(mapping)))
    return options if options.given else None


def _reader(name: str | None, min_face_score: float | None) -> str | Reader | None:
    from agr_core.data.readers.imdb_wiki import ImdbWikiReader
    from agr_core.errors import InputError

    if min_face_score is None:
        return name
    if name not in (None, ImdbWikiReader.name):
        raise InputError(f"--min-face-score is for {ImdbWikiReader.name}, not for {name}; leave one out.")
    return ImdbWikiReader(min_face_score)


def _dry_run(
    source: str,
    reader: str | Reader | None,
    options: LabelOptions | None,
    *,
    keep_copies: bool,
    leave_out: Mapping[str, str] | None,
    as_json: bool,
) -> None:
    from agr_core.data.packed.raw_source import look

    seen = look(source, reader=reader, labels=options, keep_copies=keep_copies, leave_out=leave_out)
    if as_json:
        print_json(seen.to_json())
        return
    if seen.plan is not None:
        print_plan(seen.plan)
    typer.echo(f"{source}: read as {seen.kind}; nothing is written")
    for entry in seen.images:
        typer.echo(f"  {entry}")
    for skipped in seen.skipped:
        typer.echo(f"  cannot be used: {skipped.file}: {skipped.reason}")
    if seen.others:
        typer.echo(f"  and {seen.others:,} other files before them, which have no label or are not images")


def print_plan(plan: Plan) -> None:
    """Print the role of each column and the meaning of each value on standard error."""
    from rich.table import Table

    from orchestrator.cli.render.terminal import Terminal

    console = Terminal(stderr=True, highlight=False)
    tables = ", ".join(plan.files[:3]) + (f" and {len(plan.files) - 3} more" if len(plan.files) > 3 else "")
    console.print(f"{tables}: {plan.rows:,} rows", soft_wrap=True)
    for role, column in plan.columns.items():
        others = plan.passed_over.get(role)
        console.print(f"  {role}: column {column}" + (f" (not {', '.join(others)})" if others else ""), soft_wrap=True)
    if plan.unused:
        console.print(f"  not used: {', '.join(plan.unused)}", soft_wrap=True)
    for note in plan.notes:
        console.print(f"  {note}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("label", "value", "rows", "becomes", ""):
        table.add_column(title, justify="right" if title == "rows" else "left", overflow="fold")
    for row in plan.values:
        table.add_row(row.role, row.value or "(blank)", f"{row.count:,}", row.became, row.by)
    console.print(table)


def _say_copies(packed: Packed) -> None:
    copies = sum("--keep-copies" in entry["reason"] for entry in packed.manifest["skipped"])
    if copies:
        say(f"{copies:,} files are copies of faces that are packed; --keep-copies packs them too")


def _say_audit(packed: Packed, location: str) -> None:
    """Print the audit of the packed data set in one line on standard error."""
    from orchestrator.assets.audits import audit_packed
    from orchestrator.settings import Settings

    audit = audit_packed(packed, cache=Settings.from_environment().cache)
    counts = {
        "groups of byte-identical images": len(audit.duplicates),
        "groups of near-duplicates": len(audit.near),
        "groups with contradicting labels": audit.conflicts,
        "labels that occur once": len(audit.single_labels),
    }
    counts_text = ", ".join(f"{what}: {count:,}" for what, count in counts.items() if count)
    if counts_text:
        say(f"audit: {counts_text}; `agr data audit {location}` lists them, with --html PAGE side by side")
    else:
        say("audit: nothing found")


def _warn_of_lost(packed: Packed) -> None:
    """Print a red line if more than a share ``_LOST_WARNING`` of the images and labels is unusable."""
    lost: int = packed.manifest.get("lost", 0)
    share = lost / (lost + len(packed))
    if share > _LOST_WARNING:
        warning = f"warning: {lost:,} of {lost + len(packed):,} images and labels could not be used, {share:.1%}"
        typer.secho(warning, fg="red", err=True)
