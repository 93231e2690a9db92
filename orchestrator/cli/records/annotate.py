"""``agr note`` and ``agr tag``: words of the user's own on sweeps and trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, StorageOption, errors_in_one_line, print_json, say, storage_at, warn

if TYPE_CHECKING:
    from orchestrator.storage.base import Storage

_SubjectArgument = Annotated[
    str, typer.Argument(metavar="SWEEP|TRIAL", help="A sweep, or a trial: by its ID, SWEEP/TRIAL or `best`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    app.command()(note)
    app.command()(tag)


def note(
    subject: _SubjectArgument,
    text: Annotated[str, typer.Argument(help="The note, in quotes.")],
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a note to a sweep or a trial, with author and time; `agr show`, `agr status` and MLflow show it.

    Example: agr note best "the only one that does not confuse children with women"
    """
    with errors_in_one_line():
        from orchestrator.catalog.annotate import check_note

        _annotate(subject, storage, "note", {"text": check_note(text)}, as_json=as_json)


def tag(
    subject: _SubjectArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="NAME[=VALUE]...", help="Tags to set.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="Tag to remove; may be repeated.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag a sweep or a trial; `agr list --tag`, `agr leaderboard --tag` and MLflow's search find tags.

    Example: agr tag quickstart baseline reviewed=yes
    """
    with errors_in_one_line():
        from orchestrator.catalog.annotate import parse_tags

        _annotate(subject, storage, "tag", {"tags": parse_tags(tags or (), remove or ())}, as_json=as_json)


def _annotate(subject: str, storage: str | None, name: str, arguments: dict[str, Any], *, as_json: bool) -> None:
    from orchestrator.catalog.annotate import annotate

    opened = storage_at(storage)
    sweep_id, trial_id = _subject(opened, subject)
    if trial_id is not None:
        arguments["trial_id"] = trial_id
    done = annotate(opened, sweep_id, name, arguments, warn=warn)
    if as_json:
        print_json({"sweep_id": sweep_id, "command": name, "arguments": arguments, "journalled": done})
        return
    what = f"sweep {sweep_id}" if trial_id is None else f"trial {trial_id} of {sweep_id}"
    if done:
        say(f"{what} has the {name}. MLflow gets it with `agr sync`.")
    else:
        say(f"{what} gets the {name} from its driver, which checks every 2 s, or from the next one (`agr resume`).")


def _subject(storage: Storage, text: str) -> tuple[str, str | None]:
    """Return the sweep's ID, and the trial's if ``text`` names one: a sweep's name comes first.

    Raises:
        NotFoundError: If it names neither.
    """
    from orchestrator.catalog.find import find_sweep, find_trial
    from orchestrator.errors import AmbiguousIdError, NotFoundError
    from orchestrator.tracking.runs import trial_of_run

    try:
        return find_sweep(storage, text), None
    except NotFoundError as no_sweep:
        try:
            return find_trial(storage, text, trial_of_run)
        except AmbiguousIdError:
            raise
        except NotFoundError as no_trial:
            raise NotFoundError(f"{no_sweep} No trial starts with it, either.") from no_trial
