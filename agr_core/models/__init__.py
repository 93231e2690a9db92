"""Backbones and heads: a configuration in, a ``torch.nn.Module`` out.

This package is imported to find ``timm_names.txt`` when a sweep file is checked, so it imports neither torch nor timm
until a model is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agr_core.config import CascadeConfig

if TYPE_CHECKING:
    from agr_core.config import Task, TrialConfig
    from agr_core.models.face_model import TaskModel
    from agr_core.models.heads import LastLayer
    from agr_core.models.weights_file import WeightsFile


def build_model(
    config: TrialConfig,
    *,
    age_outputs: int,
    num_genders: int,
    num_races: int,
    num_attributes: int = 0,
    age_layer: LastLayer | None = None,
    weights: WeightsFile | None = None,
    untrained: bool = False,
) -> TaskModel:
    """The model of a trial, on the CPU, with initial weights that are a function of ``config.seed`` alone.

    The generators of the process are left as they were.

    Args:
        config: The trial; ``image``, ``model``, ``head``, ``tasks`` and ``seed`` matter here.
        age_outputs: Outputs of the age encoding.
        num_genders: Genders in the data set's vocabulary.
        num_races: Races in the data set's vocabulary.
        num_attributes: Attributes in the data set's vocabulary.
        age_layer: Makes the last layer of the age head; None: a linear one.
        weights: The file that ``model.weights`` stands for. None: what it says is itself a file on this machine, or
            ``none``, or timm fetches its weights.
        untrained: Leave all weights random, whatever ``model.weights`` says: they will be replaced.

    Returns:
        A module from images (B, C, S, S) float32 to ``{task: logits (B, outputs)}``, S being ``image.size``, for the
        tasks that have a head (``TrialConfig.head_tasks``).

    Raises:
        ConfigError: If the backbone cannot be built, or not for these images, or its weights cannot be had.
        IntegrityError: If the file of weights does not have ``model.weights_sha256``.
    """
    outputs: dict[Task, int] = {
        "age": age_outputs,
        "gender": num_genders,
        "race": num_races,
        "attributes": num_attributes,
    }
    last_layers: dict[Task, LastLayer] = {} if age_layer is None else {"age": age_layer}
    if isinstance(config.model, CascadeConfig):
        from agr_core.models import cascade

        return cascade.build(
            config, config.model, outputs=outputs, last_layers=last_layers, weights=weights, untrained=untrained
        )
    from agr_core.models import face_model

    return face_model.build(config, outputs=outputs, last_layers=last_layers, weights=weights, untrained=untrained)
