"""From a source in a configuration to verified files on a node."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from agr_core.config import DataConfig, SplitConfig, SyntheticConfig
from agr_core.data.packed.joined import open_data
from agr_core.data.packed.pack import Packed, pack, verify
from agr_core.data.splits.splits import make_split, read_split
from agr_core.errors import DataError, IntegrityError
from orchestrator.assets.datasets import StagedData, opened, packed_to, prepare_data, pull, push, stage
from orchestrator.errors import NotFoundError, StorageError
from orchestrator.journal.events import DataRef
from orchestrator.storage import Storage, is_remote, layout, open_storage

if TYPE_CHECKING:
    from tests.parts.s3_proxy import S3Proxy

FACES = SyntheticConfig(images=200, size=16, seed=3)
SPLIT = SplitConfig(strategy="random", fractions=(0.6, 0.2, 0.2), seed=1)


def config(source: str | Path = "synthetic", split: SplitConfig = SPLIT) -> DataConfig:
    return DataConfig(source=str(source), synthetic=FACES, split=split)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("packed") / "faces"
    pack("synthetic", folder, synthetic=FACES)
    return Packed.open(folder)


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in UTKFace's format: every gender and race, many ages, one bad name."""
    folder = tmp_path_factory.mktemp("raw") / "faces"
    folder.mkdir()
    for number in range(60):
        name = f"{number}_{number % 2}_{number % 5}_2017{number:04d}.jpg"
        (folder / name).write_bytes(jpeg(number))
    (folder / "39_1_2017.jpg").write_bytes(jpeg(99))
    return folder


def archive(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname="faces")
    return path


def check(staged: StagedData, ref: DataRef) -> Packed:
    """The staged data, which has the digests of the reference and a split that fits it."""
    verify(staged.packed)
    data, split = Packed.open(staged.packed), read_split(staged.split)
    assert data.digest == ref.data_digest
    assert split.digest == ref.split_digest
    assert list(split.sample_ids) == list(data.table["sample_id"])
    return data


def test_drawn_faces_are_packed_split_and_staged(storage: Storage, cache: Path, tmp_path: Path, packed: Packed) -> None:
    ref = prepare_data(config(), storage=storage, cache=cache)

    assert ref.data_uri == f"{storage.uri}/datasets/{ref.data_digest}"
    assert ref.data_digest == packed.digest
    assert ref.split_digest == make_split(packed.table, SPLIT).digest
    for node in (cache, tmp_path / "another node"):
        assert len(check(stage(ref, storage=storage, cache=node), ref)) == FACES.images


def test_a_raw_folder_and_an_archive_of_it_are_the_same_data(
    storage: Storage, cache: Path, tmp_path: Path, raw: Path
) -> None:
    from_folder = prepare_data(config(raw), storage=storage, cache=cache)
    from_archive = prepare_data(config(archive(raw, tmp_path / "faces.tar")), storage=storage, cache=cache)

    assert from_folder == from_archive
    assert len(check(stage(from_folder, storage=storage, cache=cache), from_folder)) == 60
    assert storage.folders("datasets") == (from_folder.data_digest,)


def test_what_is_prepared_is_not_made_again(storage: Storage, cache: Path, raw: Path) -> None:
    for source in ("synthetic", raw):
        first = prepare_data(config(source), storage=storage, cache=cache)
        before = list(storage.list(""))
        assert prepare_data(config(source), storage=storage, cache=cache) == first
        assert list(storage.list("")) == before


def test_a_changed_source_is_packed_anew(cache: Path, tmp_path: Path, raw: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    folder = Path(shutil.copytree(raw, tmp_path / "faces"))
    before = prepare_data(config(folder), storage=storage, cache=cache)
    (folder / "70_1_1_20170101.jpg").write_bytes(jpeg(70))
    after = prepare_data(config(folder), storage=storage, cache=cache)

    assert after.data_digest != before.data_digest
    assert after.split_digest != before.split_digest
    assert len(check(stage(after, storage=storage, cache=cache), after)) == 61


def test_other_faces_or_another_split_are_other_data(cache: Path, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    first = prepare_data(config(), storage=storage, cache=cache)
    other_split = prepare_data(config(split=SPLIT.model_copy(update={"seed": 2})), storage=storage, cache=cache)
    more = config().model_copy(update={"synthetic": SyntheticConfig(images=201, size=16, seed=3)})
    other_faces = prepare_data(more, storage=storage, cache=cache)

    assert other_split.data_digest == first.data_digest
    assert other_split.split_digest != first.split_digest
    assert other_faces.data_digest != first.data_digest


def test_what_was_removed_from_the_storage_is_made_again(storage: Storage, cache: Path) -> None:
    first = prepare_data(config(), storage=storage, cache=cache)
    for found in list(storage.list("")):
        storage.delete(found.key)

    assert prepare_data(config(), storage=storage, cache=cache) == first
    check(stage(first, storage=storage, cache=cache), first)


def test_a_packed_folder_is_used_in_place_or_goes_to_the_store(storage: Storage, cache: Path, packed: Packed) -> None:
    ref = prepare_data(config(packed.folder), storage=storage, cache=cache)
    staged = stage(ref, storage=storage, cache=cache)

    check(staged, ref)
    if is_remote(storage.uri):
        assert ref.data_uri == f"{storage.uri}/datasets/{packed.digest}"
    else:
        assert ref.data_uri == str(packed.folder)
        assert staged.packed == packed.folder
        assert storage.folders("") == ("splits",)


@pytest.mark.services
def test_a_packed_data_set_in_s3_is_used_where_it_is(s3_uri: str, cache: Path, tmp_path: Path, packed: Packed) -> None:
    push(packed.folder, f"{s3_uri}/faces")
    storage = open_storage(str(tmp_path / "storage"))

    ref = prepare_data(config(f"{s3_uri}/faces/"), storage=storage, cache=cache)

    assert ref.data_uri == f"{s3_uri}/faces"
    check(stage(ref, storage=storage, cache=cache), ref)
    assert storage.folders("") == ("splits",)


@pytest.mark.services
def test_a_second_sweep_on_s3_data_reads_the_manifest_alone(
    s3_proxy: S3Proxy, s3_uri: str, cache: Path, packed: Packed
) -> None:
    push(packed.folder, f"{s3_uri}/faces")
    storage = open_storage(f"{s3_uri}/sweeps")
    ref = prepare_data(config(f"{s3_uri}/faces"), storage=storage, cache=cache)
    stage(ref, storage=storage, cache=cache)
    s3_proxy.requests.clear()

    assert prepare_data(config(f"{s3_uri}/faces"), storage=storage, cache=cache) == ref
    stage(ref, storage=storage, cache=cache)

    assert s3_proxy.reads_of("manifest.json") == 1
    assert sum(method == "GET" for method, _ in s3_proxy.requests) == 1


@pytest.mark.services
def test_the_node_that_packed_for_s3_does_not_fetch_its_own_data(s3_proxy: S3Proxy, s3_uri: str, cache: Path) -> None:
    storage = open_storage(s3_uri)
    ref = prepare_data(config(), storage=storage, cache=cache)
    check(stage(ref, storage=storage, cache=cache), ref)

    assert s3_proxy.reads_of("shard-00000.parquet") == 0


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("/no/such/folder", NotFoundError, r"data\.source '/no/such/folder' does not exist"),
        ("no-such.tar", NotFoundError, r"data\.source '.*/no-such\.tar' does not exist"),
        ("empty", DataError, "empty"),
        ("text.tar", DataError, r"text\.tar"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_in_words(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.tar").write_text("no archive")
    storage = open_storage(str(tmp_path / "storage"))

    with pytest.raises(error, match=message):
        prepare_data(config(source), storage=storage, cache=cache)
    assert list(storage.list("")) == []


@pytest.mark.services
def test_an_s3_source_without_a_data_set_or_a_bucket_is_refused_in_words(s3_uri: str, cache: Path) -> None:
    storage = open_storage(s3_uri)

    with pytest.raises(NotFoundError, match=r"is not a packed data set.*agr data pack"):
        prepare_data(config(f"{s3_uri}/nothing"), storage=storage, cache=cache)
    with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket'"):
        prepare_data(config("s3://no-such-bucket/faces"), storage=storage, cache=cache)


def test_a_node_without_the_folder_says_what_to_do(cache: Path, tmp_path: Path, packed: Packed) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    ref = prepare_data(config(packed.folder), storage=storage, cache=cache)
    elsewhere = ref.model_copy(update={"data_uri": "/on/another/machine"})

    with pytest.raises(NotFoundError, match=r"no packed data set at /on/another/machine.*AGR_STORAGE to s3://"):
        stage(elsewhere, storage=storage, cache=cache)


def test_a_split_that_is_missing_or_another_one_is_refused(cache: Path, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    ref = prepare_data(config(), storage=storage, cache=cache)
    other = prepare_data(config(split=SplitConfig(strategy="random", seed=9)), storage=storage, cache=cache)
    storage.write(layout.split(ref.split_digest), storage.read(layout.split(other.split_digest)))

    with pytest.raises(IntegrityError, match="holds another split"):
        stage(ref, storage=storage, cache=cache)
    storage.delete(layout.split(ref.split_digest))
    with pytest.raises(NotFoundError, match=layout.split(ref.split_digest)):
        stage(ref, storage=storage, cache=cache)
    assert list((cache / "splits").glob("*")) == []


def test_several_sources_are_prepared_each_once_and_staged_as_one(
    storage: Storage, cache: Path, tmp_path: Path, raw: Path, packed: Packed
) -> None:
    sources = {"drawn": str(packed.folder), "raw": str(raw)}
    data = DataConfig(sources=sources, train=("raw",), test=("drawn",), synthetic=FACES, split=SPLIT)
    single = prepare_data(config(raw), storage=storage, cache=cache)
    before = storage.folders("datasets")
    ref = prepare_data(data, storage=storage, cache=cache)

    assert prepare_data(data, storage=storage, cache=cache) == ref
    assert set(storage.folders("datasets")) - set(before) <= {packed.digest}  # a local folder is used where it is
    assert ref.data_uri == f"{storage.uri}/joins/{ref.data_digest}.json"
    for node in (cache, tmp_path / "another node"):
        staged = stage(ref, storage=storage, cache=node)
        joined, split = open_data(staged.packed), read_split(staged.split)
        assert joined.digest == ref.data_digest
        assert len(joined) == 260
        assert split.foreign == ("test.drawn",)
        assert len(split.rows("test.drawn")) == 200
        own = make_split(Packed.open(stage(single, storage=storage, cache=node).packed).table, SPLIT)
        assert [len(split.rows(part)) for part in ("train", "val", "test")] == [
            len(own.rows(part)) for part in ("train", "val", "test")
        ]


def test_a_join_that_was_replaced_is_refused(cache: Path, tmp_path: Path, raw: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))

    def joined(**names: str) -> DataRef:
        data = DataConfig(sources=names, train=tuple(names), synthetic=FACES, split=SPLIT)
        return prepare_data(data, storage=storage, cache=cache)

    ref, other = joined(a=str(raw)), joined(b=str(raw))
    storage.write(layout.join(ref.data_digest), storage.read(layout.join(other.data_digest)))
    with pytest.raises(IntegrityError, match="joins other data sets"):
        stage(ref, storage=storage, cache=cache)


def test_what_a_split_leaves_out_is_reported_each_time(
    cache: Path, tmp_path: Path, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    data = DataConfig(source=str(raw), ages=(10, 50), split=SPLIT)
    for _ in range(2):
        caplog.clear()
        prepare_data(data, storage=storage, cache=cache)
        assert "19 of 60 images are in no part: age not within 10 to 50 years (19)." in caplog.text


def test_a_published_split_is_read_again_when_its_file_changes(cache: Path, tmp_path: Path, raw: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    path = tmp_path / "split.csv"

    def prepared(trained: int) -> str:
        names = sorted(file.name for file in raw.iterdir())
        lines = [f"{name},{'train' if number < trained else 'val'}" for number, name in enumerate(names)]
        path.write_text("\n".join(["file,split", *lines]))
        split = SplitConfig(strategy="file", path=str(path))
        return prepare_data(config(raw, split=split), storage=storage, cache=cache).split_digest

    assert prepared(50) == prepared(50) != prepared(45)


def test_a_cache_limit_that_is_no_number_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agr_core.errors import InputError
    from orchestrator.settings import Settings

    monkeypatch.setenv("AGR_CACHE_GB", "1.5")
    assert Settings.from_environment().cache_bytes == 1_500_000_000
    for text in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("AGR_CACHE_GB", text)
        with pytest.raises(InputError, match=f"AGR_CACHE_GB='{text}' must be a number of gigabytes above 0"):
            Settings.from_environment()


@pytest.mark.services
def test_the_cache_limit_of_the_environment_holds(
    s3_uri: str, cache: Path, packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(packed.folder, f"{s3_uri}/faces")
    monkeypatch.setenv("AGR_CACHE_GB", "0.000001")

    with pytest.raises(StorageError, match="AGR_CACHE_GB"):
        prepare_data(config(f"{s3_uri}/faces"), storage=open_storage(s3_uri), cache=cache)


@pytest.mark.services
def test_push_and_pull_copy_a_data_set_there_and_back(s3_uri: str, tmp_path: Path, packed: Packed) -> None:
    assert push(packed.folder, f"{s3_uri}/faces") == packed.manifest
    for _ in range(2):  # the second finds it there
        assert pull(f"{s3_uri}/faces", tmp_path / "copy") == packed.manifest

    verify(tmp_path / "copy")
    assert Packed.open(tmp_path / "copy").table.equals(packed.table)


@pytest.mark.services
def test_a_damaged_folder_is_not_pushed(s3_uri: str, tmp_path: Path, packed: Packed) -> None:
    folder = Path(shutil.copytree(packed.folder, tmp_path / "damaged"))
    shard = folder / "shard-00000.parquet"
    damaged = bytearray(shard.read_bytes())
    damaged[50] ^= 1
    shard.write_bytes(damaged)

    with pytest.raises(IntegrityError, match=r"shard-00000\.parquet"):
        push(folder, f"{s3_uri}/faces")
    assert list(open_storage(s3_uri).list("")) == []


@pytest.mark.services
def test_pull_leaves_a_folder_with_other_things_alone(s3_uri: str, tmp_path: Path, packed: Packed) -> None:
    push(packed.folder, f"{s3_uri}/faces")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")

    with pytest.raises(DataError, match="exists with other content"):
        pull(f"{s3_uri}/faces", tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]


@pytest.mark.services
def test_packing_into_a_missing_bucket_is_refused_before_anything_is_read(s3_uri: str, tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="there is no bucket"),
        packed_to("/no/such/source", "s3://no-such-bucket/faces"),
    ):
        pass


@pytest.mark.services
def test_any_kind_of_source_can_be_opened(s3_uri: str, cache: Path, tmp_path: Path, raw: Path, packed: Packed) -> None:
    with packed_to(str(raw), f"{s3_uri}/faces") as made:
        digest = made.digest

    for source in (str(raw), str(archive(raw, tmp_path / "faces.tar")), f"{s3_uri}/faces"):
        with opened(source, cache=cache) as data:
            assert (data.digest, len(data)) == (digest, 60)
            assert [entry["file"].rpartition("/")[2] for entry in data.manifest["skipped"]] == ["39_1_2017.jpg"]
    with opened(str(packed.folder), cache=cache) as data:
        assert data.digest == packed.digest


def test_drawn_faces_of_another_seed_are_another_data_set(tmp_path: Path, cache: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    configured, same, other = (
        prepare_data(config(source), storage=storage, cache=cache).data_digest
        for source in ("synthetic", f"synthetic:{FACES.seed}", "synthetic:4")
    )
    assert configured == same != other
