"""The data of one trial: what the trainer asks for labels and batches."""

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

from agr_core.config import BinnedAge, ClassSampler, TrialConfig
from agr_core.data import sampling
from agr_core.data.augment import build_augment
from agr_core.data.batch import AgeLabels, Batch, Labels
from agr_core.data.cache import Pixels, Room, open_pixels
from agr_core.data.joined import Joined, open_data
from agr_core.data.loader import BatchMaker, Job, batch_bounds, in_order, training_jobs
from agr_core.data.node_copy import CopyFigures
from agr_core.data.pack import Packed
from agr_core.data.splits import PARTS, Split, check_classes_trained, draw_share, read_split
from agr_core.data.table import age_ranges, is_known
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.bins import Bins, BinsSpec

_DEFAULT_SAMPLER_BINS = "utk7"


class TrialData:
    """Labels and batches of one trial. Training batches are a function of (``config.seed``, epoch, sample) alone.

    Attributes:
        vocabulary: Gender and race classes of the data set, and its attributes.
        label_kind: Whether ages are known exactly or as ranges.
        age_ranges: Distinct (low, high) of the known ages of the images used, years, both ends included, ascending.
        foreign: The parts ``test.<name>``, data sets that only test, each with its own kind of labels and ranges.
        crop: How faces were cut out of the images, as ``FaceCropper.from_manifest`` takes it; None if they were not.
        data_digest: Digest of the data set.
        split_digest: Digest of the split.
        num_train: Images trained on, after ``data.fraction``.
        images_per_epoch: Images drawn in a training epoch; a sampler may draw some repeatedly.
        steps_per_epoch: Optimizer steps an epoch.
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
        self.num_train = len(self._rows["train"])
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
        """The data of a trial.

        Args:
            config: The trial.
            packed: Folder of the packed data set, or file of a join.
            split: File of the split.
            cache: Folder of the node's decoded images.
            workers: Threads that make batches ahead; 0 makes each when it is asked for.
            part: Process r of R that share each training batch and take the evaluated ones in turns.
            figures: Takes up what was decoded, or was spared.
            room: Makes room in the cache for what is decoded.

        Raises:
            DataError: If the files are not what they should be, do not belong together, lack the labels of a task or a
                class in training, or have age ranges that the trial's bins cut.
            IntegrityError: If a file is damaged.
        """
        # A trial has the cores it was given: OpenCV would otherwise start a thread for every core of the node.
        cv2.setNumThreads(0)
        data = open_data(packed)
        image = config.image
        pixels = open_pixels(data, size=image.decode_size, mode=image.cache, folder=cache, figures=figures, room=room)
        return cls(config, data, read_split(split), pixels, workers=workers, part=part)

    def num_rows(self, part: str) -> int:
        """Number of images of a part."""
        return len(self._rows[part])

    def labels(self, part: str) -> Labels:
        """Labels of every image of a part, in the order of ``batches``."""
        return self._labels.take(torch.from_numpy(self._rows[part]))

    def sample_ids(self, part: str) -> list[str]:
        """Sample id of every image of a part, in the order of ``batches``."""
        ids: list[str] = self._sample_ids[self._rows[part]].tolist()
        return ids

    def train_labels(self) -> Labels:
        """Labels of every image that is trained on (``num_train``,)."""
        return self.labels("train")

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of a training epoch, counted from 0; they have ``batch_size`` images.

        The last has those that are left, and a single image left over joins the batch before it.
        """
        config = self._config
        jobs = training_jobs(
            self._rows["train"][self._order(epoch)],
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
            augmented=config.augment.name != "none" or config.image.crop_from is not None,
            part=self._part,
        )
        return in_order(self._maker.make, jobs, self._workers)

    def batches(self, part: str) -> Iterator[Batch]:
        """The images of a part in the order of the table, unchanged, ``batch_size`` at a time.

        Of several processes each has every R-th batch, process 0 the first.
        """
        rows, size = self._rows[part], self._config.batch_size
        rank, processes = self._part
        jobs = (Job(rows[start : start + size]) for start in range(rank * size, len(rows), processes * size))
        return in_order(self._maker.make, jobs, self._workers)

    def close(self) -> None:
        """Let go of the images, so that a reused worker does not hold the map of its last trial."""
        del self._maker

    def _order(self, epoch: int) -> sampling.Order:
        return sampling.draw(self._config.sampler, self._classes, seed=self._config.seed, epoch=epoch)

    def _sampler_classes(self, table: pd.DataFrame) -> NDArray[np.int64]:
        """The class of each training image (n,) by which the sampler draws; one for all if it does not."""
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
    """Labels of every row of the table."""

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
    """Attributes of every row (N, count): 1 has it, 0 has it not, NaN not known."""
    values = np.full((len(table), count), np.nan, dtype=np.float32)
    for row, known in enumerate(table["attributes"]):
        if is_known(known):
            values[row] = np.asarray(known, dtype=np.float32)  # None becomes NaN
    return values


def _ages(table: pd.DataFrame) -> AgeLabels:
    """Kind and ranges of the known ages."""
    ranges = sorted(age_ranges(table))
    return AgeLabels("range" if any(low != high for low, high in ranges) else "exact", ranges)


def _age_bins(config: TrialConfig) -> BinsSpec | None:
    """The bins of the trial's age encoding, if it has any."""
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
    """Refuse tasks and samplers without labels, classes left out of training, and bins that cut label ranges."""
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
