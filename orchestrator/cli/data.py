"""``agr data``: make, copy and look at data sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, errors_in_one_line, print_json, say
from orchestrator.cli.data_split import split
from orchestrator.cli.data_tables import print_description
from orchestrator.cli.validate import SetOption

if TYPE_CHECKING:
    from agr_core.data.pack import Packed
    from agr_core.data.readers import Reader
    from orchestrator.spec.load import Sweep

BinsOption = Annotated[str, typer.Option("--bins", metavar="SCHEME", help="Age groups that are counted.")]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="Folder to make, or s3://bucket/prefix.")]

_DRAWN_TRIALS = 64
_SHOWN_AUGMENTS = 8


class LabelName(StrEnum):
    """A label an image may lack; typer lists the names in the help."""

    age = "age"
    gender = "gender"
    race = "race"
    attributes = "attributes"


class LikeName(StrEnum):
    """Whose labels drawn faces carry."""

    plain = "plain"
    adience = "adience"
    celeba = "celeba"
    fairface = "fairface"


class LayoutName(StrEnum):
    """As which data set drawn faces are laid out."""

    adience = "adience"
    celeba = "celeba"
    fairface = "fairface"
    imdb_wiki = "imdb_wiki"
    utkface = "utkface"


commands = typer.Typer(name="data", help="Make, copy and look at data sets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module and of those beside it."""
    commands.command()(split)
    app.add_typer(commands)


@commands.command()
def synth(
    output: OutputOption,
    images: Annotated[int, typer.Option(min=10, help="Number of faces.")] = 4000,
    size: Annotated[int, typer.Option(min=16, max=512, help="Height and width of each face, pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="It fixes every pixel.")] = 0,
    like: Annotated[
        LikeName | None, typer.Option(help="Whose labels the faces carry; default: plain, or what the layout needs.")
    ] = None,
    layout: Annotated[
        LayoutName | None,
        typer.Option(help="Write files as this data set is distributed, to try its reader on; default: packed."),
    ] = None,
    bins: BinsOption = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Draw faces with known labels into a packed data set, or into files laid out as a known data set is.

    Examples: agr data synth -o faces --images 2000 --size 64
              agr data synth -o raw --layout adience && agr data pack raw -o adience
    """
    with errors_in_one_line():
        from agr_core.config import SYNTHETIC, SyntheticConfig
        from agr_core.data.layouts import LAYOUTS, write_layout
        from agr_core.labels.bins import check_bins
        from orchestrator.datasets import packed_to

        check_bins(bins)
        default = "plain" if layout is None else LAYOUTS.get(layout).like
        wanted = {"like": default if like is None else like.value, "images": images, "size": size, "seed": seed}
        config = SyntheticConfig.model_validate(wanted)
        if layout is not None:
            _check_address(output, s3=False)
        say(f"drawing {images:,} faces of {size} x {size} pixels into {output} ...")
        if layout is None:
            with packed_to(SYNTHETIC, output, synthetic=config) as packed:
                _show(packed, output, bins, as_json)
            return
        count = write_layout(config, Path(output).expanduser(), layout)
        if as_json:
            print_json({"images": count, "folder": output, "layout": layout.value})
        else:
            typer.echo(f"{output}: {count:,} images laid out as {layout.value}; next: agr data pack {output} -o FOLDER")


@commands.command()
def pack(
    source: Annotated[str, typer.Argument(help="Folder, .tar, .tar.gz or .zip of images.")],
    output: OutputOption,
    reader: Annotated[
        str | None, typer.Option(help="How file names and labels are read; default: recognised from the files.")
    ] = None,
    min_face_score: Annotated[
        float | None, typer.Option(help="Skip images whose face was found with a lower score (IMDb-WIKI only).")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Pack the largest face of each image, found by MTCNN.")] = False,
    margin: Annotated[
        float | None, typer.Option(help="Share of the face added on each side; default 0.4 (with --crop).")
    ] = None,
    crop_size: Annotated[
        int | None, typer.Option(help="Largest side of a crop, pixels; default: as it is (with --crop).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that look for faces; default: one a core (with --crop).")
    ] = None,
    require: Annotated[
        list[LabelName] | None, typer.Option(help="Skip images without this label; may be given several times.")
    ] = None,
    bins: BinsOption = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Pack a raw data set once, labels beside images; files that cannot be used are listed with the reason.

    Example: agr data pack UTKFace.tar -o s3://agr/utkface
    """
    with errors_in_one_line():
        from agr_core.data.face_crop import FaceCropper
        from agr_core.data.readers.imdb_wiki import ImdbWikiReader
        from agr_core.errors import InputError
        from agr_core.labels.bins import check_bins
        from orchestrator.datasets import packed_to

        check_bins(bins)
        if not crop and any(option is not None for option in (margin, crop_size, workers)):
            raise InputError("--margin, --crop-size and --workers are about cropping; add --crop, or leave them out.")
        cropper = FaceCropper(margin=0.4 if margin is None else margin, size=crop_size) if crop else None
        chosen: str | Reader | None = reader
        if min_face_score is not None:
            if reader not in (None, ImdbWikiReader.name):
                raise InputError(f"--min-face-score is for {ImdbWikiReader.name}, not for {reader}; leave one out.")
            chosen = ImdbWikiReader(min_face_score)
        say(f"packing {source} into {output} ...")
        with packed_to(
            source,
            output,
            reader=chosen,
            cropper=cropper,
            crop_workers=(os.cpu_count() or 1) if workers is None else workers,
            require=require or (),
        ) as packed:
            _show(packed, output, bins, as_json)


@commands.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Packed folder.")],
    uri: Annotated[str, typer.Argument(metavar="S3_URI", help="s3://bucket/prefix to copy it to.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a packed data set into S3; it can be used once its last file, the manifest, is there.

    Example: agr data push faces s3://agr/faces
    """
    with errors_in_one_line():
        from orchestrator import datasets

        _check_address(uri, s3=True)
        _show_copy(datasets.push(folder, uri), str(folder), uri, as_json)


@commands.command()
def pull(
    uri: Annotated[str, typer.Argument(metavar="S3_URI", help="s3://bucket/prefix of a packed data set.")],
    folder: Annotated[str, typer.Argument(help="Folder to make.")],
    as_json: JsonOption = False,
) -> None:
    """Copy a packed data set out of S3, verified; an interrupted copy goes on where it was.

    Example: agr data pull s3://agr/faces faces
    """
    with errors_in_one_line():
        from orchestrator import datasets

        _check_address(uri, s3=True)
        _check_address(folder, s3=False)
        _show_copy(datasets.pull(uri, Path(folder).expanduser()), uri, folder, as_json)


@commands.command()
def stats(
    source: Annotated[str, typer.Argument(help="Packed folder, s3://bucket/prefix, or a raw folder or archive.")],
    bins: BinsOption = "utk7",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page of charts, readable without a network.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE", help="Another data set to compare with on the page; may be given several times."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count images, ages, genders and races, and list what could not be read.

    Example: agr data stats s3://agr/utkface --bins utk4
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from agr_core.labels.bins import check_bins
        from orchestrator.datasets import opened
        from orchestrator.settings import Settings

        check_bins(bins)
        if against and html is None:
            raise InputError("--against compares on the page; add --html FILE.")
        cache = Settings.from_environment().cache
        with ExitStack() as stack:
            packed = stack.enter_context(opened(source, cache=cache))
            if html is not None:
                others = {other: stack.enter_context(opened(other, cache=cache)) for other in against or ()}
                _write_page(packed, source, bins, html, others)
            _show(packed, source, bins, as_json)


def _write_page(packed: Packed, source: str, bins: str, output: Path, others: Mapping[str, Packed]) -> None:
    from agr_core.data.stats_page import stats_page
    from agr_core.errors import InputError

    try:
        output.write_text(stats_page(packed, source, bins, against=others), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}. Give another file with --html.") from error
    say(f"wrote {output}")


@commands.command()
def labels(
    source: Annotated[Path, typer.Argument(help="Folder, .tar, .tar.gz or .zip; the images need not be there.")],
    reader: Annotated[
        str | None, typer.Option(help="How names and label files are read; default: recognised from the files.")
    ] = None,
    require: Annotated[
        list[LabelName] | None, typer.Option(help="Leave out images without this label; may be given several times.")
    ] = None,
    bins: BinsOption = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Count what the names and label files of a raw data set say, without reading an image.

    Example: agr data labels Adience --require age --require gender
    """
    with errors_in_one_line():
        from agr_core.data.label_table import read_labels
        from agr_core.data.stats import statistics
        from agr_core.labels.bins import check_bins

        check_bins(bins)
        told = read_labels(source.expanduser(), reader, require=require or ())
        description = {
            "images": len(told.table),
            "skipped": [{"file": entry.file, "reason": entry.reason} for entry in told.skipped],
            **statistics(told.table, bins, vocabulary=told.vocabulary),
        }
        if as_json:
            print_json(description)
        else:
            print_description(f"{source}: labels of {len(told.table):,} images", description, bins)


@commands.command()
def augment(
    source: Annotated[str, typer.Argument(help="Packed folder, s3://bucket/prefix, or a raw folder or archive.")],
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The sweep file whose `augment` is shown.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    overrides: SetOption = None,
    images: Annotated[int, typer.Option(min=1, max=24, help="Images of each augmentation.")] = 3,
    versions: Annotated[int, typer.Option(min=1, max=24, help="Changed versions of each image.")] = 7,
) -> None:
    """Draw images before and after each augmentation of a sweep file, as the model would see them.

    Example: agr data augment faces --config sweeps/quickstart.yaml -o grid.png --set trial.augment=rand_augment
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.datasets import opened
        from orchestrator.settings import Settings
        from orchestrator.spec.load import load_sweep

        sweep = load_sweep(config, overrides=overrides or ())
        with opened(source, cache=Settings.from_environment().cache) as packed:
            picture = _augment_grid(sweep, packed, source, images=images, versions=versions)
        try:
            output.write_bytes(picture)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}. Give another file with --output.") from error
        say(f"wrote {output}")


def _augment_grid(sweep: Sweep, packed: Packed, source: str, *, images: int, versions: int) -> bytes:
    """A PNG with a block of rows for each augmentation of a sweep, at most ``_SHOWN_AUGMENTS``."""
    import numpy as np

    from agr_core.data.augment_preview import before_and_after
    from agr_core.evaluation.plots import image_grid_png
    from orchestrator.spec.preview import sample

    drawn = {(c.augment, c.image): c for c in (proposal.config for proposal in sample(sweep, _DRAWN_TRIALS))}
    shown = list(drawn.values())[:_SHOWN_AUGMENTS]
    if len(shown) < len(drawn):
        say(f"{_DRAWN_TRIALS} trials drawn at random have {len(drawn)} augmentations; the first {len(shown)} are shown")
    chosen = np.linspace(0, len(packed) - 1, num=min(images, len(packed)), dtype=np.int64)
    rows = {}
    for number, trial in enumerate(shown, start=1):
        settings = trial.augment.model_dump(exclude_defaults=True, exclude={"name"})
        of = "" if trial.image.crop_from is None else f" of {trial.image.crop_from}"
        lines = [f"{number}. {trial.augment.name}", f"{trial.image.size}{of} px {trial.image.color}"]
        name = "\n".join(lines + [f"{field} {value:g}" for field, value in settings.items()])
        for place, row in enumerate(before_and_after(packed, trial, chosen, versions=versions)):
            rows[f"{name}\n#{chosen[place]}"] = row
    columns = ["as it is", *(f"epoch {epoch}" for epoch in range(1, versions + 1))]
    return image_grid_png(rows, columns, f"{sweep.spec.name}: augmentation of {source}")


def _check_address(text: str, *, s3: bool) -> None:
    from agr_core.errors import InputError
    from orchestrator.storage import is_remote, open_storage

    if is_remote(open_storage(text).uri) != s3:
        wanted = "s3://bucket/prefix" if s3 else "a folder of this machine"
        raise InputError(f"{text!r} must be {wanted}: agr data push FOLDER S3_URI, agr data pull S3_URI FOLDER.")


def _show_copy(manifest: dict[str, Any], source: str, target: str, as_json: bool) -> None:
    if as_json:
        print_json({"images": manifest["rows"], "digest": manifest["digest"], "source": source, "target": target})
        return
    size = sum(shard["bytes"] for shard in manifest["shards"])
    typer.echo(f"{target}: {manifest['rows']:,} images, {size / 1e6:,.1f} MB, digest {manifest['digest'][:12]}")


def _show(packed: Packed, place: str, bins: str, as_json: bool) -> None:
    from agr_core.data.stats import describe

    description = describe(packed, bins)
    if as_json:
        print_json(description)
    else:
        headline = f"{place}: {description['images']:,} images, digest {description['digest'][:12]}"
        print_description(headline, description, bins)
