"""Reduced check of the files of ``sweeps/seeds`` as shipped: data stage, models and trainings on drawn data.

Faces are drawn in the layouts of the file's data sets, then read, packed and split as the file defines. Every model is
built at its real size on torch's meta device. Every stage and configuration trains a shortened epoch at the size set by
the header's command. ``make seeds-as-shipped`` runs these commands to their end.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from agr_core.batch import Batch
from agr_core.config import TrialConfig
from agr_core.data.loading.trial_data import TrialData
from agr_core.identity import digest
from agr_core.labels.encodings import build_encoding
from agr_core.models import build_model
from agr_core.models.weights_file import WeightsFile
from agr_core.objective import BEST, Objective
from agr_core.trainer.loop import Training
from orchestrator.assets.datasets import prepare_data, stage
from orchestrator.spec.load import Sweep, load_sweep
from orchestrator.spec.space import Proposal
from orchestrator.storage import open_storage
from orchestrator.storage.base import Storage
from tests.parts.seeds import SEEDS, overrides

_DRAWS = 300
"""Number of configurations drawn from an infinite space; of them, a few that cover every choice are selected."""


def check_as_shipped(name: str, room: Path) -> None:
    """Read, build and train the contents of the file ``name`` on the data drawn in ``room``.

    Args:
        name: Name of the file without its suffix.
        room: Folder for storage and cache, with the drawn data in ``drawn``; shared by the files.
    """
    short = overrides(name, room / "drawn")
    sources = [text for text in short if text.partition("=")[0].endswith("source") or ".sources." in text]
    assert sources, "the header's command names no data"
    storage = open_storage(str(room / "storage"))

    shipped = list(_trainings(load_sweep(SEEDS / f"{name}.yaml", overrides=sources)))
    trainings = list(_trainings(load_sweep(SEEDS / f"{name}.yaml", overrides=short)))

    labels = _Labels(storage, room)
    for config in _distinct(shipped, ("model", "head", "image", "tasks", "age", "data")):
        _build_on_meta(config, labels)
    trained = _Trained(storage, room)
    for config in trainings:
        trained.train(config)
    assert trained.epochs >= len(_distinct(trainings, ("model",)))


def _trainings(sweep: Sweep) -> Iterator[TrialConfig]:
    """Return all configurations of a small space; of a larger space, a subset that covers every choice."""
    size = sweep.space.size()
    if size is not None and size <= _DRAWS:
        for point in sweep.space.points():
            yield sweep.space.build(lambda name, _, point=point: point[name]).config
        return
    draw = random.Random(1)
    proposals = [sweep.space.build(lambda _, domain: domain.draw(draw)) for _ in range(_DRAWS)]
    missing = set().union(*map(_choices, proposals))
    while missing:
        best = max(proposals, key=lambda proposal: len(_choices(proposal) & missing))
        missing -= _choices(best)
        yield best.config


def _choices(proposal: Proposal) -> set[tuple[str, str]]:
    return {(name, repr(value)) for name, value in proposal.params.items() if not isinstance(value, float | int)}


def _distinct(configs: list[TrialConfig], parts: tuple[str, ...]) -> list[TrialConfig]:
    """Return one configuration, of trials and their stages, for each distinct value of the given parts."""
    with_stages = [each for config in configs for each in (*(stage.config for stage in config.stages), config)]
    distinct: dict[str, TrialConfig] = {}
    for config in with_stages:
        document = config.to_document()
        distinct.setdefault(digest({part: document[part] for part in parts}), config)
    return list(distinct.values())


class _Labels:
    """Label vocabulary of each data set, computed once."""

    def __init__(self, storage: Storage, room: Path) -> None:
        self._storage, self._room = storage, room
        self._computed: dict[str, tuple[Any, Any]] = {}

    def of(self, config: TrialConfig) -> tuple[Any, Any]:
        """Return vocabulary and age ranges."""
        key = digest(config.data.model_dump(mode="json"))
        if key not in self._computed:
            # The image size differs from the shipped one so that no image is decoded here.
            small = config.model_copy(update={"image": config.image.model_copy(update={"size": 16, "crop_from": None})})
            small = small.model_copy(update={"augment": TrialConfig().augment})
            with closing(_open(small, self._storage, self._room)) as data:
                self._computed[key] = data.vocabulary, data.age_ranges
        return self._computed[key]


def _open(config: TrialConfig, storage: Storage, room: Path) -> TrialData:
    ref = prepare_data(config.data, storage=storage, cache=room / "cache")
    staged = stage(ref, storage=storage, cache=room / "cache")
    return TrialData.open(config, packed=staged.packed, split=staged.split, cache=room / "cache")


def _build_on_meta(config: TrialConfig, labels: _Labels) -> None:
    vocabulary, ranges = labels.of(config)
    encoding = build_encoding(config.age, ranges=ranges if "age" in config.tasks else ())
    with torch.device("meta"):
        model = build_model(
            config,
            age_outputs=encoding.outputs,
            num_genders=len(vocabulary.genders),
            num_races=len(vocabulary.races),
            num_attributes=len(vocabulary.attributes),
            age_layer=encoding.last_layer,
            untrained=True,
        )
    assert any(parameter.requires_grad for parameter in model.parameters())


class _Short:
    """A trial's data, shortened to one training batch per epoch and one validation batch."""

    def __init__(self, data: TrialData) -> None:
        self._data = data
        self.steps_per_epoch = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        return itertools.islice(self._data.train_batches(epoch), 1)

    def batches(self, part: str) -> Iterator[Batch]:
        return itertools.islice(self._data.batches(part), 1)

    def sample_ids(self, part: str) -> list[str]:
        return self._data.sample_ids(part)[: len(next(self.batches(part)).rows)]


class _Trained:
    """Shortened trainings, each run once; weights of stages are kept for trainings that start from them."""

    def __init__(self, storage: Storage, room: Path) -> None:
        self._storage, self._room = storage, room
        self._done: set[str] = set()
        self._stages: dict[str, WeightsFile] = {}

    @property
    def epochs(self) -> int:
        """Return the number of trainings run."""
        return len(self._done) + len(self._stages)

    def train(self, config: TrialConfig) -> None:
        """Train one epoch of one batch, from the weights of the stage before."""
        document = config.to_document()
        document["data"]["train"] = []  # the training data does not distinguish variants
        key = digest(document)
        if key not in self._done:
            self._done.add(key)
            self._epoch(config, self._weights_before(config), folder=None)

    def _weights_before(self, config: TrialConfig) -> WeightsFile | None:
        if config.init is None:
            return None
        stage_config = config.init.config
        key = digest(stage_config.to_document())
        if key not in self._stages:
            folder = self._room / "stages" / key
            folder.mkdir(parents=True)
            self._epoch(stage_config, self._weights_before(stage_config), folder=folder)
            self._stages[key] = WeightsFile.of(folder / f"{BEST}.safetensors")
        return self._stages[key]

    def _epoch(self, config: TrialConfig, before: WeightsFile | None, *, folder: Path | None) -> None:
        config = config.model_copy(update={"batch_size": 4, "accumulate": 1})
        objective = Objective(metric="val/loss", direction="minimize")
        with closing(_open(config, self._storage, self._room)) as data:
            short: Any = _Short(data)
            with closing(Training(config, short, objective, weights=before)) as training:
                training.run_epoch()
                if folder is not None:
                    training.save(folder)
