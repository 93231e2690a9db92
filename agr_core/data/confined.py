"""Execution of parsers for untrusted bytes in a child process with memory and time limits.

A small malicious file can make parsers of some formats allocate huge memory, run forever, or crash. In a child process
this affects only the child and becomes one error.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, BinaryIO

from agr_core.errors import DataError

MEMORY_BYTES = 800 * 2**20
"""Memory limit of a child, in bytes."""

SECONDS = 120
"""Default time limit of a child, in seconds."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
_OUT_OF_MEMORY = "MemoryError"


class ConfinedError(Exception):
    """The child could not read the bytes; the message is the reason."""


def run_confined(
    work: Callable[[], None], arguments: Sequence[str], data: bytes | BinaryIO, *, seconds: float = SECONDS
) -> bytes:
    """Run ``work`` in a child process and return its standard output.

    Args:
        work: Function of a module of this package, without parameters; it reads ``sys.argv[1:]`` and standard input.
        arguments: Its ``sys.argv[1:]``.
        data: Its standard input, as bytes or an open file.
        seconds: Time limit.

    Raises:
        ConfinedError: If it fails, crashes, or exceeds ``MEMORY_BYTES`` or ``seconds``.
    """
    try:
        child = subprocess.run(
            _command(work, arguments),
            input=data if isinstance(data, bytes) else None,
            stdin=None if isinstance(data, bytes) else data,
            capture_output=True,
            check=False,
            timeout=seconds,
            env=os.environ | _ONE_THREAD,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfinedError(f"reading it takes more than {seconds:g} s") from error
    _check_end(child.returncode, child.stderr)
    return child.stdout


@contextmanager
def stream_confined(work: Callable[[], None], arguments: Sequence[str], file: BinaryIO) -> Iterator[IO[bytes]]:
    """Run ``work`` as ``run_confined`` without a time limit; yield its standard output as a stream.

    Raises:
        ConfinedError: At the end of the block, if the child failed, crashed or exceeded the memory limit.
    """
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            _command(work, arguments), stdin=file, stdout=subprocess.PIPE, stderr=errors, env=os.environ | _ONE_THREAD
        )
        assert child.stdout is not None
        finished = False
        try:
            with child.stdout as output:
                yield output
            finished = True
        finally:
            if not finished:
                child.kill()
            child.wait()
        errors.seek(0)
        _check_end(child.returncode, errors.read())


def _command(work: Callable[[], None], arguments: Sequence[str]) -> list[str]:
    code = f"from {__name__} import confine; confine(); from {work.__module__} import {work.__name__} as w; w()"
    return [sys.executable, "-P", "-c", code, *arguments]


def _check_end(code: int, errors: bytes) -> None:
    """Raise ``ConfinedError`` if the child did not exit successfully."""
    if code == 0:
        return
    lines = errors.decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    if last.startswith((_OUT_OF_MEMORY, "numpy._core._exceptions._ArrayMemoryError", "pyarrow.lib.ArrowMemoryError")):
        raise ConfinedError(f"reading it takes more than {MEMORY_BYTES // 2**20} MB of memory")
    raise ConfinedError(last if code == 1 and last else f"its reader crashed, code {code}")


def confine() -> None:
    """Limit this process's private writable memory from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confined(work: Callable[[], None], arguments: Sequence[str], data: bytes | BinaryIO, path: str, what: str) -> bytes:
    """Run ``run_confined``; report failure as an error about the file ``path``, expected to be ``what``.

    Raises:
        DataError: If the child cannot read it.
    """
    try:
        return run_confined(work, arguments, data)
    except ConfinedError as error:
        raise DataError(f"{path} is not {what} ({error}); fetch it again.") from error
