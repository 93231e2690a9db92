"""Self-contained HTML page: markup, style, script and figures in one file, without network requests."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from agr_core.errors import InputError
from orchestrator.journal.sweep_state import SweepState
from orchestrator.report.evidence import Evidence, Stored
from orchestrator.report.figures import Key, first_two, page_figures
from orchestrator.results.leaderboard import check_comparable


def figures_of(evidence: Evidence, states: Sequence[SweepState], *, now: float | None = None) -> dict[str, Any]:
    """Compute the figures of sweeps.

    Args:
        evidence: Reader of the storage.
        states: The sweeps.
        now: Current time, in seconds since the epoch; None: the time of the call.

    Raises:
        InputError: If no sweep is given, or the sweeps cannot be compared.
    """
    if not states:
        raise InputError("no sweep given; name at least one. `agr list` shows what there is.")
    check_comparable(states)
    rows = evidence.rows(states)
    by_id = {state.started.sweep_id: state for state in states}
    stored: dict[Key, Stored] = {
        key: evidence.stored(by_id[key[0]], by_id[key[0]].trials[key[1]]) for key in first_two(rows)
    }
    moment = time.time() if now is None else now
    return page_figures(states, rows, stored, storage_uri=evidence.storage_uri, now=moment)


def page_html(figures: Mapping[str, Any] | None, *, title: str, live: bool = False) -> str:
    """Return the HTML page.

    Args:
        figures: Result of ``figures_of``; None: the page requests them from its server.
        title: Title of the page until its figures are drawn.
        live: Whether the page subscribes to its server's events.
    """
    folder = resources.files("orchestrator.report")
    page, style, script = (
        folder.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    # Within a script element, only "<" can start the end tag.
    text = "" if figures is None else json.dumps(figures, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    filled = {
        "title": escape(title),
        "style": style,
        "live": "yes" if live else "no",
        "figures": text,
        "script": script,
    }
    parts = page.split("{{")
    return parts[0] + "".join(filled[name] + rest for name, _, rest in (part.partition("}}") for part in parts[1:]))
