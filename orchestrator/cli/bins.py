"""``agr bins``: age bins made of a model's own mistakes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    TrialArgument,
    console,
    errors_in_one_line,
    print_json,
    storage_at,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agr_core.config import TrialConfig
    from agr_core.evaluation.bin_design import Suggestion, Weigh
    from orchestrator.storage.base import Storage

_WIDEST = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    bins = typer.Typer(help="Age bins.", no_args_is_help=True)
    bins.command()(suggest)
    bins.callback()(lambda: None)  # so that the one command keeps its name
    app.add_typer(bins, name="bins")


def suggest(
    trial: TrialArgument,
    count: Annotated[int, typer.Option("--bins", min=2, help="How many bins.")] = 7,
    width: Annotated[int, typer.Option(min=1, max=_WIDEST, help="Years of the narrow bins they are made of.")] = 2,
    weigh: Annotated[
        str, typer.Option(help="What counts alike: bins (their mean recall), ages (each narrow bin), or images.")
    ] = "bins",
    min_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Smallest share of the validation images in a bin.")
    ] = 0.03,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest the age bins that a trial's model confuses least with each other, by its validation images.

    Example: agr bins suggest 1f3a --bins 7
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from agr_core.evaluation.bin_design import narrow_confusion, score_bins, suggest_bins
        from agr_core.labels.bins import SCHEMES, Bins

        if weigh not in ("bins", "ages", "images"):
            raise InputError(f"--weigh {weigh}: what counts alike is bins, ages or images.")
        by: Weigh = weigh  # type: ignore[assignment]
        true, predicted = _ages(storage_at(storage), trial)
        narrow, confusion = narrow_confusion(true, predicted, width=width)
        found = suggest_bins(narrow, confusion, count, weigh=by, min_share=min_share)
        schemes = {
            name: score_bins(Bins.from_spec(name), narrow, confusion, weigh=by).score
            for name, edges in SCHEMES.items()
            if len(edges) == count and set(edges) <= set(narrow.edges)
        }
        if as_json:
            print_json(_document(found, schemes, weigh=weigh, images=len(true)))
        else:
            _print_suggestion(found, schemes, weigh=weigh, images=len(true))


def _ages(storage: Storage, text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """True and predicted ages of the trial's validation images.

    Raises:
        InputError: If its model does not tell years apart, or the data set's ages are ranges.
    """
    from agr_core.data.trial_data import TrialData
    from agr_core.errors import InputError
    from agr_core.predict import TrainedLabels, TrainedModel
    from orchestrator.datasets import room_of, stage
    from orchestrator.settings import Settings
    from orchestrator.trained import fetched

    cache = Settings.from_environment().cache
    with fetched(storage, text) as trained:
        _check_tells_years(trained.config, trained.trial_id)
        model = TrainedModel(trained.config, trained.weights, TrainedLabels(trained.vocabulary))
        staged = stage(trained.data, storage=storage, cache=cache)
        data = TrialData.open(
            trained.config, packed=staged.packed, split=staged.split, cache=cache, room=room_of(cache)
        )
        try:
            if data.label_kind != "exact":
                raise InputError("the ages of this data set are ranges, so no finer bins can be told from it.")
            return model.ages(data.batches("val"))
        finally:
            data.close()


def _check_tells_years(config: TrialConfig, trial_id: str) -> None:
    from agr_core.errors import InputError
    from agr_core.labels.bins import Bins

    if "age" not in config.tasks:
        raise InputError(f"trial {trial_id} was not trained on ages (tasks={list(config.tasks)}).")
    spec = getattr(config.age, "bins", None)
    edges = () if spec is None else Bins.from_spec(spec).edges
    if any(after - low > _WIDEST for low, after in pairwise(edges)):
        raise InputError(
            f"trial {trial_id} was trained in bins of more than {_WIDEST} years (age.bins={spec}) and cannot tell what "
            "is within them; train one with age.bins: every2 or year, or without bins."
        )


def _document(found: Suggestion, schemes: dict[str, float], *, weigh: str, images: int) -> dict[str, Any]:
    labels = found.bins.labels
    return {
        "bins": list(found.bins.edges),
        "labels": list(labels),
        "score": found.score,
        "weigh": weigh,
        "images": images,
        "shares": dict(zip(labels, found.shares, strict=True)),
        "images_by_bin": dict(zip(labels, found.images, strict=True)),
        "schemes": schemes,
    }


def _print_suggestion(found: Suggestion, schemes: dict[str, float], *, weigh: str, images: int) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("ages", "images", "right"):
        table.add_column(title, justify="right")
    for label, count, share in zip(found.bins.labels, found.images, found.shares, strict=True):
        table.add_row(label, str(count), "" if share is None else f"{share:.1%}")
    out = console()
    out.print(table)
    out.print(f"\nbins: {list(found.bins.edges)}", highlight=False)
    others = "".join(f"; {name} {score:.3f}" for name, score in schemes.items())
    out.print(f"score {found.score:.3f}, {weigh} counting alike, {images} validation images{others}", style="dim")
