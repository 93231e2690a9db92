"""What the model sees of an image, and the random changes of training images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core.config.base import Probability, StrictModel, bare_name


class ImageConfig(StrictModel):
    """What the model sees of an image."""

    size: int = Field(default=224, ge=16, le=1024, description="Height and width given to the model, pixels.")
    crop_from: int | None = Field(
        default=None,
        ge=17,
        le=1280,
        description="Side, pixels, to which images are brought first; `size` is then cut from there: at a random place "
        "in training, from the middle otherwise. null: images are brought to `size` itself.",
    )
    color: Literal["rgb", "grey"] = Field(default="rgb", description="Three channels, or one of luminance.")
    normalize: Literal["none", "zero_one", "minus_one_one", "imagenet"] = Field(
        default="imagenet",
        description="none: 0..255; zero_one: 0..1; minus_one_one: -1..1; imagenet: ImageNet mean and deviation.",
    )
    mirrored: bool = Field(
        default=False,
        description="In evaluation and prediction take the mean of the outputs for the image and for its mirror image; "
        "training sees images as `augment` says.",
    )
    cache: Literal["auto", "decoded", "jpeg"] = Field(
        default="auto",
        description="Keep decoded pixels in a memory map shared by the node, or decode at each use; auto: if it fits.",
    )

    @property
    def decode_size(self) -> int:
        """Side of the images as they are decoded and cached, pixels."""
        return self.size if self.crop_from is None else self.crop_from

    @model_validator(mode="after")
    def _crop_is_smaller(self) -> Self:
        if self.crop_from is not None and self.crop_from <= self.size:
            raise ValueError(
                f"crop_from={self.crop_from} must be above size={self.size}, which is cut from it; "
                "leave crop_from out to bring images to size itself."
            )
        return self


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


class CropFlipAugment(StrictModel):
    """Report S1's transforms of its Caffe models (S1-D5): a random crop, by `image.crop_from`, and a flip."""

    name: Literal["crop_flip"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")


class FlipContrastAugment(StrictModel):
    """Report S1's transforms of its ResNets (S1-D6): a horizontal flip and a change of contrast."""

    name: Literal["flip_contrast"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")
    contrast: Probability = Field(
        default=0.2, description="Largest relative change of the pixels' distance from the image's mean luminance."
    )
    contrast_p: Probability = Field(default=1.0, description="Probability of the change of contrast.")


class ShearZoomAugment(StrictModel):
    """Report S3's transforms (S3-D4): horizontal shear, and a zoom of its own for width and height, as Keras does."""

    name: Literal["shear_zoom"]
    shear: float = Field(default=10.0, ge=0, le=60, description="Largest shear, degrees; the report names none.")
    zoom: float = Field(default=0.2, ge=0, lt=1, description="Largest relative change of size; the report names none.")


class RandAugmentConfig(StrictModel):
    """RandAugment (Cubuk et al. 2020; report S3, S3-U1): some of 14 changes at random, all at one magnitude."""

    name: Literal["rand_augment"]
    ops: int = Field(
        default=2, ge=1, le=14, description="Changes made to an image one after the other, N in the paper."
    )
    magnitude: float = Field(
        default=5.0, ge=0, le=10, description="Strength of every change, 10 being the largest, M in the paper."
    )


AugmentConfig = Annotated[
    Annotated[
        NoAugment
        | LightAugment
        | AgecnnAugment
        | CropFlipAugment
        | FlipContrastAugment
        | ShearZoomAugment
        | RandAugmentConfig,
        Field(discriminator="name"),
    ],
    BeforeValidator(bare_name),
]
