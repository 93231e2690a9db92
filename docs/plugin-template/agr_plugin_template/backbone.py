"""A small convolutional network whose widths are options of the sweep file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from agr_core.config import PluginBackbone

if TYPE_CHECKING:
    from torch import nn


class TinyFace(PluginBackbone):
    """Convolutions of stride 2, each with batch norm and ReLU, then the mean over the map."""

    name: Literal["tiny_face"]
    widths: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(16, 32), min_length=1, max_length=5, description="Channels of each convolution."
    )

    def build(self, *, in_channels: int, image_size: int) -> nn.Module:
        """The network, (B, in_channels, S, S) -> (B, widths[-1])."""
        from agr_plugin_template.tiny_face import tiny_face

        if image_size < 2 ** len(self.widths):
            raise ValueError(f"{len(self.widths)} widths halve the image more often than {image_size} pixels allow")
        return tiny_face(in_channels, self.widths)
