"""Notes and tags for sweeps: validated here, and journalled by the sweep's driver, or here if the sweep has ended."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agr_core.errors import InputError
from orchestrator.catalog import control
from orchestrator.catalog.rebuilt import summary_of
from orchestrator.catalog.summary import write_summary
from orchestrator.errors import SweepOwnedError
from orchestrator.journal.events import ControlReceived
from orchestrator.journal.segments import JournalWriter, read_segments
from orchestrator.journal.sweep_state import SweepState
from orchestrator.storage.base import Storage

LONGEST_NOTE = 4000
LONGEST_TAG = 200
"""Characters."""

_TAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def check_note(text: str) -> str:
    """Return the text of a note without surrounding spaces.

    Raises:
        InputError: If it is empty, longer than ``LONGEST_NOTE`` characters, or holds control characters.
    """
    text = text.strip()
    if not text:
        raise InputError('the note is empty: write what you want to keep, such as agr note quickstart "lr too high".')
    if len(text) > LONGEST_NOTE:
        raise InputError(f"the note has {len(text):,} characters; it may have {LONGEST_NOTE:,}. Shorten or split it.")
    if bad := next((char for char in text if not char.isprintable() and char not in "\n\t"), None):
        raise InputError(f"the note holds the control character {bad!r}; leave it out.")
    return text


def parse_tags(words: Iterable[str], removed: Iterable[str] = ()) -> dict[str, str | None]:
    """Return tags by name from ``name`` and ``name=value``; None for those to remove.

    Raises:
        InputError: If there is none, a name is no name, or a value is too long.
    """
    tags: dict[str, str | None] = {}
    for word in words:
        name, _, value = word.partition("=")
        if len(value) > LONGEST_TAG or not value.isprintable():
            raise InputError(f"tag {name}: its value must be one line of at most {LONGEST_TAG} characters.")
        tags[name] = value
    tags |= dict.fromkeys(removed)
    if not tags:
        raise InputError("no tag is given: write NAME or NAME=VALUE, such as agr tag best keep reviewed=yes.")
    for name in tags:
        if not _TAG_NAME.fullmatch(name):
            raise InputError(f"{name!r} is not a valid tag name: use letters, digits, `_`, `-` and `.`, at most 100.")
    return tags


def check_annotation(name: str, arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a ``note`` or ``tag`` that a driver received.

    Raises:
        InputError: If they are not those of a note, or of tags.
    """
    if name == "note":
        check_note(str(arguments.get("text", "")))
        return
    tags = arguments.get("tags")
    if not isinstance(tags, Mapping):
        raise InputError(f"tags must be a mapping of names to values, not {tags!r}.")
    parse_tags(
        [f"{tag}={value}" for tag, value in tags.items() if value is not None],
        [tag for tag, value in tags.items() if value is None],
    )


def annotate(
    storage: Storage, sweep_id: str, name: str, arguments: Mapping[str, Any], *, warn: Callable[[str], None]
) -> bool:
    """Journal a note or tag of an ended sweep, or leave it for the driver; return whether it is journalled already.

    Raises:
        NotFoundError: If there is no such sweep.
        SweepOwnedError: If a driver took up the sweep at the same moment.
    """
    count, state = 0, None
    for segment in read_segments(storage, sweep_id):
        count = segment.number
        for event in segment.events:
            if state is None:
                state = SweepState.from_events([event])
            else:
                state.apply(event)
    if state is None or state.ended is None:
        control.send(storage, sweep_id, name, arguments)
        return False
    now = time.time()
    event = ControlReceived(
        time=now, command=name, arguments=dict(arguments), key=f"{name}-{secrets.token_hex(8)}",
        sender=control.sender(), sent=now,
    )  # fmt: skip
    summary = summary_of(storage, sweep_id, warn=warn)
    writer = JournalWriter(storage, sweep_id, next_segment=count + 1)
    writer.append(event)
    try:
        writer.flush()
    except SweepOwnedError as error:
        raise SweepOwnedError(
            f"sweep {sweep_id} was taken up by a driver at this moment, so nothing is noted. Try again."
        ) from error
    state.apply(event)
    write_summary(storage, summary.annotated(state.annotations, writer.head))
    return True
