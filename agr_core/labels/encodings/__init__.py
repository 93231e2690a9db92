"""Age encodings: training target, loss and decoding to years."""

from __future__ import annotations

from collections.abc import Collection

from agr_core import plugins
from agr_core.config import AgeConfig, BinnedAge, PluginEncoding
from agr_core.errors import ModelError
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
    """Return the configured encoding.

    Args:
        config: ``TrialConfig.age``.
        ranges: Distinct (low, high) of the data set's age labels, both ends included.

    Raises:
        ModelError: If a plug-in does not build its encoding.
        DataError: If the encoding cannot be trained on one of ``ranges``, because its bins cut it or it is out of
            reach.
    """
    if isinstance(config, PluginEncoding):
        encoding = _build_plugin(config)
    else:
        encoding = AGE_ENCODINGS.get(config.encoding)(config)
    encoding.check_ranges(ranges)
    return encoding


def _build_plugin(config: PluginEncoding) -> AgeEncoding:
    """Return the encoding of a plug-in.

    Raises:
        ModelError: If it builds none, or its bins and its configuration do not agree.
    """
    said = f"age.encoding={config.encoding}: {plugins.described(plugins.ENCODINGS, config.encoding)}"
    try:
        encoding = config.build()
    except Exception as error:
        raise ModelError(f"{said} does not build it: {type(error).__name__}: {error}.") from error
    if not isinstance(encoding, AgeEncoding):
        raise ModelError(f"{said} builds {type(encoding).__name__} and no AgeEncoding.")
    if (encoding.bins is None) == isinstance(config, BinnedAge):
        raise ModelError(
            f"{said} derives its options from BinnedAge exactly if its encoding has bins: metrics are named by the one "
            "and computed by the other."
        )
    return encoding
