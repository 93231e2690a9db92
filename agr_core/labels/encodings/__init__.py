"""Age encodings: how an age becomes a training target, which loss is taken, and how years are read off the outputs."""

from __future__ import annotations

from collections.abc import Collection

from agr_core.config import AgeConfig
from agr_core.labels.encodings.base import AGE_ENCODINGS, AgeEncoding
from agr_core.labels.encodings.ordinal import Coral, Corn, Ordinal, YoungerThan
from agr_core.labels.encodings.regression import Regression
from agr_core.labels.encodings.softmax import DldlV2, JointGender, LabelDistribution, MeanVariance, Onehot, Sord

__all__ = ["AGE_ENCODINGS", "AgeEncoding", "build_encoding"]

AGE_ENCODINGS.register("regression", Regression)
AGE_ENCODINGS.register("onehot", Onehot)
AGE_ENCODINGS.register("dex", Onehot)
AGE_ENCODINGS.register("mean_variance", MeanVariance)
AGE_ENCODINGS.register("label_distribution", LabelDistribution)
AGE_ENCODINGS.register("dldl_v2", DldlV2)
AGE_ENCODINGS.register("sord", Sord)
AGE_ENCODINGS.register("joint_gender", JointGender)
AGE_ENCODINGS.register("ordinal", Ordinal)
AGE_ENCODINGS.register("coral", Coral)
AGE_ENCODINGS.register("corn", Corn)
AGE_ENCODINGS.register("younger_than", YoungerThan)


def build_encoding(config: AgeConfig, *, ranges: Collection[tuple[float, float]] = ()) -> AgeEncoding:
    """The encoding a configuration describes.

    Args:
        config: ``TrialConfig.age``.
        ranges: Distinct (low, high) of the data set's age labels, both ends included.

    Raises:
        DataError: If the encoding cannot be trained on one of ``ranges``: its bins cut it, or it is out of reach.
    """
    encoding = AGE_ENCODINGS.get(config.encoding)(config)
    encoding.check_ranges(ranges)
    return encoding
