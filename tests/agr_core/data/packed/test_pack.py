from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import MANIFEST, Packed, is_packed, pack, pack_images, verify
from agr_core.data.packed.table import COLUMNS
from agr_core.data.readers import RawImage, Skipped
from agr_core.errors import DataError, IntegrityError, UnknownComponentError
from agr_core.identity import file_digest
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

VOCABULARY = Vocabulary(genders=GENDERS, races=UTKFACE_RACES)


@pytest.fixture
def raw(utkface_files: dict[str, bytes], write_folder: Callable[..., Path]) -> Path:
    return write_folder(utkface_files)


def test_a_packed_image_has_its_labels_and_its_exact_bytes(
    raw: Path, tmp_path: Path, utkface_files: dict[str, bytes]
) -> None:
    report = pack(str(raw), tmp_path / "packed")
    packed = Packed.open(tmp_path / "packed")
    assert report.images == len(packed) == len(utkface_files)
    assert tuple(packed.table.columns) == COLUMNS
    assert packed.vocabulary == VOCABULARY
    assert packed.label_kind == "exact"
    for row, data in zip(packed.table.itertuples(), packed.image_bytes(range(len(packed))), strict=True):
        age, gender, race, _ = row.path.split("_")
        assert data == utkface_files[row.path]
        assert row.sha256 == hashlib.sha256(data).hexdigest()
        assert (row.age, row.age_low, row.age_high) == (float(age),) * 3
        assert (row.gender, row.race) == (GENDERS[int(gender)], UTKFACE_RACES[int(race)])
        assert row.source == "utkface"
        assert row.subject != row.subject  # missing


def test_the_same_images_have_the_same_digest_and_ids_as_a_folder_and_as_an_archive_with_another_name(
    raw: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "other-name.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(raw, arcname="inner/folder")
    first = pack(str(raw), tmp_path / "one")
    second = pack(str(archive), tmp_path / "two")
    assert first.digest == second.digest
    one, two = Packed.open(tmp_path / "one").table, Packed.open(tmp_path / "two").table
    assert one["sample_id"].tolist() == two["sample_id"].tolist()
    assert one["path"].tolist() != two["path"].tolist()


def test_the_digest_does_not_depend_on_the_shards_and_neither_do_the_rows(tmp_path: Path) -> None:
    config = SyntheticConfig(images=100, size=16, seed=3)
    one = pack("synthetic", tmp_path / "one", synthetic=config)
    many = pack("synthetic", tmp_path / "many", synthetic=config, shard_bytes=10_000)
    assert len(one.manifest["shards"]) == 1
    assert len(many.manifest["shards"]) > 3
    assert one.digest == many.digest
    first, second = Packed.open(tmp_path / "one"), Packed.open(tmp_path / "many")
    assert first.table.equals(second.table)
    assert first.image_bytes(range(100)) == second.image_bytes(range(100))


@pytest.mark.parametrize("what", ["label", "image", "one fewer"])
def test_the_digest_changes_with_the_content(what: str, raw: Path, tmp_path: Path) -> None:
    before = pack(str(raw), tmp_path / "before").digest
    first, second = sorted(raw.iterdir())[:2]
    if what == "label":
        first.rename(first.with_name("99" + first.name[first.name.index("_") :]))
    elif what == "image":
        first.write_bytes(second.read_bytes())
    else:
        first.unlink()
    assert pack(str(raw), tmp_path / "after").digest != before


def test_images_are_found_in_any_order_and_repeatedly(faces: Packed) -> None:
    everything = faces.image_bytes(range(len(faces)))
    assert [hashlib.sha256(data).hexdigest() for data in everything] == faces.table["sha256"].tolist()
    rows = np.random.default_rng(0).integers(0, len(faces), 300)
    assert faces.image_bytes(rows) == [everything[row] for row in rows]
    assert faces.image_bytes([]) == []
    for outside in (-1, len(faces)):
        with pytest.raises(IndexError):
            faces.image_bytes([0, outside])


def test_shards_hold_about_what_was_asked_for_and_the_manifest_says_what_is_in_them(faces: Packed) -> None:
    shards = faces.manifest["shards"]
    assert len(shards) > 2
    assert sum(shard["rows"] for shard in shards) == faces.manifest["rows"] == 203
    for shard in shards:
        data = (faces.folder / shard["file"]).read_bytes()
        assert len(data) == shard["bytes"] < 2 * 40_000
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
    assert sorted(path.name for path in faces.folder.iterdir()) == [MANIFEST, *(shard["file"] for shard in shards)]


def test_packing_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    config = SyntheticConfig(images=20, size=16)
    for name in ("one", "two"):
        pack("synthetic", tmp_path / name, synthetic=config)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_images_pass_through_without_being_held_in_memory(tmp_path: Path) -> None:
    size, count = 200_000, 300

    def images() -> Iterator[RawImage]:
        for number in range(count):
            yield RawImage(path=f"{number:03d}", data=number.to_bytes(4, "little") * (size // 4))

    tracemalloc.start()
    pack_images(images(), tmp_path / "p", source="test", kind="test", vocabulary=Vocabulary((), ()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size * count / 4


def test_ages_known_as_ranges_make_a_data_set_of_ranges_and_missing_labels_stay_missing(tmp_path: Path) -> None:
    images = [
        RawImage(path="a", data=b"a", age=28.5, age_low=25.0, age_high=32.0, gender="male", subject="someone"),
        RawImage(path="b", data=b"b"),
    ]
    pack_images(images, tmp_path / "p", source="test", kind="adience", vocabulary=Vocabulary(GENDERS, ()))
    packed = Packed.open(tmp_path / "p")
    assert packed.label_kind == "range"
    assert packed.table["age"].isna().tolist() == [False, True]
    assert packed.table["subject"].tolist()[0] == "someone"
    assert packed.vocabulary.index("gender", packed.table["gender"]).tolist() == [0, -1]
    verify(tmp_path / "p")


def test_partitions_and_attributes_are_kept_and_part_of_the_digest(tmp_path: Path) -> None:
    vocabulary = Vocabulary(GENDERS, (), ("Bald", "Young"))
    images = [
        RawImage(path="a", data=b"a", partition="train", attributes=(True, False)),
        RawImage(path="b", data=b"b", partition="0", attributes=(None, True)),
        RawImage(path="c", data=b"c"),
    ]
    report = pack_images(images, tmp_path / "p", source="test", kind="test", vocabulary=vocabulary)
    packed = Packed.open(tmp_path / "p")
    assert packed.vocabulary == vocabulary
    assert packed.table["partition"].iloc[:2].tolist() == ["train", "0"]
    assert packed.table["partition"].isna().tolist() == [False, False, True]
    assert [None if known is None else list(known) for known in packed.table["attributes"]] == [
        [True, False],
        [None, True],
        None,
    ]
    verify(tmp_path / "p")
    digests = {report.digest}
    for number, (change, words) in enumerate(
        [({"partition": "val"}, vocabulary), ({"attributes": (True, True)}, vocabulary),
         ({"attributes": (True, None)}, vocabulary), ({"attributes": None}, vocabulary),
         ({"partition": None}, vocabulary), ({}, Vocabulary(GENDERS, (), ("Bald", "Old")))]
    ):  # fmt: skip
        changed = [replace(images[0], **change), *images[1:]]
        digests.add(pack_images(changed, tmp_path / f"{number}", source="test", kind="test", vocabulary=words).digest)
    assert len(digests) == 7


def test_data_sets_without_partitions_and_attributes_keep_the_digest_they_had_before_these_columns(
    tmp_path: Path,
) -> None:
    images = [
        RawImage(path="a.jpg", data=b"one", age=31.0, age_low=31.0, age_high=31.0, gender="male", race="Asian",
                 subject="s"),
        RawImage(path="b.jpg", data=b"two"),
        RawImage(path="c.jpg", data=b"one", age=28.5, age_low=25.0, age_high=32.0),
    ]  # fmt: skip
    report = pack_images(images, tmp_path / "p", source="test", kind="test", vocabulary=VOCABULARY)
    assert report.digest == "871a6e93f77a386556d06e874f83e22ef9a647a61c7a87dd560268e609b4b3fb"


def test_a_data_set_packed_before_these_columns_is_read_as_knowing_neither(faces: Packed, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    manifest = {name: deepcopy(value) for name, value in faces.manifest.items() if name != "attributes"}
    for shard in manifest["shards"]:
        table = pq.read_table(faces.folder / shard["file"]).drop_columns(["partition", "attributes"])
        pq.write_table(table, older / shard["file"])
        shard["bytes"] = (older / shard["file"]).stat().st_size
        shard["sha256"] = hashlib.sha256((older / shard["file"]).read_bytes()).hexdigest()
    (older / MANIFEST).write_text(json.dumps(manifest))
    verify(older)
    assert Packed.open(older).table.equals(faces.table)
    assert Packed.open(older).vocabulary == faces.vocabulary


def test_what_was_skipped_is_reported_sorted(raw: Path, tmp_path: Path) -> None:
    (raw / "notes.txt").write_text("hello")
    (raw / "33_1_20170116.jpg").write_bytes(b"x")
    report = pack(str(raw), tmp_path / "packed")
    assert report.skipped == (
        Skipped("33_1_20170116.jpg", "the name is not [age]_[gender]_[race]_[time].jpg"),
        Skipped("notes.txt", "not an image file by its name"),
    )
    assert report.manifest == Packed.open(tmp_path / "packed").manifest


def test_an_output_that_is_something_else_is_refused_and_left_alone(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("precious")
    file = tmp_path / "file"
    file.write_text("precious")
    for output in (folder, file):
        with pytest.raises(DataError, match="exists and is not a packed data set"):
            pack(str(raw), output)
    assert (folder / "thesis.tex").read_text() == file.read_text() == "precious"


def test_packing_again_into_the_same_output_leaves_it_and_another_data_set_is_refused(
    raw: Path, tmp_path: Path
) -> None:
    output = tmp_path / "packed"
    first = pack(str(raw), output)
    written = (output / MANIFEST).stat().st_mtime_ns
    assert pack(str(raw), output).digest == first.digest
    assert (output / MANIFEST).stat().st_mtime_ns == written
    with pytest.raises(DataError, match=r"holds another data set \(digest"):
        pack("synthetic", output, synthetic=SyntheticConfig(images=10, size=16))
    assert Packed.open(output).digest == first.digest


def test_an_empty_folder_may_be_the_output(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    pack(str(raw), tmp_path / "packed")
    assert is_packed(tmp_path / "packed")


def test_a_source_without_a_usable_image_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    folder = write_folder({"25_0_0_1.jpg": b"broken", "26_0_0_2.jpg": b""})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        DataError, match=r"no image that can be used \(2 files skipped; the first is '25_0_0_1.jpg': not an image of"
    ):
        pack(str(folder), tmp_path / "packed")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no reader recognises its 0 files"):
        pack(str(tmp_path / "empty"), tmp_path / "packed")
    with pytest.raises(DataError, match="holds no image that can be used"):
        pack(str(tmp_path / "empty"), tmp_path / "packed", reader="utkface")


def test_a_reader_that_is_not_known_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownComponentError, match="Unknown reader 'imdb'"):
        pack(str(raw), tmp_path / "packed", reader="imdb")


def test_a_packed_source_is_not_packed_again(raw: Path, tmp_path: Path) -> None:
    pack(str(raw), tmp_path / "packed")
    with pytest.raises(DataError, match="is already packed"):
        pack(str(tmp_path / "packed"), tmp_path / "again")


@pytest.fixture
def damaged(faces: Packed, tmp_path: Path) -> Path:
    """A copy of a packed data set, to be damaged."""
    return shutil.copytree(faces.folder, tmp_path / "damaged")


def test_a_whole_data_set_is_verified(faces: Packed) -> None:
    verify(faces.folder)


def test_a_flipped_bit_is_found_by_verifying(damaged: Path) -> None:
    shard = damaged / "shard-00001.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"shard-00001.parquet has SHA-256 .* Fetch it again"):
        verify(damaged)


def test_labels_that_do_not_have_the_manifest_s_digest_are_found_by_verifying(damaged: Path) -> None:
    manifest = json.loads((damaged / MANIFEST).read_text())
    manifest["races"] = manifest["races"][::-1]
    (damaged / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match="have data digest"):
        verify(damaged)


@pytest.mark.parametrize(("harm", "message"), [("cut", "has .* bytes; the manifest says"), ("missing", "is missing")])
def test_an_incomplete_shard_is_found_on_opening(harm: str, message: str, damaged: Path) -> None:
    shard = damaged / "shard-00000.parquet"
    if harm == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        shard.unlink()
    with pytest.raises(IntegrityError, match=message):
        Packed.open(damaged)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, r"is not a packed data set: it has no manifest.json.*agr data pack"),
        ("{", "is not JSON"),
        ("[]", "has schema_version None; this version reads 1"),
        ('{"schema_version": 99}', "has schema_version 99; this version reads 1"),
    ],
    ids=["none", "broken", "no mapping", "later version"],
)
def test_a_folder_without_a_manifest_of_this_version_is_refused(
    manifest: str | None, message: str, tmp_path: Path
) -> None:
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(DataError, match=message):
        Packed.open(tmp_path)


def test_images_that_are_not_those_of_their_rows_are_found_by_verifying(damaged: Path) -> None:
    """The labels, the digest and the shard's own SHA-256 are as they should be; the pictures are black squares."""
    manifest = json.loads((damaged / "manifest.json").read_text())
    shard = manifest["shards"][0]
    table = pq.read_table(damaged / shard["file"])
    black = pa.array([b"black"] * len(table), pa.binary())
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", black), damaged / shard["file"])
    shard["bytes"] = (damaged / shard["file"]).stat().st_size
    shard["sha256"] = file_digest(damaged / shard["file"])
    (damaged / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(IntegrityError, match="does not have the SHA-256 of its row"):
        verify(damaged)


@pytest.mark.parametrize("change", [{"label_kind": "range"}, {"rows": 10**9}])
def test_figures_of_a_manifest_that_its_rows_do_not_have_are_found_by_verifying(
    damaged: Path, change: dict[str, Any]
) -> None:
    manifest = json.loads((damaged / "manifest.json").read_text())
    (damaged / "manifest.json").write_text(json.dumps(manifest | change))

    with pytest.raises(IntegrityError, match=f"says {next(iter(change))} "):
        verify(damaged)


def test_a_crop_that_no_cropper_writes_is_no_manifest(damaged: Path) -> None:
    manifest = json.loads((damaged / "manifest.json").read_text())
    for crop in ("x", {"detector": "x", "version": "1", "margin": "y", "size": None}):
        (damaged / "manifest.json").write_text(json.dumps({**manifest, "crop": crop}))
        with pytest.raises(DataError, match="crop"):
            verify(damaged)
