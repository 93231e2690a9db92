"""Data of one trial: labels and batches for the trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from agr_core.batch import AgeLabels, Batch, Labels
from agr_core.bins import Bins, BinsSpec
from agr_core.config import SYNTHETIC, BinnedAge, ClassSampler, TrialConfig
from agr_core.data.augment.augment import build_augment, sample_seed
from agr_core.data.loading import sampling
from agr_core.data.loading.cache import Pixels, Room, open_pixels
from agr_core.data.loading.loader import BatchMaker, Job, batch_bounds, in_order, training_jobs
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.data.packed.joined import Joined, open_data
from agr_core.data.packed.pack import Packed
from agr_core.data.packed.table import age_ranges, is_known
from agr_core.data.splits.splits import PARTS, Split, check_classes_trained, draw_share, read_split
from agr_core.errors import ConfigError, DataError
from agr_core.labels.attributes import Vocabulary

_DEFAULT_SAMPLER_BINS = "utk7"
_EVALUATION = -1
"""Value used as epoch in the augmentation seeds of an augmented evaluation; training never uses it."""


class TrialData:
    """Labels and batches of one trial. Training batches depend on (``config.seed``, epoch, sample) alone.

    Attributes:
        vocabulary: Gender and race classes of the data set, and its attributes.
        label_kind: Whether ages are known exactly or as ranges.
        age_ranges: Distinct (low, high) of the known ages of the images used, in years, both ends included, ascending.
        foreign: Parts ``test.<name>``, test-only data sets, each with its own kind and ranges of ages.
        crop: Crop settings of the images, for ``FaceCropper.from_manifest``; None if they were not cropped.
        only_drawn: Whether every training image is a drawn face, whichever data set it was packed into.
        data_digest: Digest of the data set.
        split_digest: Digest of the split.
        images_per_epoch: Number of images drawn in a training epoch, including repetitions.
        steps_per_epoch: Number of optimizer steps per epoch.
    """

    def __init__(
        self,
        config: TrialConfig,
        packed: Packed | Joined,
        split: Split,
        pixels: Pixels,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        _check_fits(packed, split)
        self.vocabulary: Vocabulary = packed.vocabulary
        self.label_kind, self.age_ranges = _ages(packed.table.iloc[split.used])
        self.foreign: dict[str, AgeLabels] = {
            part: _ages(packed.table.iloc[split.rows(part)]) for part in split.foreign
        }
        self.crop: dict[str, Any] | None = packed.crop
        self.data_digest: str = packed.digest
        self.split_digest: str = split.digest
        self._config = config
        self._workers = workers
        self._part = part
        self._rows: dict[str, NDArray[np.int64]] = {part: split.rows(part) for part in (*PARTS, *split.foreign)}
        self._rows["train"] = draw_share(
            split.sample_ids, self._rows["train"], config.data.fraction, config.data.split.seed
        )
        _check_labels(config, packed, self._rows["train"], split.used)
        self.only_drawn = bool((packed.table["source"].iloc[self._rows["train"]] == SYNTHETIC).all())
        self._sample_ids = split.sample_ids
        self._labels = _labels(packed.table, packed.vocabulary)
        self._classes = self._sampler_classes(packed.table)
        self._maker = BatchMaker(
            pixels,
            self._labels,
            size=config.image.size,
            grey=config.image.color == "grey",
            augment=lambda: build_augment(config.augment, config.image),
        )
        self.images_per_epoch = len(self._order(epoch=0))
        batches = len(batch_bounds(self.images_per_epoch, config.batch_size, processes=part[1]))
        self.steps_per_epoch = math.ceil(batches / config.accumulate)

    @classmethod
    def open(
        cls,
        config: TrialConfig,
        *,
        packed: Path,
        split: Path,
        cache: Path,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        figures: CopyFigures | None = None,
        room: Room | None = None,
    ) -> Self:
        """Open the data of a trial.

        Args:
            config: The trial.
            packed: Folder of the packed data set, or file of a join.
            split: File of the split.
            cache: Folder of the node's decoded images.
            workers: Number of threads that make batches ahead; 0: make each batch on demand.
            part: (r, R): process r of R processes, which share each training batch and take evaluation batches in
                turns.
            figures: Record of the decoding time spent or saved.
            room: Disk space of the cache.

        Raises:
            DataError: If the files are invalid or do not belong together, lack the labels of a task or a class in
                training, or have age ranges that the trial's bins cut.
            IntegrityError: If a file is damaged.
        """
        # Respect the trial's cores: by default, OpenCV starts a thread for every core of the node.
        cv2.setNumThreads(0)
        data = open_data(packed)
        image = config.image
        pixels = open_pixels(data, size=image.decode_size, mode=image.cache, folder=cache, figures=figures, room=room)
        return cls(config, data, read_split(split), pixels, workers=workers, part=part)

    def num_rows(self, part: str) -> int:
        """Return the number of images of a part; for ``train``, after ``data.fraction``."""
        return len(self._rows[part])

    def labels(self, part: str) -> Labels:
        """Return the labels of every image of a part, in the order of ``batches``."""
        return self._labels.take(torch.from_numpy(self._rows[part]))

    def sample_ids(self, part: str) -> list[str]:
        """Return the sample ID of every image of a part, in the order of ``batches``."""
        ids: list[str] = self._sample_ids[self._rows[part]].tolist()
        return ids

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of a training epoch, counted from 0, of ``batch_size`` images.

        The last has the remaining images; a single remaining image is added to the batch before it.

        Raises:
            ConfigError: If a plug-in's sampler draws another number of images than in the first epoch.
        """
        config = self._config
        order = self._order(epoch)
        if len(order) != self.images_per_epoch:
            raise ConfigError(
                f"sampler {config.sampler.name!r} draws {len(order)} images in epoch {epoch + 1} and "
                f"{self.images_per_epoch} in the first; every epoch must have the same number."
            )
        jobs = training_jobs(
            self._rows["train"][order],
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
            augmented=config.augment.name != "none" or config.image.crop_from is not None,
            part=self._part,
        )
        return in_order(self._maker.make, jobs, self._workers)

    def batches(self, part: str, *, augmented: bool = False) -> Iterator[Batch]:
        """Return a part's images in table order, ``batch_size`` at a time, unchanged unless ``augmented``.

        With R processes, each has every R-th batch, and process 0 the first. ``augmented`` images are changed as in
        training, with seeds that no training epoch uses.
        """
        rows, size = self._rows[part], self._config.batch_size
        rank, processes = self._part

        def job(start: int) -> Job:
            indices = range(start, min(start + size, len(rows)))
            seeds = tuple(sample_seed(self._config.seed, _EVALUATION, index) for index in indices)
            return Job(rows[start : start + size], seeds if augmented else None)

        jobs = (job(start) for start in range(rank * size, len(rows), processes * size))
        return in_order(self._maker.make, jobs, self._workers)

    def close(self) -> None:
        """Release the images, so that a reused worker does not hold the map of its last trial."""
        del self._maker

    def _order(self, epoch: int) -> sampling.Order:
        return sampling.draw(self._config.sampler, self._classes, seed=self._config.seed, epoch=epoch)

    def _sampler_classes(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """Return the class of each training image (n,) for the sampler; one class for all if it uses none."""
        sampler = self._config.sampler
        if not isinstance(sampler, ClassSampler):
            return np.zeros(len(self._rows["train"]), dtype=np.int64)
        if sampler.by != "age":
            classes: torch.Tensor = getattr(self._labels, sampler.by)
            return np.asarray(classes.numpy()[self._rows["train"]], dtype=np.int64)
        bins = Bins.from_spec(sampler.bins or _age_bins(self._config) or _DEFAULT_SAMPLER_BINS)
        bins.check_ranges(self.age_ranges, setting="sampler.bins")
        ages = table["age"].to_numpy(dtype=np.float64)[self._rows["train"]]
        known = np.isfinite(ages)
        age_classes = np.full(len(ages), -1, dtype=np.int64)
        age_classes[known] = bins.index(ages[known])
        return age_classes


def _labels(table: pd.DataFrame, vocabulary: Vocabulary) -> Labels:
    """Return the labels of every row of the table."""

    def years(column: str) -> torch.Tensor:
        return torch.from_numpy(table[column].to_numpy(dtype=np.float32).copy())

    return Labels(
        age=years("age"),
        age_low=years("age_low"),
        age_high=years("age_high"),
        gender=torch.from_numpy(vocabulary.index("gender", table["gender"])),
        race=torch.from_numpy(vocabulary.index("race", table["race"])),
        attributes=torch.from_numpy(_attributes(table, len(vocabulary.attributes))),
    )


def _attributes(table: pd.DataFrame, count: int) -> NDArray[np.float32]:
    """Return the attributes of every row (N, count): 1 present, 0 absent, NaN unknown."""
    values = np.full((len(table), count), np.nan, dtype=np.float32)
    for row, attributes in enumerate(table["attributes"]):
        if is_known(attributes):
            values[row] = np.asarray(attributes, dtype=np.float32)  # None becomes NaN
    return values


def _ages(table: pd.DataFrame) -> AgeLabels:
    """Return kind and ranges of the known ages."""
    ranges = sorted(age_ranges(table))
    return AgeLabels("range" if any(low != high for low, high in ranges) else "exact", ranges)


def _age_bins(config: TrialConfig) -> BinsSpec | None:
    """Return the bins of the trial's age encoding, if it has any."""
    return config.age.bins if isinstance(config.age, BinnedAge) else None


def _check_fits(packed: Packed | Joined, split: Split) -> None:
    if not np.array_equal(split.sample_ids, packed.table["sample_id"].to_numpy(dtype=object)):
        raise DataError(
            f"the split names {len(split.sample_ids)} samples that are not the {len(packed)} of {packed.folder}, in "
            "their order; make a split of this data set."
        )


def _check_labels(
    config: TrialConfig, packed: Packed | Joined, train_rows: NDArray[np.int64], used: NDArray[np.int64]
) -> None:
    """Check that tasks and samplers have labels, training has every class, and bins cut no label range."""
    table = packed.table
    wanted = {task: f"tasks names {task}" for task in config.tasks}
    if isinstance(config.sampler, ClassSampler):
        wanted.setdefault(config.sampler.by, f"sampler draws by {config.sampler.by}")
    for label, setting in wanted.items():
        if not table[label].iloc[train_rows].notna().any():
            others = [name for name in ("age", "gender", "race", "attributes") if table[name].notna().any()]
            raise DataError(
                f"{setting}, but none of the {len(train_rows)} training images has a {label} label. This data set has: "
                f"{', '.join(others) or 'no labels'}. Use those, or another data set."
            )
    way_out = (
        f"raise data.fraction (now {config.data.fraction:g}), name the label in data.split.by, try another "
        "data.split.seed, or take the task out of tasks"
    )
    labels = [task for task in config.tasks if task != "attributes"]
    check_classes_trained(table, train_rows, labels=labels, used=used, way_out=way_out)
    bins = _age_bins(config)
    if "age" in config.tasks and bins is not None:
        Bins.from_spec(bins).check_ranges(sorted(age_ranges(table.iloc[used])))
