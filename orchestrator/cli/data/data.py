"""``agr data``: create, copy and inspect data sets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, errors_in_one_line, print_json, say
from orchestrator.cli.data.audit import audit
from orchestrator.cli.data.pack import BinsOption, LabelName, OutputOption, pack, show_packed
from orchestrator.cli.data.split import split
from orchestrator.cli.render.data_tables import print_description
from orchestrator.cli.validate import SetOption

if TYPE_CHECKING:
    from agr_core.data.packed.pack import Packed
    from orchestrator.spec.load import Sweep


_DRAWN_TRIALS = 64
_SHOWN_AUGMENTS = 8


class LikeName(StrEnum):
    """Data set whose label scheme drawn faces use."""

    plain = "plain"
    adience = "adience"
    celeba = "celeba"
    fairface = "fairface"


class LayoutName(StrEnum):
    """Data set whose file layout drawn faces use."""

    adience = "adience"
    celeba = "celeba"
    fairface = "fairface"
    imdb_wiki = "imdb_wiki"
    utkface = "utkface"


commands = typer.Typer(name="data", help="Create, copy and inspect data sets.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this package to ``app``."""
    commands.command()(pack)
    commands.command()(split)
    commands.command()(audit)
    app.add_typer(commands)


@commands.command()
def synth(
    output: OutputOption,
    images: Annotated[int, typer.Option(min=10, help="Number of faces.")] = 4000,
    size: Annotated[int, typer.Option(min=16, max=512, help="Height and width of each face, pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; it determines every pixel.")] = 0,
    like: Annotated[
        LikeName | None,
        typer.Option(help="Data set whose labels the faces carry; default: plain, or as the layout requires."),
    ] = None,
    layout: Annotated[
        LayoutName | None,
        typer.Option(help="Write files as this data set is distributed, to test its reader; default: packed."),
    ] = None,
    bins: BinsOption = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Draw faces with known labels into a packed data set, or into the file layout of a published data set.

    Examples: agr data synth -o faces --images 2000 --size 64
              agr data synth -o raw --layout adience && agr data pack raw -o adience
    """
    with errors_in_one_line():
        from agr_core.bins import check_bins
        from agr_core.config import SYNTHETIC, SyntheticConfig
        from agr_core.data.drawn.layouts import LAYOUTS, write_layout
        from orchestrator.assets.datasets import packed_to

        check_bins(bins)
        default = "plain" if layout is None else LAYOUTS.get(layout).like
        wanted = {"like": default if like is None else like.value, "images": images, "size": size, "seed": seed}
        config = SyntheticConfig.model_validate(wanted)
        if layout is not None:
            _check_address(output, s3=False)
        say(f"drawing {images:,} faces of {size} x {size} pixels into {output} ...")
        if layout is None:
            with packed_to(SYNTHETIC, output, synthetic=config) as packed:
                show_packed(packed, output, bins, as_json)
            return
        count = write_layout(config, Path(output).expanduser(), layout)
        if as_json:
            print_json({"images": count, "folder": output, "layout": layout.value})
        else:
            typer.echo(f"{output}: {count:,} images laid out as {layout.value}; next: agr data pack {output} -o FOLDER")


@commands.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Packed folder.")],
    uri: Annotated[str, typer.Argument(metavar="S3_URI", help="Target, s3://bucket/prefix.")],
    as_json: JsonOption = False,
) -> None:
    """Upload a packed data set to S3; it is usable once its last file, the manifest, is there.

    Example: agr data push faces s3://agr/faces
    """
    with errors_in_one_line():
        from orchestrator.assets import datasets

        _check_address(uri, s3=True)
        _show_copy(datasets.push(folder, uri), str(folder), uri, as_json)


@commands.command()
def pull(
    uri: Annotated[str, typer.Argument(metavar="S3_URI", help="s3://bucket/prefix of a packed data set.")],
    folder: Annotated[str, typer.Argument(help="Folder to create.")],
    as_json: JsonOption = False,
) -> None:
    """Download a packed data set from S3 and verify it; an interrupted download resumes.

    Example: agr data pull s3://agr/faces faces
    """
    with errors_in_one_line():
        from orchestrator.assets import datasets

        _check_address(uri, s3=True)
        _check_address(folder, s3=False)
        _show_copy(datasets.pull(uri, Path(folder).expanduser()), uri, folder, as_json)


@commands.command()
def stats(
    source: Annotated[str, typer.Argument(help="Packed folder, s3://bucket/prefix, or a raw folder or archive.")],
    bins: BinsOption = "utk7",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML page of charts.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Another data set to compare on the page; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count images, ages, genders and races, and list unreadable files.

    Example: agr data stats s3://agr/utkface --bins utk4
    """
    with errors_in_one_line():
        from agr_core.bins import check_bins
        from agr_core.errors import InputError
        from orchestrator.assets.datasets import opened
        from orchestrator.settings import Settings

        check_bins(bins)
        if against and html is None:
            raise InputError("--against needs --html FILE, the page with the comparison.")
        cache = Settings.from_environment().cache
        with ExitStack() as stack:
            packed = stack.enter_context(opened(source, cache=cache))
            if html is not None:
                others = {other: stack.enter_context(opened(other, cache=cache)) for other in against or ()}
                _write_page(packed, source, bins, html, others)
            show_packed(packed, source, bins, as_json)


def _write_page(packed: Packed, source: str, bins: str, output: Path, others: Mapping[str, Packed]) -> None:
    from agr_core.data.stats.stats_page import stats_page
    from agr_core.errors import InputError

    try:
        output.write_text(stats_page(packed, source, bins, against=others), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}. Give another file with --html.") from error
    say(f"wrote {output}")


@commands.command()
def labels(
    source: Annotated[Path, typer.Argument(help="Folder, .tar, .tar.gz or .zip; it may lack the images.")],
    reader: Annotated[
        str | None, typer.Option(help="Reader of file names and label files; default: detected from the files.")
    ] = None,
    require: Annotated[
        list[LabelName] | None, typer.Option(help="Leave out images without this label; repeatable.")
    ] = None,
    bins: BinsOption = "utk7",
    as_json: JsonOption = False,
) -> None:
    """Count the labels in file names and label files of a raw data set, without reading images.

    Example: agr data labels Adience --require age --require gender
    """
    with errors_in_one_line():
        from agr_core.bins import check_bins
        from agr_core.data.packed.label_table import read_labels
        from agr_core.data.stats.stats import statistics

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
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="Sweep file with the `augment` values to draw.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    overrides: SetOption = None,
    images: Annotated[int, typer.Option(min=1, max=24, help="Number of images for each augmentation.")] = 3,
    versions: Annotated[int, typer.Option(min=1, max=24, help="Number of augmented versions of each image.")] = 7,
) -> None:
    """Draw images before and after each augmentation of a sweep file, as model input.

    Example: agr data augment faces --config sweeps/quickstart.yaml -o grid.png --set trial.augment=rand_augment
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.assets.datasets import opened
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
    """Return a PNG with a block of rows for each augmentation of a sweep, at most ``_SHOWN_AUGMENTS`` blocks."""
    import numpy as np

    from agr_core.data.loading.augment_preview import before_and_after
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
        for index, row in enumerate(before_and_after(packed, trial, chosen, versions=versions)):
            rows[f"{name}\n#{chosen[index]}"] = row
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
