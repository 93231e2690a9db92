"""Ray session of one sweep: start or join Ray with a driver's environment, logs and signals, and restore them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from agr_core.errors import InputError
from orchestrator.errors import SweepFailedError
from orchestrator.ray_tune.labels import USD_PER_HOUR
from orchestrator.ray_tune.machine import OF_ANOTHER, is_of_a_driver, ray_folder
from orchestrator.ray_tune.warm import fill_up_nodes
from orchestrator.settings import Settings

_OBJECT_STORE_BYTES = 200 * 2**20  # trials exchange nothing through it
_STARTS = 3
_TOO_SLOW = "timed out during startup"  # part of the message of a bare Exception of Ray

_TUNE_ENVIRONMENT = {
    # Read while ray.tune runs in this process.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",  # SweepSearch decides how many trials are pending
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output engine can be silenced
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextlib.contextmanager
def tune_environment() -> Iterator[None]:
    """Set the variables that Ray and Tune read in the driver; restore the old values at the end."""
    before = {name: os.environ.get(name) for name in _TUNE_ENVIRONMENT}
    os.environ.update(_TUNE_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def start_ray(*, loopback: bool = True, **options: Any) -> None:
    """Start an embedded Ray. Ray's agents have a fixed limit of 15 s, so on a busy machine the start is retried.

    ``loopback``: whether it listens on the loopback address alone; other processes can then not join it.

    Raises:
        InputError: If no folder has room for the names of its sockets.
        SweepFailedError: If it does not start, or times out three times.
    """
    import ray

    from orchestrator.ray_tune.internals.core import job_without_working_folder, loopback_only

    folder = str(ray_folder())
    for attempt in range(_STARTS):
        try:
            with loopback_only() if loopback else contextlib.nullcontext():
                # "local": a stale file of an earlier cluster would otherwise be taken for one to join.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=folder,
                    job_config=job_without_working_folder(),
                    **options,
                )
            return
        except Exception as error:
            late = _TOO_SLOW in str(error)
            if late and attempt < _STARTS - 1:
                continue
            raise SweepFailedError(
                "Ray does not start in time: this machine is too busy with other work. Try again when it is not."
                if late
                else f"Ray does not start on this machine: {last_line(error)}. Its logs are in "
                f"{folder}/session_latest/logs; --debug shows the traceback."
            ) from error


def last_line(error: Exception) -> str:
    """Return the last line of an error's text, where Ray names the cause; its type's name without a text."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip().rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def ray_for(settings: Settings) -> Iterator[None]:
    """Yield a Ray session: this process's, the cluster at ``RAY_ADDRESS``, or a new embedded one."""
    import ray

    with _quiet_ray():
        if ray.is_initialized():
            yield
        else:
            with _started_ray(settings):
                yield


@contextlib.contextmanager
def _quiet_ray() -> Iterator[None]:
    """Silence the logs of Ray and Tune below critical; restore the level at the end."""
    log = logging.getLogger("ray")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _started_ray(settings: Settings) -> Iterator[None]:
    """Join the cluster at ``RAY_ADDRESS``, or start an embedded Ray; leave it at the end."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if settings.ray_address is not None:
        _join(settings.ray_address, quiet)
    else:
        price = settings.usd_per_hour
        start_ray(**quiet, labels={} if price is None else {USD_PER_HOUR: f"{price:g}"})
    try:
        # Ray prints cluster messages, such as a node's death, on stdout, which is for results alone.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        try:
            nodes = [] if settings.ray_address is None else ray.nodes()
        finally:
            ray.shutdown()
        fill_up_nodes(nodes)


def _join(address: str, options: dict[str, Any]) -> None:
    import ray

    from orchestrator.ray_tune.internals.core import job_without_working_folder

    try:
        ray.init(address=address, job_config=job_without_working_folder(), **options)
    except ConnectionError as error:
        raise InputError(
            f"no cluster answers at {address!r} (--address, else RAY_ADDRESS): {error}. "
            "Start one, or give neither to use this machine."
        ) from error
    except Exception as error:
        raise SweepFailedError(
            f"the cluster at RAY_ADDRESS={address!r} cannot be joined: {last_line(error)}. Unset RAY_ADDRESS to use "
            "this machine."
        ) from error
    joined = ray.get_runtime_context().gcs_address
    if address == "auto" and is_of_a_driver(joined):  # an explicit address is always used
        ray.shutdown()
        raise InputError(OF_ANOTHER.format(address=address, joined=joined))


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM, and SIGHUP of a closing terminal, like Ctrl-C: the sweep ends and its state is kept.

    A closing terminal sends SIGHUP more than once, so after the first it is ignored, also behind this block. Where it
    is ignored already (``nohup``) it stays so. Ray's jobs inherit a mask that blocks SIGINT; it is lifted meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hung_up = False

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        nonlocal hung_up
        if signum == signal.SIGHUP:
            if hung_up:
                return
            hung_up = True
            _leave_terminal()
        signal.raise_signal(signal.SIGINT)

    before = {
        signum: signal.signal(signum, interrupt)
        for signum in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(signum) != signal.SIG_IGN
    }
    interrupts = signal.getsignal(signal.SIGINT)
    masked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, signal.SIG_IGN if signum == signal.SIGHUP and hung_up else handler)
        signal.signal(signal.SIGINT, interrupts)  # Tune leaves its own handler behind
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _leave_terminal() -> None:
    """Redirect standard input and output to /dev/null if they are a closed terminal: writing there would fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)
