"""Base class of the events of a journal."""

from __future__ import annotations

from pydantic import Field

from agr_core.config import StrictModel


class EventBase(StrictModel):
    """An event, with its time."""

    time: float = Field(description="Time of the event, seconds since the epoch.")
