"""Notes and tags that users give a sweep or one of its trials: a fold of the journal.

They are commands (``ControlReceived``), so journals with them are readable by versions without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.journal.events import ControlReceived, Event

COMMANDS = ("note", "tag")
"""Commands that describe a sweep and change nothing of it. They may follow its end."""


def is_annotation(event: Event) -> bool:
    """Return whether the event only describes the sweep: its time says nothing of how long a driver ran."""
    return isinstance(event, ControlReceived) and event.command in COMMANDS


@dataclass(frozen=True)
class Note:
    """One note."""

    text: str
    author: str
    """``user@host``."""
    time: float
    """Seconds since the epoch."""


@dataclass
class Annotations:
    """Notes and tags by trial ID; those of the sweep itself are under None."""

    notes: dict[str | None, list[Note]] = field(default_factory=dict)
    tags: dict[str | None, dict[str, str]] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        if not isinstance(event, ControlReceived) or event.command not in COMMANDS or event.refused:
            return
        subject = subject_of(event)
        if event.command == "note":
            note = Note(str(event.arguments.get("text", "")), event.sender, event.time)
            self.notes.setdefault(subject, []).append(note)
            return
        tags = self.tags.setdefault(subject, {})
        for name, value in (event.arguments.get("tags") or {}).items():
            if value is None:
                tags.pop(name, None)
            else:
                tags[name] = str(value)

    def texts(self, subject: str | None) -> list[str]:
        """Return the notes of a trial, or of the sweep, oldest first."""
        return [note.text for note in self.notes.get(subject, ())]

    def tags_of(self, subject: str | None) -> dict[str, str]:
        """Return the tags of a trial, or of the sweep, by name."""
        return dict(sorted(self.tags.get(subject, {}).items()))


def subject_of(event: ControlReceived) -> str | None:
    """Return the ID of the trial that a note or tag is about; None for the sweep."""
    trial_id = event.arguments.get("trial_id")
    return None if trial_id is None else str(trial_id)


def tag_words(tags: Mapping[str, str]) -> list[str]:
    """Return tags as a user writes them: ``name`` or ``name=value``."""
    return [f"{name}={value}" if value else name for name, value in tags.items()]


def has_tags(tags: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Return whether ``tags`` has all that are wanted: each as ``name``, of any value, or ``name=value``."""
    words = {*tags, *tag_words(tags)}
    return all(word in words for word in wanted)
