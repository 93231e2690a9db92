"""Model input: size, colour and normalisation of images, and augmentation of training images."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core.config.base import Probability, StrictModel, bare_name


class ImageConfig(StrictModel):
    """Image size, colour, normalisation and caching."""

    size: int = Field(default=224, ge=16, le=1024, description="Height and width of the model's input, in pixels.")
    crop_from: int | None = Field(
        default=None,
        ge=17,
        le=1280,
        description="Side to which images are first resized, in pixels; `size` is then cropped at a random position "
        "in training, else from the centre. null: images are resized to `size`.",
    )
    color: Literal["rgb", "grey"] = Field(default="rgb", description="Three channels, or one of luminance.")
    normalize: Literal["none", "zero_one", "minus_one_one", "imagenet"] = Field(
        default="imagenet",
        description="Range of pixel values. none: 0..255; zero_one: 0..1; minus_one_one: -1..1; imagenet: ImageNet "
        "mean and deviation.",
    )
    mirrored: bool = Field(
        default=False,
        description="In evaluation and prediction, average the outputs for the image and its mirror image; training "
        "is not affected.",
    )
    cache: Literal["auto", "decoded", "jpeg"] = Field(
        default="auto",
        description="Keep decoded pixels in a memory map shared by the node, or decode at each use; auto: memory map "
        "if it fits.",
    )

    @property
    def decode_size(self) -> int:
        """Side of the images when decoded and cached, in pixels."""
        return self.size if self.crop_from is None else self.crop_from

    @model_validator(mode="after")
    def _crop_is_smaller(self) -> Self:
        if self.crop_from is not None and self.crop_from <= self.size:
            raise ValueError(
                f"crop_from={self.crop_from} must be above size={self.size}, which is cut from it; "
                "leave crop_from out to resize images to size."
            )
        return self


class NoAugment(StrictModel):
    """No augmentation."""

    name: Literal["none"]


class LightAugment(StrictModel):
    """Flip, small shift / scale / rotation, brightness and contrast (report S0, S0-T7)."""

    name: Literal["light"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")
    shift: Probability = Field(default=0.03125, description="Largest shift, as a share of the side.")
    scale: Probability = Field(default=0.2, description="Largest relative change of scale.")
    rotate: float = Field(default=20.0, ge=0, le=180, description="Largest rotation, in degrees.")
    affine_p: Probability = Field(default=1.0, description="Probability of the shift, scale and rotation.")
    brightness: Probability = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: Probability = Field(default=0.2, description="Largest relative change of contrast.")
    light_p: Probability = Field(default=0.5, description="Probability of the brightness and contrast change.")


class AgecnnAugment(StrictModel):
    """Report S4's training transforms (S4-D5): shift/scale/rotate, crop, blur, brightness/contrast, each with p 0.5."""

    name: Literal["agecnn"]
    p: Probability = Field(default=0.5, description="Probability of each transform.")
    shift: Probability = Field(default=0.05, description="Largest shift, as a share of the side.")
    scale: Probability = Field(default=0.05, description="Largest relative change of scale.")
    rotate: float = Field(default=15.0, ge=0, le=180, description="Largest rotation, in degrees.")
    blur_sigma: float = Field(
        default=9.0, gt=0, description="Largest standard deviation of the Gaussian blur, in pixels at size 224."
    )
    brightness: Probability = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: Probability = Field(default=0.2, description="Largest relative change of contrast.")


class CropFlipAugment(StrictModel):
    """Transforms of report S1's Caffe models (S1-D5): a random crop, by `image.crop_from`, and a flip."""

    name: Literal["crop_flip"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")


class FlipContrastAugment(StrictModel):
    """Transforms of report S1's ResNets (S1-D6): a horizontal flip and a change of contrast."""

    name: Literal["flip_contrast"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")
    contrast: Probability = Field(
        default=0.2, description="Largest relative change of the pixels' distance from the image's mean luminance."
    )
    contrast_p: Probability = Field(default=1.0, description="Probability of the change of contrast.")


class ShearZoomAugment(StrictModel):
    """Transforms of report S3 (S3-D4): horizontal shear, and separate zoom of width and height, as in Keras."""

    name: Literal["shear_zoom"]
    shear: float = Field(default=10.0, ge=0, le=60, description="Largest shear, in degrees; the report gives no value.")
    zoom: float = Field(
        default=0.2, ge=0, lt=1, description="Largest relative change of size; the report gives no value."
    )


class RandAugmentConfig(StrictModel):
    """RandAugment (Cubuk et al. 2020; report S3, S3-U1): random transforms out of 14, all at one magnitude."""

    name: Literal["rand_augment"]
    ops: int = Field(
        default=2, ge=1, le=14, description="Number of transforms applied to an image in sequence, N in the paper."
    )
    magnitude: float = Field(
        default=5.0, ge=0, le=10, description="Magnitude of every transform, 10 being the largest, M in the paper."
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
