"""What the trainer asks of its data; ``agr_core.data.trial_data.TrialData`` is the real one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from agr_core.data.batch import AgeLabels, Batch, Labels
from agr_core.evaluation.names import LabelKind
from agr_core.labels.attributes import Vocabulary


class LabelSpace(Protocol):
    """What the labels of a data set may be; all that a model with stored weights needs to know of its data."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the genders and races; a label is an index into them."""

    @property
    def label_kind(self) -> LabelKind:
        """Whether ages are years or ranges."""

    @property
    def age_ranges(self) -> Collection[tuple[float, float]]:
        """Distinct (low, high) of the known age labels, years, both ends included."""


class TrainingData(LabelSpace, Protocol):
    """The three parts of one trial's data, in batches.

    The training order and augmentation of an epoch are a function of (config.seed, epoch, sample) alone.
    """

    @property
    def foreign(self) -> Mapping[str, AgeLabels]:
        """Parts that are data sets of their own and only test, with the kind and ranges of their ages."""

    @property
    def data_digest(self) -> str:
        """Digest of the data set's content."""

    @property
    def split_digest(self) -> str:
        """Digest of the split's content."""

    @property
    def num_train(self) -> int:
        """Images that are trained on."""

    @property
    def images_per_epoch(self) -> int:
        """Images drawn in a training epoch, repetitions counted."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a training epoch, each of ``config.accumulate`` batches or, the last, of those left."""

    def labels(self, part: str) -> Labels:
        """Labels of all images of a part; of ``train``, those that are trained on."""

    def sample_ids(self, part: str) -> Sequence[str]:
        """Which images a part has, in the order of ``batches``."""

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of training epoch ``epoch``, counted from 0."""

    def batches(self, part: str) -> Iterator[Batch]:
        """A part's images in order, not augmented."""
