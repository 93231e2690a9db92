"""Unwrap Ray Train's exceptions around errors of its workers."""

from __future__ import annotations

_WRAPPED = ("_base_exc", "health_check_failure")
"""Attributes of Train's exceptions with the error of a process, and with Ray's finding on one that does not answer."""


def unwrapped(error: BaseException) -> BaseException:
    """Return the error inside one of Ray Train's own exceptions; any other error itself."""
    for name in _WRAPPED:
        error = getattr(error, name, error)
    return error
