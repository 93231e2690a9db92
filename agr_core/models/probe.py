"""Check that a trial's model can be built and trained, without memory or arithmetic.

On torch's meta device, tensors have shapes but no values. The largest model is built in a second, and a forward pass
finds settings and sizes that its layers reject.
"""

from __future__ import annotations

import logging

import torch
from torch import nn

from agr_core import plugins
from agr_core.config import CascadeConfig, PluginLoss, TrialConfig
from agr_core.errors import ModelError
from agr_core.labels.encodings import build_encoding
from agr_core.models import build_model
from agr_core.models.face_model import input_channels
from agr_core.models.refusals import REFUSED_BY_LAYERS, raise_lack_of_memory, reason_of

_CLASSES = 2
"""Assumed number of genders, races and attributes without a data set; it does not affect whether a model can be
built."""

_ONE_VALUE = "Expected more than 1 value per channel"
"""Start of the error message of torch's batch norms for a batch with one value per channel."""

_LOG = logging.getLogger(__name__)


def check_model(config: TrialConfig) -> None:
    """Build the model of a trial and of its stages on the meta device and run a forward pass in training mode.

    A plug-in's loss is computed once for two images.

    Initial weights are not checked: their availability and fit are known only where the files are.

    Raises:
        ModelError: If the model cannot be built, or cannot be trained on images of this size, in batches of one image
            or with a plug-in's loss.
    """
    for each in (*(stage.config for stage in config.stages), config):
        _check(each)
        _check_loss(each)


def _check(config: TrialConfig) -> None:
    try:
        for network in _build(config):
            _pass(network, config)
    except ModelError as error:
        if not _needs_values(error.__cause__):
            raise
        # It can be tried only on the machine that trains it.
        _LOG.info("model %s cannot be tried without values: %s", config.model.name, error)


def _check_loss(config: TrialConfig) -> None:
    loss = config.loss.classification
    if not isinstance(loss, PluginLoss) or not {"gender", "race"} & set(config.head_tasks):
        return
    said = f"loss.classification={loss.name}: {plugins.described(plugins.LOSSES, loss.name)}"
    try:
        losses = loss.losses(
            torch.zeros(2, _CLASSES), torch.tensor([0, 1]), label_smoothing=config.loss.label_smoothing
        )
    except Exception as error:
        raise_lack_of_memory(error)
        raise ModelError(f"{said} fails: {type(error).__name__}: {reason_of(error)}.") from error
    if losses.shape != (2,) or not torch.isfinite(losses).all():
        raise ModelError(f"{said} gives {losses.tolist()} for two images; it must give one finite loss an image.")


def _needs_values(error: BaseException | None) -> bool:
    """Return whether an operation failed because it needs the values of meta tensors."""
    return isinstance(error, NotImplementedError) or (error is not None and "on meta tensors" in str(error))


def _build(config: TrialConfig) -> list[nn.Module]:
    """Return the networks on the meta device: the model, or those of a cascade, because routing needs values."""
    encoding = build_encoding(config.age)
    with torch.device("meta"):
        model = build_model(
            config,
            age_outputs=encoding.outputs,
            num_genders=_CLASSES,
            num_races=_races(config),
            num_attributes=_CLASSES,
            age_layer=encoding.last_layer,
            untrained=True,
        )
    if isinstance(config.model, CascadeConfig):
        return [model.get_submodule("router"), model.get_submodule("experts.0")]
    return [model]


def _races(config: TrialConfig) -> int:
    """Return the assumed number of races, large enough for the configured expert of a cascade by race."""
    model = config.model
    if isinstance(model, CascadeConfig) and model.by == "race" and isinstance(model.train, int):
        return max(_CLASSES, model.train + 1)
    return _CLASSES


def _pass(network: nn.Module, config: TrialConfig) -> None:
    size = config.image.size
    images = torch.zeros(min(config.batch_size, 2), input_channels(config), size, size, device="meta")
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network.train()(images)
    except REFUSED_BY_LAYERS as error:
        raise_lack_of_memory(error)
        if config.batch_size == 1 and str(error).startswith(_ONE_VALUE):
            raise ModelError(
                f"batch_size=1 with a batch norm in model {config.model.name!r} or its heads that sees one value of "
                f"each channel ({reason_of(error)}): set batch_size to 2 or more, or choose a model and heads without "
                "batch norm."
            ) from error
        raise ModelError(
            f"model {config.model.name!r} cannot be trained on image.size={size}: {reason_of(error)}. Choose another "
            "size or model."
        ) from error
