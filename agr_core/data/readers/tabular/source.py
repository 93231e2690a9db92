"""Sources with a table of labels: selection of the table, labels of its rows, and images it names or contains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from agr_core.data.decode import image_problem
from agr_core.data.readers.base import ImageLabels, Labelling, RawImage, Skipped, read_images
from agr_core.data.readers.files import open_files
from agr_core.data.readers.files.base import Files, UnreadableFileError, is_archive_name, is_image_name, open_regular
from agr_core.data.readers.tabular.ages import range_problem
from agr_core.data.readers.tabular.columns import Columns, choose_columns
from agr_core.data.readers.tabular.image_index import ImageIndex
from agr_core.data.readers.tabular.options import MAPPED_ROLES, LabelOptions
from agr_core.data.readers.tabular.plan import Plan
from agr_core.data.readers.tabular.sheet import PIXELS, SUFFIXES, Sheet, is_sheet_name, iter_images, read_sheet
from agr_core.data.readers.tabular.values import KAGGLE_CODES, Values
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, Vocabulary

KIND = "labels"
"""Value of the column ``source`` for rows from a table."""

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_KAGGLE = {"age", "ethnicity", "gender", "img_name", PIXELS}
_PARTS = re.compile(r"(?:^|.*[-_/.])?(train|training|val|valid|validation|dev|test)(?:[-_.].*)?", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledSource:
    """Content of a source with a table: plan, vocabulary, images, and rows without an image."""

    plan: Plan
    vocabulary: Vocabulary
    images: Iterator[RawImage | Skipped]


@dataclass(frozen=True)
class _Table:
    """A table, the base folder of its names in the source, and the means to open it again."""

    sheet: Sheet
    folder: str
    path: str | None  # path in the source
    outside: Path | None  # or local path

    def open(self, files: Files | None) -> IO[bytes]:
        if self.outside is not None:
            return open_regular(self.outside)
        assert files is not None
        assert self.path is not None
        return files.open(self.path)


@contextmanager
def open_labelled(source: Path, options: LabelOptions) -> Iterator[LabelledSource]:
    """Open the images of a source and their labels from a table, for the block.

    Args:
        source: A folder or an archive, or the table itself.
        options: Location of the table, and options for reading it.

    Raises:
        DataError: If there is no table, several candidates, or a table cannot be read; if a column is missing; if the
            meaning of a value is unknown.
    """
    with ExitStack() as stack:
        files, tables = _find_tables(source, options, stack)
        columns = [
            choose_columns(table.sheet.columns, options.columns, file=table.sheet.file, embedded=table.sheet.embedded)
            for table in tables
        ]
        values = _values(tables, columns, options)
        for table, chosen in zip(tables, columns, strict=True):
            values.check(table.sheet.file, chosen.of)
        rows = [
            _row_labels(table, chosen, values, _partition_of(table, tables))
            for table, chosen in zip(tables, columns, strict=True)
        ]
        plan = _plan(tables, columns, values, options)
        vocabulary = Vocabulary(
            genders=GENDERS if any("gender" in chosen.of for chosen in columns) else (), races=values.races()
        )
        if tables[0].sheet.embedded is not None:
            images = _embedded_images(files, tables, columns, rows)
        else:
            if files is None:
                files = stack.enter_context(open_files(source.parent))
            images = read_images(_TableReader(vocabulary, _labelling(files, tables, columns, rows)), files)
        yield LabelledSource(plan, vocabulary, images)


def has_tables(paths: Sequence[str]) -> bool:
    """Return whether any file has the suffix of a table; plain text files do not count."""
    return any(is_sheet_name(path) and not path.lower().endswith(".txt") for path in paths)


def is_table(source: Path) -> bool:
    """Return whether a source is itself a table."""
    return source.is_file() and is_sheet_name(source.name) and not is_archive_name(source.name)


def _find_tables(source: Path, options: LabelOptions, stack: ExitStack) -> tuple[Files | None, list[_Table]]:
    """Return the files of the source, or None if the source is itself a table, and its tables."""
    if is_table(source):
        return None, [_read_table(source)]
    files = stack.enter_context(open_files(source))
    if options.file is not None:
        outside = Path(options.file).expanduser()
        wanted = options.file.replace("\\", "/")
        if outside.is_file() and source.is_dir() and outside.resolve().is_relative_to(source.resolve()):
            wanted = outside.resolve().relative_to(source.resolve()).as_posix()
        inside = [path for path in files.paths if path == wanted or path.endswith(f"/{wanted}")]
        if wanted in inside or len(inside) == 1:
            return files, [_read_inside(files, wanted if wanted in inside else inside[0])]
        if outside.is_file():
            return files, [_read_table(outside)]
        state = f"holds {' and '.join(inside)}" if inside else "has no such file"
        raise DataError(f"--labels {options.file} is not a file, and {source} {state}; give the path of one.")
    named = [path for path in files.paths if PurePosixPath(path).name.lower() in _METADATA]
    parquet = [path for path in files.paths if path.lower().endswith(".parquet")]
    tables = [path for path in files.paths if is_sheet_name(path) and not path.lower().endswith(".txt")]
    for some in (named, parquet, tables if len(tables) == 1 else []):
        if some:
            return files, [_read_inside(files, path) for path in some]
    what = f"several tables ({', '.join(tables[:5])})" if tables else f"no table of labels ({', '.join(SUFFIXES)})"
    raise DataError(f"{source} holds {what}; name the file with the labels, as --labels FILE.")


def _read_table(path: Path) -> _Table:
    try:
        with open_regular(path) as stream:
            return _Table(read_sheet(stream, path.name), "", None, path)
    except UnreadableFileError as error:
        raise DataError(f"{path} {error}; give a table as {', '.join(SUFFIXES)}.") from error


def _read_inside(files: Files, path: str) -> _Table:
    if not is_sheet_name(path):
        raise DataError(f"{files.source}: {path} is not a table; give one as {', '.join(SUFFIXES)}.")
    try:
        with files.open(path) as stream:
            parent = PurePosixPath(path).parent.as_posix()
            return _Table(read_sheet(stream, path), "" if parent == "." else parent, path, None)
    except UnreadableFileError as error:
        raise DataError(f"{files.source}: {path} cannot be read: {error}; fetch the data set again.") from error


def _values(tables: Sequence[_Table], columns: Sequence[Columns], options: LabelOptions) -> Values:
    """Return the meaning of the values in all tables."""
    names: dict[str, dict[str, str]] = {}
    codes: dict[str, dict[str, str]] = {}
    for table, chosen in zip(tables, columns, strict=True):
        for role, column in chosen.of.items():
            names.setdefault(role, {}).update(table.sheet.names.get(column, {}))
        if set(table.sheet.columns) >= _KAGGLE:
            codes = KAGGLE_CODES
    values = Values(options.values, names, codes)
    for table, chosen in zip(tables, columns, strict=True):
        bad = table.sheet.problems
        for role in MAPPED_ROLES:
            if role in chosen.of:
                cells = table.sheet.cells[chosen.of[role]]
                values.take(role, cells if not bad else (text for row, text in enumerate(cells) if row not in bad))
    return values


def _row_labels(table: _Table, chosen: Columns, values: Values, partition: str | None) -> list[ImageLabels | str]:
    """Return each row's labels or problem; ``partition`` applies to all rows without a partition column."""
    sheet, of = table.sheet, chosen.of
    partition = None if "partition" in of else partition
    rows: list[ImageLabels | str] = []
    for row in range(len(sheet)):
        if row in sheet.problems:
            rows.append(sheet.problems[row])
            continue

        def class_of(role: str, row: int = row) -> str | None:
            meaning = values.meaning(role, sheet.cells[of[role]][row]) if role in of else None
            return meaning if isinstance(meaning, str) else None

        years = values.meaning("age", sheet.cells[of["age"]][row]) if "age" in of else None
        age = years if isinstance(years, tuple) else None
        problem = None if age is None else range_problem(age)
        labels = ImageLabels(
            age=None if age is None else sum(age) / 2,
            age_low=None if age is None else age[0],
            age_high=None if age is None else age[1],
            gender=class_of("gender"),
            race=class_of("race"),
            subject=(sheet.cells[of["subject"]][row] or None) if "subject" in of else None,
            partition=class_of("partition") or partition,
        )
        if problem is None and labels.age is None and labels.gender is None and labels.race is None:
            problem = "it has no age, gender or race"
        rows.append(labels if problem is None else problem)
    return rows


def _partition_of(table: _Table, tables: Sequence[_Table]) -> str | None:
    """Return the partition in the name of a table or its folder, if there are several tables."""
    if table.path is None or len(tables) == 1:
        return None
    path = PurePosixPath(table.path)
    for name in (path.stem, path.parent.name):
        if match := _PARTS.fullmatch(name):
            word = match[1].lower()
            return "train" if word.startswith("train") else "test" if word == "test" else "val"
    return None


def _plan(tables: Sequence[_Table], columns: Sequence[Columns], values: Values, options: LabelOptions) -> Plan:
    notes = []
    parts = {table.sheet.file: _partition_of(table, tables) for table in tables}
    if any(parts.values()) and not any("partition" in chosen.of for chosen in columns):
        notes.append(f"partitions are taken from the names: {', '.join(sorted({p for p in parts.values() if p}))}")
    embedded = tables[0].sheet.embedded
    if embedded is not None:
        notes.append(f"the images are in column {embedded}")
    of = {role: column for chosen in reversed(columns) for role, column in chosen.of.items()}
    listed = list(dict.fromkeys(column for table in tables for column in table.sheet.columns))
    return Plan(
        files=tuple(table.sheet.file for table in tables),
        rows=sum(len(table.sheet) for table in tables),
        columns=of,
        passed_over={role: names for chosen in columns for role, names in chosen.passed_over.items()},
        unused=tuple(column for column in listed if column not in of.values() and column != embedded),
        values=tuple(values.rows()),
        notes=tuple(notes),
        options=options,
    )


def _labelling(
    files: Files, tables: Sequence[_Table], columns: Sequence[Columns], rows: Sequence[list[ImageLabels | str]]
) -> Labelling:
    """Return the labels of each path from the rows; unusable rows are skipped with their position."""
    label_files = frozenset(table.path or table.sheet.file for table in tables)
    index = ImageIndex(path for path in files.paths if path not in label_files)
    labels: dict[str, ImageLabels | str] = {}
    positions: dict[str, str] = {}
    skipped: list[Skipped] = []
    for table, chosen, of_rows in zip(tables, columns, rows, strict=True):
        names = table.sheet.cells[chosen.of["path"]]
        for row, row_labels in enumerate(of_rows):
            position = f"{table.sheet.file}, line {table.sheet.lines[row]}"
            if row in table.sheet.problems:
                skipped.append(Skipped(position, str(row_labels)))
                continue
            path, problem = index.find(names[row], table.folder)
            if path is None:
                skipped.append(Skipped(position, str(problem)))
            elif path not in labels:
                labels[path], positions[path] = row_labels, position
            elif labels[path] == row_labels:
                skipped.append(Skipped(position, f"repeats {positions[path]}", lost=False))
            else:
                skipped.append(Skipped(position, f"says something else of {path} than {positions[path]}"))
                labels[path] = f"{positions[path]} and {position} say different things of it"
    return Labelling(labels, label_files, tuple(skipped))


def _embedded_images(
    files: Files | None, tables: Sequence[_Table], columns: Sequence[Columns], rows: Sequence[list[ImageLabels | str]]
) -> Iterator[RawImage | Skipped]:
    """Yield the image of each row, in order, with its labels."""
    for table, chosen, of_rows in zip(tables, columns, rows, strict=True):
        sheet = table.sheet
        names = sheet.cells.get(chosen.of.get("path", ""), [])
        count = 0
        with table.open(files) as stream:
            for row, data in enumerate(iter_images(stream, sheet)):
                if row >= len(of_rows):
                    break
                count += 1
                position = f"{sheet.file}, line {sheet.lines[row]}"
                row_labels = of_rows[row]
                problem = (
                    row_labels
                    if isinstance(row_labels, str)
                    else data
                    if isinstance(data, str)
                    else image_problem(data)
                )
                if problem is not None:
                    yield Skipped(position, problem)
                    continue
                assert isinstance(row_labels, ImageLabels)
                assert isinstance(data, bytes)
                name = names[row] if names and names[row] else f"{PurePosixPath(sheet.file).stem}/{row:06d}"
                yield RawImage(path=name, data=data, **vars(row_labels))
        for row in range(count, len(of_rows)):
            yield Skipped(f"{sheet.file}, line {sheet.lines[row]}", "the file ends before its image")
    if files is not None:
        for path, reason in files.refused:
            yield Skipped(path, reason, lost=is_image_name(path))
        known = {table.path for table in tables}
        for path in files.paths:
            if path not in known:
                yield Skipped(path, "the table holds the images itself", lost=False)


class _TableReader:
    """Labels of a table, with the interface that ``read_images`` expects."""

    name = KIND
    layout = "a table of labels"

    def __init__(self, vocabulary: Vocabulary, labelling: Labelling) -> None:
        self.vocabulary = vocabulary
        self._labelling = labelling

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether any file is a table."""
        return has_tables(paths)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of the files matched with the tables."""
        assert self._labelling.files or files.paths
        return self._labelling

    def key(self, path: str) -> str:
        """Return the path itself."""
        return path
