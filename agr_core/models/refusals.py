"""Exceptions that layers raise for settings or image sizes they do not accept, and their reasons as text."""

from __future__ import annotations

import linecache
import traceback

from agr_core.out_of_memory import is_out_of_memory

REFUSED_BY_LAYERS = (
    RuntimeError,
    AssertionError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    ZeroDivisionError,
)
"""Exceptions that torch and timm raise for a setting or a size that a model does not accept."""


def raise_lack_of_memory(error: Exception) -> None:
    """Raise the error again if this machine's memory was too small: that says nothing of the model."""
    if is_out_of_memory(error):
        raise error


def reason_of(error: BaseException) -> str:
    """Return the first line of an exception's message.

    For an empty message, return its type and the line of code that raised it, skipping torch's own frames.
    """
    said = str(error).strip()
    if said and not isinstance(error, KeyError):
        return said.splitlines()[0].rstrip(".")
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = [(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, frame.f_lineno) for frame in frames]
    own = [line for line in lines if line[0].partition(".")[0] != "torch"] or lines
    if not own:
        return f"{type(error).__name__} {said}".strip()
    module, file, number = own[-1]
    code = linecache.getline(file, number).strip()
    return " ".join(filter(None, (type(error).__name__, said, f"at `{code}` in {module}")))
