"""``agr bins``: age bins derived from a model's confusions."""

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

    from agr_core.bins import Bins
    from agr_core.config import TrialConfig
    from agr_core.evaluation.bin_design import Suggestion, Weigh
    from orchestrator.storage.base import Storage

_WIDEST = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    bins = typer.Typer(help="Age bins.", no_args_is_help=True)
    bins.command()(suggest)
    bins.callback()(lambda: None)  # without a callback, Typer drops the name of an only command
    app.add_typer(bins, name="bins")


def suggest(
    trial: TrialArgument,
    count: Annotated[int, typer.Option("--bins", min=2, help="Number of bins.")] = 7,
    width: Annotated[
        int | None,
        typer.Option(
            min=1, max=_WIDEST, help="Width in years of the narrow bins to merge; default: the trial's bins, or utk31."
        ),
    ] = None,
    weigh: Annotated[
        str, typer.Option(help="Unit of equal weight: bins (mean recall), ages (each narrow bin), or images.")
    ] = "bins",
    min_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Smallest share of the validation images in a bin.")
    ] = 0.03,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest the age bins that a trial's model confuses least on its validation images.

    Example: agr bins suggest 1f3a --bins 7
    """
    with errors_in_one_line():
        from agr_core.bins import SCHEMES, Bins
        from agr_core.errors import InputError
        from agr_core.evaluation.bin_design import even_bins, narrow_confusion, score_bins, suggest_bins

        if weigh not in ("bins", "ages", "images"):
            raise InputError(f"--weigh {weigh}: must be bins, ages or images.")
        by: Weigh = weigh  # type: ignore[assignment]
        true, predicted, own = _ages(storage_at(storage), trial)
        narrow, confusion = narrow_confusion(true, predicted, bins=own if width is None else even_bins(width))
        suggestion = suggest_bins(narrow, confusion, count, weigh=by, min_share=min_share)
        schemes = {
            name: score_bins(Bins.from_spec(name), narrow, confusion, weigh=by).score
            for name, edges in SCHEMES.items()
            if len(edges) == count and set(edges) <= set(narrow.edges)
        }
        if as_json:
            print_json(_document(suggestion, schemes, weigh=weigh, images=len(true)))
        else:
            _print_suggestion(suggestion, schemes, weigh=weigh, images=len(true))


def _ages(storage: Storage, text: str) -> tuple[NDArray[np.float64], NDArray[np.float64], Bins]:
    """Return true and predicted ages of the trial's validation images, in years, and its narrow bins.

    Raises:
        InputError: If the model does not resolve single years, or the data set's ages are ranges.
    """
    from agr_core.data.loading.trial_data import TrialData
    from agr_core.errors import InputError
    from agr_core.predict.model import TrainedLabels, TrainedModel
    from orchestrator.assets.datasets import room_of, stage
    from orchestrator.results.trained_model import fetched
    from orchestrator.settings import Settings
    from orchestrator.tracking.runs import trial_of_run

    cache = Settings.from_environment().cache
    with fetched(storage, text, trial_of_run) as trained:
        narrow = _narrow_bins(trained.config, trained.trial_id)
        model = TrainedModel(trained.config, trained.weights, TrainedLabels(trained.vocabulary))
        staged = stage(trained.data, storage=storage, cache=cache)
        data = TrialData.open(
            trained.config, packed=staged.packed, split=staged.split, cache=cache, room=room_of(cache)
        )
        try:
            if data.label_kind != "exact":
                raise InputError("the ages of this data set are ranges, which determine no finer bins.")
            true, predicted = model.ages(data.batches("val"))
            return true, predicted, narrow
        finally:
            data.close()


def _narrow_bins(config: TrialConfig, trial_id: str) -> Bins:
    """Return the trial's bins if they are narrow; for bins of single years, or no bins, return those of ``utk31``.

    The first and the last bin may be wider, because images at both ends of the age range are few.

    Raises:
        InputError: If the model does not resolve single years.
    """
    from agr_core.bins import Bins
    from agr_core.errors import InputError

    if "age" not in config.tasks:
        raise InputError(f"trial {trial_id} was not trained on ages (tasks={list(config.tasks)}).")
    spec = getattr(config.age, "bins", None)
    edges = () if spec is None else Bins.from_spec(spec).edges
    if any(after - low > _WIDEST for low, after in pairwise(edges[1:])) or edges[1:2] > (_WIDEST + 1,):
        raise InputError(
            f"trial {trial_id} was trained in bins of more than {_WIDEST} years (age.bins={spec}) and does not "
            "resolve the ages within them; train one with age.bins: utk31, every2 or year, or without bins."
        )
    return Bins(edges) if edges and any(after - low > 1 for low, after in pairwise(edges)) else Bins.from_spec("utk31")


def _document(suggestion: Suggestion, schemes: dict[str, float], *, weigh: str, images: int) -> dict[str, Any]:
    labels = suggestion.bins.labels
    return {
        "bins": list(suggestion.bins.edges),
        "labels": list(labels),
        "score": suggestion.score,
        "weigh": weigh,
        "images": images,
        "shares": dict(zip(labels, suggestion.shares, strict=True)),
        "images_by_bin": dict(zip(labels, suggestion.images, strict=True)),
        "schemes": schemes,
    }


def _print_suggestion(suggestion: Suggestion, schemes: dict[str, float], *, weigh: str, images: int) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("ages", "images", "right"):
        table.add_column(title, justify="right")
    for label, count, share in zip(suggestion.bins.labels, suggestion.images, suggestion.shares, strict=True):
        table.add_row(label, str(count), "" if share is None else f"{share:.1%}")
    out = console()
    out.print(table)
    out.print(f"\nbins: {list(suggestion.bins.edges)}", highlight=False)
    others = "".join(f"; {name} {score:.3f}" for name, score in schemes.items())
    out.print(
        f"score {suggestion.score:.3f}, equal weight for all {weigh}, {images} validation images{others}", style="dim"
    )
