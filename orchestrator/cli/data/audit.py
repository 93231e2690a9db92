"""``agr data audit``: find faults in a data set before training on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import EXIT_FAILED, JsonOption, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agr_core.data.audit.examine import Examined
    from agr_core.data.audit.images import Images
    from agr_core.data.audit.report import Audit

_OFFICIAL = "official"
_EXAMPLES = 3


def audit(
    source: Annotated[str, typer.Argument(help="Raw folder or archive, packed folder, or s3://bucket/prefix.")],
    split: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Split to audit: CSV, a folder of CSV files, .parquet of `agr data split`, or official.",
        ),
    ] = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV with a column file: images to leave out, as listed by --fix."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="PAGE", help="Write an HTML page with the images side by side.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a split that keeps every group in one part, and the list of conflicting images it leaves out: "
            "a .csv file with the list beside it, or a folder.",
        ),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Reader of file names and label files; default: detected from the files.")
    ] = None,
    faces: Annotated[bool, typer.Option("--faces", help="Find images with no face or several, with MTCNN.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that decode images and find faces.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Find duplicates, leaks, conflicting labels and unusable files; exit 1 on any leak or conflict.

    Example: agr data audit UTKFace.tar --split published_split.csv --html audit.html --fix mended.csv
    """
    with errors_in_one_line():
        from agr_core.data.audit.examine import examine
        from agr_core.data.audit.fix import fix as mend
        from agr_core.data.audit.fix import read_left_out
        from agr_core.data.audit.report import Audit

        with _images_of(source, reader) as images:
            say(f"auditing {len(images.table):,} images of {source} ...")
            examined = examine(images, workers=workers)
            audit = Audit(
                examined,
                None if split is None else _parts(examined, split),
                left_out=None if leave_out is None else read_left_out(examined.table, leave_out.expanduser()),
                faces=_faces(images, examined, workers) if faces else None,
            )
            if html is not None:
                _write_page(audit, images, source, html)
        fixed = None if fix is None else mend(audit)
        document = audit.document()
        if fix is not None and fixed is not None:
            document["fix"] = _write_fixed(audit, fixed, fix.expanduser())
        if as_json:
            print_json(document)
        else:
            _print(audit, document, source)
    raise typer.Exit(0 if audit.passed else EXIT_FAILED)


@contextmanager
def _images_of(source: str, reader: str | None) -> Iterator[Images]:
    """Yield the images of a source: raw files in place, or a packed data set, fetched if remote."""
    from agr_core.data.audit.images import PackedImages, open_raw
    from agr_core.data.packed.pack import is_packed
    from agr_core.errors import InputError
    from orchestrator.assets.datasets import opened
    from orchestrator.settings import Settings
    from orchestrator.storage import is_remote

    path = Path(source).expanduser()
    if not is_remote(source) and not is_packed(path):
        with open_raw(path, reader) as raw:
            yield raw
        return
    if reader is not None:
        raise InputError(f"--reader {reader} is for raw files, and {source} is packed; leave it out.")
    with opened(source, cache=Settings.from_environment().cache) as packed:
        yield PackedImages(packed)


def _parts(examined: Examined, split: str) -> NDArray[np.object_]:
    """Return the split's part of each image."""
    from agr_core.data.splits.published import assigned_parts, official_parts

    if split == _OFFICIAL:
        return official_parts(examined.table, None).parts
    assignment = assigned_parts(examined.table, Path(split).expanduser())
    for reason, count in assignment.left_out.items():
        say(f"note: {count:,} images are in no part: {reason}")
    if assignment.unmatched:
        say(f"note: {assignment.unmatched:,} entries of {split} name images that the data set lacks")
    return assignment.parts


def _faces(images: Images, examined: Examined, workers: int) -> Any:
    from agr_core.data.audit.faces import count_faces

    return count_faces(images, examined, workers=workers)


def _write_page(audit: Audit, images: Images, source: str, html: Path) -> None:
    from agr_core.data.audit.page import audit_page
    from agr_core.errors import InputError

    try:
        html.write_text(audit_page(audit, images, source), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {html}: {error.strerror}. Give another file with --html.") from error
    say(f"wrote {html}")


def _write_fixed(audit: Audit, fix: Any, output: Path) -> dict[str, Any]:
    from agr_core.data.audit.fix import write_fixed

    split, listed = write_fixed(audit, fix, output)
    say(f"wrote {split}: {fix.moved:,} images moved to the part of their group")
    say(f"wrote {listed}: {len(fix.left_out):,} images left out for contradicting labels")
    say(f"next: data.split: {{strategy: file, path: {split}}}")
    return {
        "split": str(split),
        "left_out": str(listed),
        "images_moved": fix.moved,
        "images_left_out": len(fix.left_out),
    }


def _print(audit: Audit, document: dict[str, Any], source: str) -> None:
    """Print the findings as text, faults first."""
    from orchestrator.cli.render.terminal import Terminal

    console = Terminal(highlight=False)
    verdict = "passed" if audit.passed else "not passed"
    console.print(f"{source}: {document['images']:,} images, {verdict}", soft_wrap=True)
    for line in summary_lines(audit, document):
        console.print(line, soft_wrap=True)


def summary_lines(audit: Audit, document: dict[str, Any]) -> list[str]:
    """Return one line for each kind of finding present, followed by its first examples."""
    lines = []

    def tell(count: int, what: str, examples: Sequence[str]) -> None:
        if count:
            lines.append(f"{count:>7,}  {what}")
            lines.extend(f"         {example}" for example in examples[:_EXAMPLES])
            if len(examples) > _EXAMPLES:
                lines.append(f"         ... and {len(examples) - _EXAMPLES:,} more: --html PAGE or --json")

    sides = [
        ", ".join(f"{entry['file']} ({entry['part']})" for entry in group[:3]) for group in document["cross_split"]
    ]
    exact, near = document["cross_split_groups"], document["near_cross_split_groups"]
    tell(exact, "groups of identical images or of one subject in several parts of the split", sides[:exact])
    tell(near, "groups of near-duplicates in several parts of the split", sides[exact:])
    conflicts = [_conflict_line(conflict) for conflict in document["conflicts"]]
    exact, near = document["label_conflicts"], document["near_label_conflicts"]
    tell(exact, "groups of identical images or of one subject with contradicting labels", conflicts[:exact])
    tell(near, "groups of near-duplicates with contradicting labels", conflicts[exact:])
    tell(document["duplicate_groups"], "groups of byte-identical images", [])
    mirrored = len(document["mirrored"])
    tell(document["near_duplicate_groups"], f"groups of near-duplicates ({mirrored} pairs mirrored)", [])
    for key, what in (("unreadable", "unreadable files"), ("bad_names", "names or labels that do not parse")):
        tell(len(document[key]), what, [f"{entry['file']}: {entry['reason']}" for entry in document[key]])
    for key, what in (("tiny", "tiny images"), ("thin", "extremely thin images")):
        tell(
            len(document[key]),
            what,
            [f"{entry['file']}: {entry['width']} x {entry['height']}" for entry in document[key]],
        )
    singles = [f"{entry['label']} {entry['value']}: {entry['file']}" for entry in document["single_labels"]]
    tell(len(singles), "labels that occur once", singles)
    missing = [f"{entry['label']} {entry['value']} in {entry['part']}" for entry in document["missing_classes"]]
    tell(len(missing), "classes missing from a part", missing)
    shifted = [entry for entry in document["shift"] if entry["shifted"]]
    named = [f"{entry['label']} in {entry['part']}: total variation {entry['distance']:.2f}" for entry in shifted]
    tell(len(shifted), "shifts of a label between training and another part", named)
    if audit.faces is not None:
        tell(len(document["no_face"]), "images without a face", document["no_face"])
        failed = [f"{entry['file']}: {entry['reason']}" for entry in document["no_detection"]]
        tell(len(failed), "images on which face detection fails", failed)
        several = [f"{entry['file']}: {entry['faces']} faces" for entry in document["several_faces"]]
        tell(len(several), "images with several faces", several)
    return lines or ["nothing found"]


def _conflict_line(conflict: dict[str, Any]) -> str:
    def words(image: dict[str, Any]) -> str:
        return " ".join(str(image[label]) for label in conflict["labels"])

    return " / ".join(f"{image['file']}: {words(image)}" for image in conflict["images"][:2])
