"""Damaged images and archives by the thousand: each is read or refused, without a traceback, a hang or much memory.

``make test`` tries 1,000 mutants; ``AGR_MUTANTS=10000 pytest tests/agr_core/data/test_fuzz.py`` tries that many. From
the seed follows every one of them. They are read by child processes, whose memory and time are measured from outside.
"""

from __future__ import annotations

import gzip
import io
import lzma
import multiprocessing
import os
import queue
import resource
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agr_core.data.decode import decode, image_problem
from agr_core.data.packed.pack import pack
from agr_core.errors import DataError

MUTANTS = int(os.environ.get("AGR_MUTANTS", "1000"))
SEED = 20170116
SECONDS = 5.0
ANSWER_SECONDS = 60
MAX_BYTES = 2**30

_IMAGES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PROGRESSIVE", "16 BIT", "PALETTE", "ANIMATED")
_ARCHIVES = ("tar", "tar.gz", "tar.xz", "zip", "pax")
_NUMBERS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")


@lru_cache
def whole_image(kind: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    picture = Image.fromarray(np.kron(pixels, np.ones((4, 4, 1), dtype=np.uint8)))
    buffer = io.BytesIO()
    if kind == "PROGRESSIVE":
        picture.save(buffer, "JPEG", progressive=True)
    elif kind == "16 BIT":
        Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)).save(buffer, "PNG")
    elif kind == "PALETTE":
        picture.convert("P").save(buffer, "PNG", transparency=0)
    elif kind == "ANIMATED":
        picture.save(buffer, "WEBP", save_all=True, append_images=[picture.rotate(90)])
    else:
        picture.save(buffer, kind)
    return buffer.getvalue()


@lru_cache
def whole_archive(kind: str) -> bytes:
    files = {f"faces/{age}_0_1_2017{'x' * (120 if age == 30 else 1)}.jpg": whole_image("JPEG") for age in (20, 30, 40)}
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return buffer.getvalue()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT if kind == "pax" else tarfile.GNU_FORMAT
    ) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    plain = buffer.getvalue()
    return {"tar.gz": gzip.compress, "tar.xz": lzma.compress}.get(kind, bytes)(plain)  # type: ignore[operator]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Some damage: bytes changed, cut, repeated, moved, or numbers set to their extremes."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        # Headers decide what is believed, so half of the damage is done to the first bytes.
        place = int(random.integers(0, min(len(changed), 600) if random.random() < 0.5 else len(changed)))
        kind = random.integers(0, 6)
        if kind == 0:
            changed[place] = int(random.integers(0, 256))
        elif kind == 1:
            changed[place] ^= 1 << int(random.integers(0, 8))
        elif kind == 2:
            changed[place : place + 4] = _NUMBERS[int(random.integers(0, len(_NUMBERS)))]
        elif kind == 3:
            del changed[place : place + int(random.integers(1, 200))]
        elif kind == 4:
            changed[place:place] = changed[place : place + int(random.integers(1, 200))] * int(random.integers(1, 20))
        else:
            changed[place : place + 8] = random.integers(0, 256, 8, dtype=np.uint8).tobytes()
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def read_image(data: bytes, folder: Path, _: str) -> None:
    """What packing, predicting and training do with an image."""
    if image_problem(data) is None:
        decode(data)


def read_archive(data: bytes, folder: Path, kind: str) -> None:
    source = folder / f"source.{'tar' if kind == 'pax' else kind}"
    source.write_bytes(data)
    with suppress(DataError):
        pack(str(source), folder / f"packed-{time.monotonic_ns()}")


def try_mutants(
    read: Callable[[bytes, Path, str], None],
    whole: Callable[[str], bytes],
    kinds: tuple[str, ...],
    first: int,
    count: int,
    folder: Path,
    answers: multiprocessing.queues.Queue[tuple[int, str, float, str]],  # type: ignore[name-defined]
) -> None:
    """Child: read the mutants from ``first`` on, and answer for each how long it took and what was raised."""
    resource.setrlimit(resource.RLIMIT_AS, (6 * MAX_BYTES, 6 * MAX_BYTES))
    for number in range(first, first + count):
        random = np.random.default_rng((SEED, number))
        kind = kinds[number % len(kinds)]
        answers.put((number, kind, -1.0, ""))
        begin = time.process_time()
        try:
            read(mutated(whole(kind), random), folder, kind)
            problem = ""
        except BaseException as error:  # noqa: BLE001 - what is looked for
            problem = repr(error)
        answers.put((number, kind, time.process_time() - begin, problem))
    answers.put((-1, "", peak_bytes(), ""))


def peak_bytes() -> float:
    """Most memory that this process held; the figure of ``getrusage`` begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize(
    ("read", "whole", "kinds", "share"),
    [(read_image, whole_image, _IMAGES, 0.8), (read_archive, whole_archive, _ARCHIVES, 0.2)],
    ids=["images", "archives"],
)
def test_no_mutant_ends_in_a_traceback_hangs_or_takes_much_memory(
    read: Callable[[bytes, Path, str], None],
    whole: Callable[[str], bytes],
    kinds: tuple[str, ...],
    share: float,
    tmp_path: Path,
) -> None:
    count = round(MUTANTS * share)
    found = [(kind, seconds, problem) for kind, seconds, problem in tried(read, whole, kinds, count, tmp_path)]
    assert len(found) == count
    assert [(kind, problem) for kind, _, problem in found if problem] == []
    assert [(kind, seconds) for kind, seconds, _ in found if seconds > SECONDS] == []


def tried(
    read: Callable[[bytes, Path, str], None],
    whole: Callable[[str], bytes],
    kinds: tuple[str, ...],
    count: int,
    folder: Path,
) -> Iterator[tuple[str, float, str]]:
    """Kind, CPU seconds and what was raised, of each mutant."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=try_mutants, args=(read, whole, kinds, 0, count, folder, answers))
    child.start()
    begun = "none"
    try:
        while True:
            try:
                number, kind, value, problem = answers.get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                pytest.fail(f"no answer in {ANSWER_SECONDS} s; the last mutant begun: {begun}")
            begun = f"{kind} {number}"
            if number == -1:
                assert value < MAX_BYTES, f"the child took {value / 2**20:,.0f} MB"
                break
            if value >= 0:
                yield kind, value, problem
    finally:
        child.join(10)
        if child.is_alive():
            child.kill()
            child.join()
    assert child.exitcode == 0
