"""Models: a backbone and heads, built from a trial's configuration as a ``torch.nn.Module``.

Checking a sweep file imports this package to find ``timm_names.txt``. Therefore it imports neither torch nor timm until
a model is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agr_core.config import CascadeConfig

if TYPE_CHECKING:
    from agr_core.config import Task, TrialConfig
    from agr_core.models.heads import LastLayer
    from agr_core.models.task_model import TaskModel
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
    """Build the model of a trial, on the CPU; its initial weights depend on ``config.seed`` alone.

    The state of the process's random number generators is left unchanged.

    Args:
        config: The trial; only ``image``, ``model``, ``head``, ``tasks`` and ``seed`` are used.
        age_outputs: Number of outputs of the age encoding.
        num_genders: Number of genders in the data set's vocabulary.
        num_races: Number of races in the data set's vocabulary.
        num_attributes: Number of attributes in the data set's vocabulary.
        age_layer: Factory of the age head's last layer; None: a linear layer.
        weights: The local file of the weights that ``model.weights`` names. None: ``model.weights`` is itself a local
            file or ``none``, or timm downloads its weights.
        untrained: Ignore ``model.weights`` and leave all weights random, because the caller replaces them.

    Returns:
        A module that maps images (B, C, S, S) float32, S = ``image.size``, to ``{task: logits (B, outputs)}`` for the
        tasks that have a head (``TrialConfig.head_tasks``).

    Raises:
        ConfigError: If the backbone cannot be built, does not accept these images, or its weights are unavailable.
        IntegrityError: If the SHA-256 of the weights file is not ``model.weights_sha256``.
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
