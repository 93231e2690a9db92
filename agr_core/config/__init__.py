"""TrialConfig: everything that fixes what one trial trains, closed and frozen.

A field added later has a default that means "as before", and the digest leaves defaults out (``TrialConfig.digest``),
so a new field leaves the digest of every older configuration as it was. Changing what a default *means* needs a new
``schema_version``.

Where a part has a ``name``, the bare word stands for it: ``optimizer: adam`` is ``optimizer: {name: adam}``.
"""

from __future__ import annotations

from agr_core.config.age import (
    AgeConfig,
    LabelDistributionAge,
    OnehotAge,
    OrdinalAge,
    RegressionAge,
)
from agr_core.config.averaging import (
    AveragingConfig,
    EmaAveraging,
    NoAveraging,
    SwaAveraging,
)
from agr_core.config.base import (
    DropoutRate,
    Probability,
    StrictModel,
    Task,
    bare_name,
)
from agr_core.config.data import (
    ClassSampler,
    DataConfig,
    OversampleSampler,
    PartitionsConfig,
    SamplerConfig,
    ShuffleSampler,
    SplitConfig,
    SyntheticConfig,
    WeightedSampler,
)
from agr_core.config.image import (
    AgecnnAugment,
    AugmentConfig,
    CropFlipAugment,
    FlipContrastAugment,
    ImageConfig,
    LightAugment,
    NoAugment,
    RandAugmentConfig,
    ShearZoomAugment,
)
from agr_core.config.loss import (
    LossConfig,
    LossWeight,
    LossWeights,
)
from agr_core.config.model import (
    OWN_MODELS,
    Activation,
    BasicCnnConfig,
    HeadConfig,
    InceptionResnetV1Config,
    LeviHassnerConfig,
    MobilenetTransformerConfig,
    ModelConfig,
    ResidualAttentionConfig,
    TimmConfig,
    timm_names,
)
from agr_core.config.optimizer import (
    AdadeltaConfig,
    AdamaxConfig,
    AdamConfig,
    AdamwConfig,
    NadamConfig,
    OptimizerConfig,
    RmspropConfig,
    SgdConfig,
)
from agr_core.config.schedule import (
    ConstantSchedule,
    CosineSchedule,
    EarlyStoppingConfig,
    OneCycleSchedule,
    PlateauSchedule,
    ScheduleConfig,
    StepSchedule,
)
from agr_core.config.trial import (
    ComputeConfig,
    TrialConfig,
)

__all__ = [
    "OWN_MODELS",
    "Activation",
    "AdadeltaConfig",
    "AdamConfig",
    "AdamaxConfig",
    "AdamwConfig",
    "AgeConfig",
    "AgecnnAugment",
    "AugmentConfig",
    "AveragingConfig",
    "BasicCnnConfig",
    "ClassSampler",
    "ComputeConfig",
    "ConstantSchedule",
    "CosineSchedule",
    "CropFlipAugment",
    "DataConfig",
    "DropoutRate",
    "EarlyStoppingConfig",
    "EmaAveraging",
    "FlipContrastAugment",
    "HeadConfig",
    "ImageConfig",
    "InceptionResnetV1Config",
    "LabelDistributionAge",
    "LeviHassnerConfig",
    "LightAugment",
    "LossConfig",
    "LossWeight",
    "LossWeights",
    "MobilenetTransformerConfig",
    "ModelConfig",
    "NadamConfig",
    "NoAugment",
    "NoAveraging",
    "OneCycleSchedule",
    "OnehotAge",
    "OptimizerConfig",
    "OrdinalAge",
    "OversampleSampler",
    "PartitionsConfig",
    "PlateauSchedule",
    "Probability",
    "RandAugmentConfig",
    "RegressionAge",
    "ResidualAttentionConfig",
    "RmspropConfig",
    "SamplerConfig",
    "ScheduleConfig",
    "SgdConfig",
    "ShearZoomAugment",
    "ShuffleSampler",
    "SplitConfig",
    "StepSchedule",
    "StrictModel",
    "SwaAveraging",
    "SyntheticConfig",
    "Task",
    "TimmConfig",
    "TrialConfig",
    "WeightedSampler",
    "bare_name",
    "timm_names",
]
