"""``agr list``: list of the sweeps of a storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    console,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
    warn,
)
from orchestrator.journal.annotations import has_tags, tag_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.catalog.liveness import Silences
    from orchestrator.catalog.summary import Summary
    from orchestrator.storage.base import Storage

_JSON = ("sweep_id", "name", "status", "trials", "best", "tags", "notes", "annotated_trials")
_DAMAGED = "damaged"
"""Status of a sweep whose summary and journal are both unreadable."""

_STATUS_STYLE = {"running": "cyan", "completed": "green", "failed": "red", "lost": "red", _DAMAGED: "red"}


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command("list")(list_sweeps)


def list_sweeps(
    all_sweeps: Annotated[bool, typer.Option("--all", help="Also list sweeps without any trial.")] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="NAME[=VALUE]",
            help="Only sweeps that have this tag, or a trial with it (`agr tag`); may be repeated.",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search", help="Only sweeps with this text in their ID, or in tags or notes of them or a trial."
        ),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the sweeps of a storage, newest first.

    Example: agr list --tag baseline --search "lr too high"
    """
    with errors_in_one_line():
        from orchestrator.catalog.find import ran_nothing
        from orchestrator.catalog.ids import sweep_name
        from orchestrator.catalog.liveness import Silences
        from orchestrator.catalog.rebuilt import Unreadable, read_summaries

        opened = storage_at(storage)
        silences = Silences(opened)
        entries = list(read_summaries(opened, warn=warn))
        damaged = [entry for entry in entries if isinstance(entry, Unreadable)]
        for entry in damaged:
            warn(
                f"sweep {entry.sweep_id} cannot be read: {entry.error} `agr verify {entry.sweep_id}` lists every "
                "problem."
            )
        summaries = [(entry, _silence(entry, silences)) for entry in entries if not isinstance(entry, Unreadable)]
        shown = [
            (summary, silence) for summary, silence in summaries if all_sweeps or not ran_nothing(summary, silence)
        ]
        hidden = len(summaries) - len(shown)
        found = {summary.sweep_id: _found(summary, tag or (), search) for summary, _ in shown}
        shown = [entry for entry in shown if found[entry[0].sweep_id] or _has(entry[0], tag or (), search)]
        if as_json:
            documents = [{name: summary.document(silence)[name] for name in _JSON} for summary, silence in shown]
            unknown = {**dict.fromkeys(_JSON), "status": _DAMAGED}
            names = [{"sweep_id": entry.sweep_id, "name": sweep_name(entry.sweep_id)} for entry in damaged]
            print_json([*documents, *({**unknown, **entry} for entry in names)])
            return
        if not shown and (tag or search):
            wanted = ", ".join([*(tag or ()), *([search] if search else ())])
            say(f"no sweep or trial in {opened.uri} has all of: {wanted}.")
        elif shown or damaged:
            _print_sweeps(shown, [entry.sweep_id for entry in damaged])
            for line in (line for summary, _ in shown for line in found[summary.sweep_id]):
                say(line)
        else:
            say(f"no sweeps in {opened.uri} yet. Start one: agr submit sweeps/quickstart.yaml")
        if hidden:
            say(f"{hidden} that never ran a trial {'is' if hidden == 1 else 'are'} not listed; --all lists all.")
        say_where_others_are(opened)


def say_where_others_are(storage: Storage) -> None:
    """Print a hint if this machine's local folder has sweeps that ``storage`` lacks, with the command to copy them."""
    from orchestrator.settings import Settings, home_storage
    from orchestrator.storage import layout, open_storage

    folder = home_storage(Settings.from_environment().home)
    if storage.uri == str(folder) or not folder.is_dir():
        return
    others = set(open_storage(str(folder)).folders(layout.SWEEPS)) - set(storage.folders(layout.SWEEPS))
    if others:
        count = f"{len(others)} sweep{'s are' if len(others) > 1 else ' is'}"
        say(f"{count} in {folder}, this machine's own storage. Move: agr storage copy {folder} {storage.uri}")


def _silence(summary: Summary, silences: Silences) -> float:
    """Return the seconds since the driver's last sign of life; relevant only while the sweep runs."""
    return silences.of(summary.sweep_id) if summary.status == "running" else 0.0


def _print_sweeps(shown: Sequence[tuple[Summary, float]], damaged: Sequence[str]) -> None:
    from rich.text import Text

    from orchestrator.cli.render.fitted_table import Column, print_table

    summaries = [summary for summary, _ in shown]
    statuses = [*(summary.status_after(silence) for summary, silence in shown), *([_DAMAGED] * len(damaged))]
    empty = [""] * len(damaged)
    bests = [summary.best for summary in summaries]
    columns = [
        Column("sweep", [*(summary.sweep_id for summary in summaries), *damaged]),
        Column("status", [Text(status, style=_STATUS_STYLE.get(status, "yellow")) for status in statuses]),
        Column(
            "best",
            [*("" if best is None else ", ".join(f"{value:.4g}" for value in best.point) for best in bests), *empty],
            right=True,
            rank=1,
        ),
        Column("trials", [*map(_share, summaries), *empty], right=True, rank=2),
        Column("best trial", [*("" if best is None else best.trial_id for best in bests), *empty], rank=3),
        Column("outcomes", [*(_outcomes(*each) for each in shown), *empty], rank=4),
    ]
    if any(summary.tags for summary in summaries):
        tags = [", ".join(tag_words(summary.tags)) for summary in summaries]
        columns.append(Column("tags", [*tags, *empty], rank=2))
    print_table(columns, console())


def _has(summary: Summary, tags: Sequence[str], search: str | None) -> bool:
    """Return whether a sweep has all of the tags, each ``name`` or ``name=value``, and the text in what users wrote."""
    texts = (summary.sweep_id, *tag_words(summary.tags), *summary.notes)
    return has_tags(summary.tags, tags) and _contain(texts, search)


def _found(summary: Summary, tags: Sequence[str], search: str | None) -> list[str]:
    """Return a line for each trial that has all of the tags and the text; empty if neither is asked for."""
    if not tags and search is None:
        return []
    lines = []
    for trial_id, written in summary.annotated_trials.items():
        texts = (*tag_words(written.tags), *written.notes)
        if has_tags(written.tags, tags) and _contain(texts, search):
            lines.append(f"trial {summary.sweep_id}/{trial_id}: {'; '.join(texts)}")
    return lines


def _contain(texts: Sequence[str], search: str | None) -> bool:
    return search is None or any(search.lower() in text.lower() for text in texts)


def _share(summary: Summary) -> str:
    """Format the number of ended trials and of planned trials."""
    ended = sum(summary.trials.model_dump(exclude={"running"}).values())
    return str(ended) if summary.planned is None else f"{ended}/{summary.planned}"


def _outcomes(summary: Summary, silence: float) -> str:
    return ", ".join(f"{count} {name}" for name, count in summary.trial_counts(silence).items())
