"""What the model sees of an image, and the random changes of training images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from agr_core.config.base import Probability, StrictModel, bare_name


class ImageConfig(StrictModel):
    """What the model sees of an image."""

    size: int = Field(default=224, ge=16, le=1024, description="Height and width given to the model, pixels.")
    color: Literal["rgb", "grey"] = Field(default="rgb", description="Three channels, or one of luminance.")
    normalize: Literal["none", "zero_one", "minus_one_one", "imagenet"] = Field(
        default="imagenet",
        description="none: 0..255; zero_one: 0..1; minus_one_one: -1..1; imagenet: ImageNet mean and deviation.",
    )
    cache: Literal["auto", "decoded", "jpeg"] = Field(
        default="auto",
        description="Keep decoded pixels in a memory map shared by the node, or decode at each use; auto: if it fits.",
    )


class NoAugment(StrictModel):
    """Training images as they are."""

    name: Literal["none"]


class LightAugment(StrictModel):
    """Flip, small shift / scale / rotation, brightness and contrast (report S0, S0-T7)."""

    name: Literal["light"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")
    shift: Probability = Field(default=0.03125, description="Largest shift, share of the side.")
    scale: Probability = Field(default=0.2, description="Largest relative change of scale.")
    rotate: float = Field(default=20.0, ge=0, le=180, description="Largest rotation, degrees.")
    affine_p: Probability = Field(default=1.0, description="Probability of the shift, scale and rotation.")
    brightness: Probability = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: Probability = Field(default=0.2, description="Largest relative change of contrast.")
    light_p: Probability = Field(default=0.5, description="Probability of the brightness and contrast change.")


class AgecnnAugment(StrictModel):
    """Report S4's training transforms (S4-D5): shift/scale/rotate, crop, blur, brightness/contrast, each with p 0.5."""

    name: Literal["agecnn"]
    p: Probability = Field(default=0.5, description="Probability of each transform.")
    shift: Probability = Field(default=0.05, description="Largest shift, share of the side.")
    scale: Probability = Field(default=0.05, description="Largest relative change of scale.")
    rotate: float = Field(default=15.0, ge=0, le=180, description="Largest rotation, degrees.")
    blur_sigma: float = Field(default=9.0, gt=0, description="Largest deviation of the Gaussian blur, pixels at 224.")
    brightness: Probability = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: Probability = Field(default=0.2, description="Largest relative change of contrast.")


AugmentConfig = Annotated[
    Annotated[NoAugment | LightAugment | AgecnnAugment, Field(discriminator="name")], BeforeValidator(bare_name)
]
