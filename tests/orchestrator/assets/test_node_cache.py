"""One copy of a data set on a node, whoever asks at once, and a cache that keeps its size."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agr_core.data.loading.cache import DecodedPixels, JpegPixels, decoded_files, decoded_images, open_pixels
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.data.packed.pack import Packed, verify
from agr_core.data.packed.shards import MANIFEST
from agr_core.errors import DataError, IntegrityError
from orchestrator.assets.eviction import CacheRoom
from orchestrator.assets.node_cache import adopt, cached, cached_weights, held, verified
from orchestrator.assets.transfer import part_of, publish
from orchestrator.errors import StorageError
from orchestrator.storage import layout, open_storage
from orchestrator.storage.local import LocalStorage

if TYPE_CHECKING:
    from tests.parts.s3_proxy import S3Proxy

Make = Callable[[int], Packed]

# Stages data sets one after the other, says so, and stays until its input ends.
STAGE = """
import sys
from pathlib import Path
from orchestrator.storage import open_storage
from orchestrator.assets.node_cache import cached
cache, *places = sys.argv[1:]
for place in places:
    uri, digest = place.split("#")
    print(cached(open_storage(uri), digest, cache=Path(cache)), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(cache: Path, datasets: Sequence[Packed]) -> Iterator[subprocess.Popen[str]]:
    """A process that uses these data sets, as long as the block lasts."""
    places = [f"{data.folder}#{data.digest}" for data in datasets]
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE, str(cache), *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for _ in places:
            assert process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.communicate()


def size(data: Packed) -> int:
    return sum(path.stat().st_size for path in data.folder.iterdir())


def in_cache(cache: Path) -> set[str]:
    return {path.name for path in (cache / "datasets").iterdir() if path.is_dir()}


def test_a_data_set_is_fetched_once_and_then_found_without_asking_the_store(packed: Packed, tmp_path: Path) -> None:
    shutil.copytree(packed.folder, tmp_path / "store")
    source = open_storage(str(tmp_path / "store"))

    first = cached(source, packed.digest, cache=tmp_path / "cache")
    shutil.rmtree(tmp_path / "store")
    second = cached(source, packed.digest, cache=tmp_path / "cache")

    assert first == second
    verify(first)


@pytest.mark.slow
@pytest.mark.services
def test_eight_processes_at_once_fetch_each_shard_once(
    s3_proxy: S3Proxy, s3_uri: str, packed: Packed, tmp_path: Path
) -> None:
    publish(packed.folder, open_storage(s3_uri))
    s3_proxy.requests.clear()
    command = [sys.executable, "-c", STAGE, str(tmp_path / "cache"), f"{s3_uri}#{packed.digest}"]

    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    folders = {process.communicate(timeout=120)[0].strip() for process in processes}

    assert folders == {str(tmp_path / "cache/datasets" / packed.digest)}
    verify(Path(folders.pop()))
    for name in [MANIFEST, *(shard["file"] for shard in packed.manifest["shards"])]:
        assert s3_proxy.reads_of(name) == 1


@pytest.mark.slow
@pytest.mark.services
def test_a_fetch_that_was_killed_resumes_with_the_shards_it_has(
    s3_proxy: S3Proxy, s3_uri: str, packed: Packed, tmp_path: Path
) -> None:
    publish(packed.folder, open_storage(s3_uri))
    cache = tmp_path / "cache"
    shards = [shard["file"] for shard in packed.manifest["shards"]]
    s3_proxy.hold = shards[-1]
    command = [sys.executable, "-c", STAGE, str(cache), f"{s3_uri}#{packed.digest}"]
    killed = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    part = part_of(cache / "datasets" / packed.digest)
    deadline = time.monotonic() + 60
    while not all((part / shard).exists() for shard in shards[:-1]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    s3_proxy.hold = ""
    s3_proxy.requests.clear()

    verify(cached(open_storage(s3_uri), packed.digest, cache=cache))

    assert [s3_proxy.reads_of(shard) for shard in shards] == [0] * (len(shards) - 1) + [1]


def test_another_data_set_than_the_one_chosen_is_refused(packed: Packed, make_packed: Make, tmp_path: Path) -> None:
    other = make_packed(1)

    with pytest.raises(IntegrityError, match="it was replaced after the sweep chose it"):
        cached(open_storage(str(packed.folder)), other.digest, cache=tmp_path)
    assert in_cache(tmp_path) == set()


@pytest.mark.parametrize("name", ["../../escaped/here", "/tmp/escaped", "A" * 64, "d" * 63, ""])
def test_what_is_no_digest_is_refused_and_makes_nothing(tmp_path: Path, name: str) -> None:
    """Joins and stages in the bucket name data sets and weights; others may write them."""
    source = open_storage(str(tmp_path / "store"))
    for fetch in (cached, cached_weights):
        with pytest.raises(IntegrityError, match="is not a SHA-256"):
            fetch(source, name, cache=tmp_path / "node/cache")
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_made_here_is_not_fetched(packed: Packed, tmp_path: Path) -> None:
    shutil.copytree(packed.folder, tmp_path / "made")

    for _ in range(2):
        adopt(tmp_path / "made", packed.digest, cache=tmp_path / "cache")
    nowhere = open_storage(str(tmp_path / "nowhere"))
    verify(cached(nowhere, packed.digest, cache=tmp_path / "cache"))


def test_a_node_holds_complete_data_sets_and_joins_and_nothing_that_is_on_its_way(
    packed: Packed, tmp_path: Path
) -> None:
    assert held(tmp_path / "new") == frozenset()
    cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path)
    part_of(tmp_path / "datasets" / "another").mkdir()
    LocalStorage(tmp_path).write(layout.join("joined"), b"{}")
    assert held(tmp_path) == {packed.digest, "joined"}


def put_weights(store: Path, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    open_storage(str(store)).write(layout.weights(sha256), content)
    return sha256


@pytest.mark.parametrize("damaged", [b"", b"weigh", b"weights of others"])
def test_weights_that_have_changed_since_they_were_verified_are_fetched_again(tmp_path: Path, damaged: bytes) -> None:
    sha256 = put_weights(tmp_path / "store", b"weights")
    store, figures = open_storage(str(tmp_path / "store")), CopyFigures()
    file = cached_weights(store, sha256, cache=tmp_path / "cache")
    file.write_bytes(damaged)

    assert cached_weights(store, sha256, cache=tmp_path / "cache", figures=figures).read_bytes() == b"weights"

    assert figures.fetched_bytes == len(b"weights")
    shutil.rmtree(tmp_path / "store")
    assert cached_weights(store, sha256, cache=tmp_path / "cache") == file


def test_weights_that_an_older_version_left_are_verified_and_not_fetched(tmp_path: Path) -> None:
    sha256 = put_weights(tmp_path / "store", b"weights")
    nowhere = open_storage(str(tmp_path / "nowhere"))
    shutil.copytree(tmp_path / "store/weights", tmp_path / "cache/weights")
    assert cached_weights(nowhere, sha256, cache=tmp_path / "cache").read_bytes() == b"weights"


def test_a_cache_that_somebody_emptied_is_filled_again_and_what_is_used_is_held_again(
    packed: Packed, make_packed: Make, tmp_path: Path
) -> None:
    """A worker lives longer than the folder: to free its disk people remove that while a sweep runs."""
    cache, sha256 = tmp_path / "cache", put_weights(tmp_path / "store", b"weights")
    store, source = open_storage(str(tmp_path / "store")), open_storage(str(packed.folder))
    for _ in range(2):
        cached_weights(store, sha256, cache=cache)
        folder = cached(source, packed.digest, cache=cache)
        shutil.rmtree(cache)
    verify(cached(source, packed.digest, cache=cache))

    other = make_packed(1)
    cached(open_storage(str(other.folder)), other.digest, cache=cache, limit_bytes=size(other) + 1000)
    assert folder.is_dir(), "this process uses it"


def test_bytes_fetched_and_bytes_saved_are_reported(packed: Packed, tmp_path: Path) -> None:
    first, second = CopyFigures(), CopyFigures()
    for figures in (first, second):
        cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path, figures=figures)

    assert first.fetched_bytes == sum(shard["bytes"] for shard in packed.manifest["shards"])
    assert first.saved_s == 0
    assert (second.fetched_bytes, second.spent_s) == (0, pytest.approx(0, abs=0.5))
    assert second.saved_s == pytest.approx(first.spent_s, abs=0.1)


class TestDamage:
    """Files of the cache that are not as they were when they were verified."""

    @pytest.fixture
    def folder(self, packed: Packed, tmp_path: Path) -> Path:
        return cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path)

    @pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
    def test_a_damaged_shard_is_fetched_again_and_no_other(
        self, damage: str, folder: Path, packed: Packed, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad = packed.manifest["shards"][1]
        content = bytearray((folder / bad["file"]).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / bad["file"]).unlink()
        if damage != "gone":
            (folder / bad["file"]).write_bytes(content if damage == "changed" else content[:-1])
        figures = CopyFigures()

        mended = cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path, figures=figures)

        assert mended == folder
        verify(folder)
        assert figures.fetched_bytes == bad["bytes"]
        assert bad["file"] in caplog.text
        assert not part_of(folder).exists()

    def test_a_manifest_that_is_gone_comes_back(self, folder: Path, packed: Packed, tmp_path: Path) -> None:
        (folder / MANIFEST).unlink()
        cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path)
        verify(folder)

    def test_what_only_looks_changed_is_not_fetched(self, folder: Path, packed: Packed, tmp_path: Path) -> None:
        os.utime(folder / packed.manifest["shards"][0]["file"])
        for _ in range(2):
            cached(open_storage(str(tmp_path / "nowhere")), packed.digest, cache=tmp_path)


# Stages a data set on a disk whose files may have so many bytes.
SMALL_FILES = """
import resource, signal, sys
from pathlib import Path
from orchestrator.errors import StorageError
from orchestrator.storage import open_storage
from orchestrator.assets.node_cache import cached
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
cache, uri, digest = sys.argv[1:]
try:
    cached(open_storage(uri), digest, cache=Path(cache))
except StorageError as error:
    print(error)
"""


def test_a_disk_that_refuses_a_shard_is_reported_and_the_partial_shard_is_removed(
    packed: Packed, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SMALL_FILES, str(tmp_path), str(packed.folder), packed.digest]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout

    assert "File too large" in said
    assert "set AGR_HOME elsewhere" in said
    kept = [path.name for path in part_of(tmp_path / "datasets" / packed.digest).iterdir()]
    small = [shard["file"] for shard in packed.manifest["shards"] if shard["bytes"] <= 4000]
    assert set(kept) <= set(small)
    verify(cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path))  # room again


class TestSize:
    """The limit of the cache."""

    @pytest.mark.slow
    def test_the_longest_unused_data_set_makes_room(self, make_packed: Make, tmp_path: Path) -> None:
        old, older, new = (make_packed(seed) for seed in range(3))
        with other_process(tmp_path, [old, older]):
            pass
        os.utime(tmp_path / "datasets" / f".{older.digest}.use", (1, 1))

        limit = size(old) + size(new) + 1000
        cached(open_storage(str(new.folder)), new.digest, cache=tmp_path, limit_bytes=limit)

        assert in_cache(tmp_path) == {old.digest, new.digest}

    @pytest.mark.slow
    def test_data_in_use_is_not_evicted_and_the_growth_is_reported(
        self, make_packed: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        used, new = make_packed(0), make_packed(1)

        with other_process(tmp_path, [used]):
            cached(open_storage(str(new.folder)), new.digest, cache=tmp_path, limit_bytes=size(new) + 1000)
            assert in_cache(tmp_path) == {used.digest, new.digest}
            assert "beyond its limit" in caplog.text
            assert "AGR_CACHE_GB" in caplog.text

        third = make_packed(2)  # the process is gone, killed: what it used may go
        cached(open_storage(str(third.folder)), third.digest, cache=tmp_path, limit_bytes=size(third) + 1000)
        assert in_cache(tmp_path) == {new.digest, third.digest}  # this process uses both

    @pytest.mark.slow
    def test_decoded_images_count_and_go_with_their_data_set(self, make_packed: Make, tmp_path: Path) -> None:
        old, in_place = make_packed(0), make_packed(1)
        with other_process(tmp_path, [old]):
            pass
        for data in (old, in_place):
            decoded_images(data, size=32, folder=tmp_path)
        decoded_bytes = decoded_files(old.digest, tmp_path)[-1].stat().st_size

        verified(in_place.folder, in_place.digest, cache=tmp_path, limit_bytes=decoded_bytes)

        assert in_cache(tmp_path) == set()
        assert decoded_files(old.digest, tmp_path) == []
        assert len(decoded_images(in_place, size=32, folder=tmp_path)) == len(in_place)

    @pytest.mark.slow
    def test_what_nobody_uses_makes_room_for_decoded_images(self, make_packed: Make, tmp_path: Path) -> None:
        old, new = make_packed(0), make_packed(1)
        with other_process(tmp_path, [old]):
            pass
        decoded_images(old, size=32, folder=tmp_path)
        packed = Packed.open(cached(open_storage(str(new.folder)), new.digest, cache=tmp_path))
        assert in_cache(tmp_path) == {old.digest, new.digest}
        limit = size(new) + len(new) * 32 * 32 * 3 + 1000

        decoded_images(packed, size=32, folder=tmp_path, room=CacheRoom(tmp_path, limit))

        assert in_cache(tmp_path) == {new.digest}
        assert decoded_files(old.digest, tmp_path) == []
        held = sum(path.stat().st_size for path in (*tmp_path.glob("decoded-*"), *(tmp_path / "datasets").glob("*/*")))
        assert held <= limit

    def test_decoded_images_beyond_the_limit_are_refused_and_auto_decodes_at_each_use(
        self, packed: Packed, tmp_path: Path
    ) -> None:
        data = Packed.open(cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path))
        needed = size(data) + len(data) * 32 * 32 * 3
        small, enough = CacheRoom(tmp_path, needed - 1), CacheRoom(tmp_path, needed + 1000)

        with pytest.raises(StorageError, match=r"may hold .* Set image.cache: jpeg, or: Set AGR_CACHE_GB higher"):
            open_pixels(data, size=32, mode="decoded", folder=tmp_path, room=small)
        assert isinstance(open_pixels(data, size=32, mode="auto", folder=tmp_path, room=small), JpegPixels)
        assert isinstance(open_pixels(data, size=32, mode="auto", folder=tmp_path, room=enough), DecodedPixels)
        assert isinstance(open_pixels(data, size=32, mode="auto", folder=tmp_path, room=small), DecodedPixels), "there"

    def test_what_an_interrupted_fetch_left_counts_and_goes_too(self, make_packed: Make, tmp_path: Path) -> None:
        part, new = make_packed(0), make_packed(1)
        (tmp_path / "datasets").mkdir()
        shutil.copytree(part.folder, part_of(tmp_path / "datasets" / part.digest))
        (tmp_path / "datasets" / f".{part.digest}.use").touch()

        cached(open_storage(str(new.folder)), new.digest, cache=tmp_path, limit_bytes=size(new) + 1000)

        assert in_cache(tmp_path) == {new.digest}

    def test_weights_count_and_make_room(self, packed: Packed, tmp_path: Path) -> None:
        store = open_storage(str(tmp_path / "store"))
        contents = [bytes([number]) * 5_000 for number in range(2)]
        old, new = (hashlib.sha256(content).hexdigest() for content in contents)
        for sha256, content in zip((old, new), contents, strict=True):
            store.write(layout.weights(sha256), content)
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / f"{old}.safetensors").write_bytes(contents[0])
        (tmp_path / "weights" / f".{old}.safetensors.use").touch()

        assert cached_weights(store, new, cache=tmp_path, limit_bytes=6_000).read_bytes() == contents[1]
        assert not (tmp_path / "weights" / f"{old}.safetensors").exists()

        with pytest.raises(StorageError, match="may hold"):
            cached_weights(store, old, cache=tmp_path, limit_bytes=4_000)
        assert not (tmp_path / "weights" / f"{old}.safetensors").exists()
        cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path, limit_bytes=size(packed) + 1000)
        assert cached_weights(store, new, cache=tmp_path).exists(), "this process uses them"

    def test_a_data_set_larger_than_the_cache_is_refused_with_the_way_out(self, packed: Packed, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"may hold .* GB\. Set AGR_CACHE_GB higher"):
            cached(open_storage(str(packed.folder)), packed.digest, cache=tmp_path, limit_bytes=1000)

    def test_a_data_set_larger_than_the_disk_is_refused_with_the_way_out(self, packed: Packed, tmp_path: Path) -> None:
        source = tmp_path / "source"
        shutil.copytree(packed.folder, source)
        manifest = json.loads((source / MANIFEST).read_text())
        manifest["shards"][0]["bytes"] = 10**18
        (source / MANIFEST).write_text(json.dumps(manifest))

        with pytest.raises(StorageError, match=r"the disk of .* has .* GB free"):
            cached(open_storage(str(source)), packed.digest, cache=tmp_path / "cache", limit_bytes=10**19)


class TestInPlace:
    """Data sets of this machine, used where they are."""

    @pytest.fixture
    def folder(self, packed: Packed, tmp_path: Path) -> Path:
        return Path(shutil.copytree(packed.folder, tmp_path / "folder"))

    def test_it_is_hashed_once(self, packed: Packed, folder: Path, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        assert verified(folder, packed.digest, cache=cache) == folder

        # A byte changed behind the back of the file system's clock goes unseen: nothing is hashed a second time ...
        shard = folder / "shard-00000.parquet"
        before = shard.stat()
        damaged = bytearray(shard.read_bytes())
        damaged[100] ^= 1
        shard.write_bytes(damaged)
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        verified(folder, packed.digest, cache=cache)

        # ... but one that the clock saw does not.
        os.utime(shard)
        with pytest.raises(IntegrityError, match=r"shard-00000\.parquet has SHA-256"):
            verified(folder, packed.digest, cache=cache)

    def test_another_data_set_than_the_one_chosen_is_refused(self, make_packed: Make, folder: Path) -> None:
        with pytest.raises(IntegrityError, match="it was replaced after the sweep chose it"):
            verified(folder, make_packed(1).digest, cache=folder.parent / "cache")

    def test_a_cache_folder_that_is_not_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is not a packed data set"):
            verified(tmp_path, "0" * 64, cache=tmp_path / "cache")


def claiming(data: Packed, digest: str, folder: Path) -> Path:
    """A copy of the data set whose manifest claims another digest."""
    shutil.copytree(data.folder, folder)
    (folder / MANIFEST).write_text(json.dumps({**data.manifest, "digest": digest}))
    return folder


def test_a_data_set_that_claims_the_digest_of_another_is_refused_and_does_not_take_its_place(
    make_packed: Make, tmp_path: Path
) -> None:
    victim, other = make_packed(1), make_packed(2)
    evil = claiming(other, victim.digest, tmp_path / "evil")
    with pytest.raises(IntegrityError, match="is not the data set that its manifest claims"):
        cached(LocalStorage(evil), victim.digest, cache=tmp_path / "cache")
    with pytest.raises(IntegrityError, match="data digest"):
        verified(evil, victim.digest, cache=tmp_path / "cache")

    folder = cached(LocalStorage(victim.folder), victim.digest, cache=tmp_path / "cache")

    assert list(Packed.open(folder).table["sha256"]) == list(victim.table["sha256"])


def test_what_a_killed_process_left_unproven_is_proven_before_it_is_used(make_packed: Make, tmp_path: Path) -> None:
    """It may have been killed between the last shard and the recomputation of the digest."""
    victim, other = make_packed(1), make_packed(2)
    left = tmp_path / "cache/datasets" / victim.digest
    claiming(other, victim.digest, left)

    with pytest.raises(IntegrityError, match="is not the data set that its manifest claims"):
        cached(LocalStorage(victim.folder), victim.digest, cache=tmp_path / "cache")
    folder = cached(LocalStorage(victim.folder), victim.digest, cache=tmp_path / "cache")
    assert list(Packed.open(folder).table["sha256"]) == list(victim.table["sha256"])
