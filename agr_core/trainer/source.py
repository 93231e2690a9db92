"""Interface of the trainer to its data; ``agr_core.data.loading.trial_data.TrialData`` implements it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from agr_core.batch import AgeLabels, Batch, Labels
from agr_core.bins import LabelKind
from agr_core.labels.attributes import Vocabulary


class LabelSpace(Protocol):
    """Possible labels of a data set: all that a model with stored weights needs to know of its data."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the genders and races; a label is an index into them."""

    @property
    def label_kind(self) -> LabelKind:
        """Whether ages are given in years or ranges."""

    @property
    def age_ranges(self) -> Collection[tuple[float, float]]:
        """Distinct (low, high) of the known age labels, in years, both ends included."""


class TrainingData(LabelSpace, Protocol):
    """The three parts of one trial's data, in batches.

    An epoch's training order and augmentation depend on (config.seed, epoch, sample) alone.
    """

    @property
    def foreign(self) -> Mapping[str, AgeLabels]:
        """Test-only parts that are data sets of their own, with the kind and ranges of their ages."""

    @property
    def data_digest(self) -> str:
        """Digest of the data set's content."""

    @property
    def split_digest(self) -> str:
        """Digest of the split's content."""

    @property
    def images_per_epoch(self) -> int:
        """Number of images drawn in a training epoch, counting repetitions."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps per epoch, each of ``config.accumulate`` batches; the last may have fewer."""

    def labels(self, part: str) -> Labels:
        """Return the labels of all images of a part; for ``train``, the labels used in training."""

    def sample_ids(self, part: str) -> Sequence[str]:
        """Return the sample IDs of a part, in the order of ``batches``."""

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of training epoch ``epoch``, counted from 0."""

    def batches(self, part: str, *, augmented: bool = False) -> Iterator[Batch]:
        """Return a part's images in order; ``augmented``: changed at random as in training."""
