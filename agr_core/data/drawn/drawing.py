"""Drawing of a face from its traits with a few dozen filled shapes and strokes.

Coordinates are shares of the image's side, x to the right, y downwards; colours are RGB, 0 to 255. The face is drawn on
a canvas of twice the image's size, rotated into its pose, downsampled by averaging, and lit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float64]
Points = NDArray[np.float64]

_OVERSAMPLING = 2
_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates
_ANGLES = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
_TOP = np.linspace(np.pi, 2.0 * np.pi, 25)  # from the left ear over the crown to the right ear
_MIDDLE = (0.5, 0.53)
_WHITE = np.array([238.0, 234.0, 228.0])
_DARK = np.array([28.0, 18.0, 16.0])
_GREY = np.array([196.0, 194.0, 192.0])
_LIP_RED = np.array([186.0, 60.0, 70.0])


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Appearance of a face; most values are shares, 0 to 1.

    ``child`` is 1 for a newborn and 0 for an adult. ``aging`` is 0 for smooth skin and about 1 at age ninety.
    ``parting`` is -1 to 1, the side to which the hair falls. ``eye_slant`` is around 0; positive values slant upwards
    and outwards.
    """

    skin: Color
    hair: Color
    iris: Color
    clothes: Color
    backdrop: tuple[Color, Color]
    child: float
    aging: float
    grey: float
    receding: float
    parting: float
    hair_length: float
    hair_volume: float
    sparse_hair: bool
    curly: float
    jaw: float
    brows: float
    lips: float
    lipstick: float
    beard: float
    eye_opening: float
    eye_slant: float
    nose_width: float
    glasses: bool
    smile: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Pose and light of a photograph: rotation in degrees, shift in shares of the side, light as factors."""

    turn: float
    zoom: float
    shift: tuple[float, float]
    light: Color
    slope: tuple[float, float]
    blur: float
    noise: float


def draw(traits: Traits, shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the image of a face, (size, size, 3) RGB; ``rng`` places strands, spots and noise."""
    canvas = _Canvas(size * _OVERSAMPLING)
    face = _Face(canvas, traits, rng)
    face.draw()
    return _photograph(canvas.pixels, shot, size, rng)


def _photograph(pixels: NDArray[np.uint8], shot: Shot, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    side = pixels.shape[0]
    pose = cv2.getRotationMatrix2D((side / 2, side / 2), shot.turn, shot.zoom)
    pose[:, 2] += np.array(shot.shift) * side
    turned = cv2.warpAffine(pixels, pose, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    small = cv2.resize(turned, (size, size), interpolation=cv2.INTER_AREA)
    if shot.blur > 0:
        small = cv2.GaussianBlur(small, (0, 0), shot.blur * size / 64)
    ramp = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    light = 1.0 + shot.slope[0] * ramp[None, :] + shot.slope[1] * ramp[:, None]
    picture = small.astype(np.float32) * light[:, :, None] * shot.light.astype(np.float32)
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * shot.noise
    return np.clip(picture, 0, 255).astype(np.uint8)


def _mix(first: Color, second: Color, share: float) -> Color:
    return first + (second - first) * share


class _Canvas:
    """OpenCV shapes in shares of the side, with sub-pixel positions."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.pixels = np.zeros((side, side, 3), dtype=np.uint8)
        self._scale = side * (1 << _SHIFT)

    def polygon(self, points: Points, color: Color) -> None:
        """Draw a filled polygon through (P, 2) points."""
        places = np.rint(points * self._scale).astype(np.int32)
        cv2.fillPoly(self.pixels, [places], color.tolist(), lineType=cv2.LINE_AA, shift=_SHIFT)

    def ellipse(
        self, middle: tuple[float, float], radii: tuple[float, float], color: Color, *, turn: float = 0.0
    ) -> None:
        """Draw a filled ellipse, rotated clockwise by ``turn`` degrees."""
        x, y = (round(value * self._scale) for value in middle)
        wide, high = (max(1, round(value * self._scale)) for value in radii)
        cv2.ellipse(
            self.pixels, (x, y), (wide, high), turn, 0, 360, color.tolist(), -1, lineType=cv2.LINE_AA, shift=_SHIFT
        )

    def ring(self, middle: tuple[float, float], radii: tuple[float, float], color: Color, width: float) -> None:
        """Draw the outline of an ellipse."""
        x, y = (round(value * self._scale) for value in middle)
        wide, high = (max(1, round(value * self._scale)) for value in radii)
        cv2.ellipse(
            self.pixels,
            (x, y),
            (wide, high),
            0,
            0,
            360,
            color.tolist(),
            self._pixels(width),
            lineType=cv2.LINE_AA,
            shift=_SHIFT,
        )

    def stroke(self, points: Sequence[tuple[float, float]] | Points, color: Color, width: float) -> None:
        """Draw a line through (P, 2) points."""
        places = np.rint(np.asarray(points) * self._scale).astype(np.int32)
        cv2.polylines(
            self.pixels, [places], False, color.tolist(), self._pixels(width), lineType=cv2.LINE_AA, shift=_SHIFT
        )

    def _pixels(self, width: float) -> int:
        return max(1, round(width * self.side))


class _Face:
    """Geometry of a face; draws its parts from back to front."""

    def __init__(self, canvas: _Canvas, traits: Traits, rng: np.random.Generator) -> None:
        self.canvas = canvas
        self.traits = traits
        self.rng = rng
        self.x, self.y = _MIDDLE
        # Children have round faces with low, large eyes; adults have longer faces.
        self.wide = 0.285 + 0.025 * traits.child + 0.012 * traits.jaw
        self.high = 0.385 - 0.045 * traits.child
        self.eye_y = self.y - self.high * (0.10 - 0.20 * traits.child)
        self.eye_x = self.wide * (0.44 + 0.03 * traits.child)
        self.eye_wide = 0.060 * (1 + 0.30 * traits.child)
        self.nose_y = self.eye_y + self.high * (0.40 - 0.14 * traits.child + 0.05 * traits.aging)
        self.mouth_y = self.y + self.high * (0.56 + 0.04 * traits.child)
        hair = _mix(traits.hair, _GREY, traits.grey)
        self.hair = _mix(hair, traits.skin, 0.62) if traits.sparse_hair else hair
        self.crease = _mix(traits.skin * 0.82, traits.skin * 0.52, min(1.0, traits.aging))
        self.shade = traits.skin * 0.82

    def draw(self) -> None:
        """Draw the whole image, from the backdrop to the glasses."""
        self._backdrop()
        self._back_hair()
        self._body()
        self._head()
        self._beard()
        self._skin()
        self._nose()
        self._mouth()
        self._eyes()
        self._brows()
        self._wrinkles()
        self._top_hair()
        if self.traits.glasses:
            self._glasses()

    def _backdrop(self) -> None:
        near, far = self.traits.backdrop
        rows = np.linspace(0.0, 1.0, self.canvas.side)[:, None]
        self.canvas.pixels[:] = np.clip(near + (far - near) * rows, 0, 255).astype(np.uint8)[:, None, :]

    def _back_hair(self) -> None:
        length = self.traits.hair_length
        if length < 0.25:
            return
        reach = self.wide * (1.10 + 0.22 * self.traits.hair_volume)
        bottom = self.y + self.high * (0.1 + 1.1 * length)
        arc = np.stack([self.x + reach * np.cos(_TOP), self.y - 0.05 + self.high * 1.02 * np.sin(_TOP)], axis=1)
        ends = np.array([[self.x + reach * 0.95, bottom], [self.x - reach * 0.95, bottom]])
        self.canvas.polygon(np.concatenate([arc, ends]), self.hair * 0.72)

    def _body(self) -> None:
        traits = self.traits
        neck = self.wide * (0.50 + 0.16 * traits.jaw - 0.08 * traits.child)
        self.canvas.ellipse((self.x, 1.08), (self.wide * (1.5 + 0.3 * traits.jaw), 0.20), traits.clothes)
        points = [(-neck, 0.72), (neck, 0.72), (neck * 1.15, 0.97), (0, 1.0), (-neck * 1.15, 0.97)]
        self.canvas.polygon(np.array([(self.x + dx, y) for dx, y in points]), self.shade * 0.92)

    def _outline(self, grow: float = 1.0) -> Points:
        """Return the outline of the head (P, 2): a superellipse whose lower half is squarer for a stronger jaw."""
        traits = self.traits
        lower = 2.0 + 0.75 * traits.jaw + 0.35 * traits.aging + 0.25 * traits.child
        power = np.where(np.sin(_ANGLES) > 0, 2.0 / lower, 2.0 / 2.15)
        cos, sin = np.cos(_ANGLES), np.sin(_ANGLES)
        taper = 1.0 - (0.16 - 0.10 * traits.jaw) * np.clip(sin, 0, 1)
        x = self.x + grow * self.wide * taper * np.sign(cos) * np.abs(cos) ** power
        y = self.y + grow * self.high * np.sign(sin) * np.abs(sin) ** power
        return np.stack([x, y], axis=1)

    def _head(self) -> None:
        for side in (-1, 1):
            ear = (self.x + side * self.wide * 1.02, self.eye_y + 0.045)
            self.canvas.ellipse(ear, (0.032, 0.062 + 0.015 * self.traits.aging), self.shade)
        outline = self._outline()
        self.canvas.polygon(outline, self.traits.skin * 0.90)
        self.canvas.polygon(self._outline(0.93), self.traits.skin)

    def _beard(self) -> None:
        beard = self.traits.beard
        if beard <= 0:
            return
        outline = self._outline(0.985)
        lower = outline[outline[:, 1] > self.mouth_y - 0.075]
        color = _mix(self.traits.skin, self.hair * 0.9, beard)
        self.canvas.polygon(lower, color)
        self.canvas.ellipse((self.x, self.nose_y + 0.052), (0.105, 0.030), color)
        upper = self.mouth_y - 0.085
        for side in (-1, 1):
            self.canvas.ellipse((self.x + side * self.wide * 0.56, upper), (0.085, 0.060), self.traits.skin)

    def _skin(self) -> None:
        traits = self.traits
        blush = _mix(traits.skin, np.array([226.0, 120.0, 110.0]), 0.10 + 0.22 * traits.child + 0.10 * traits.lipstick)
        if traits.beard < 0.3:
            for side in (-1, 1):
                middle = (self.x + side * self.wide * 0.58, self.eye_y + self.high * 0.38)
                self.canvas.ellipse(middle, (0.058, 0.045), blush)
        spots = int(self.rng.poisson(9.0 * max(0.0, traits.aging - 0.45)))
        places = self.rng.uniform([-0.8, -0.75], [0.8, 0.6], size=(spots, 2))
        radii = self.rng.uniform(0.005, 0.014, size=spots)
        for (dx, dy), radius in zip(places.tolist(), radii.tolist(), strict=True):
            self.canvas.ellipse((self.x + dx * self.wide * 0.85, self.y + dy * self.high), (radius, radius), self.shade)

    def _nose(self) -> None:
        traits = self.traits
        half = (0.030 + 0.034 * traits.nose_width) * (1 - 0.25 * traits.child)
        dark = traits.skin * 0.62
        self.canvas.stroke(
            [(self.x - half * 0.35, self.eye_y + 0.02), (self.x - half * 0.55, self.nose_y - 0.03)], self.shade, 0.012
        )
        self.canvas.ellipse((self.x, self.nose_y - 0.008), (half * 1.05, 0.030 - 0.006 * traits.child), self.shade)
        self.canvas.ellipse((self.x, self.nose_y - 0.016), (half * 0.8, 0.026), _mix(traits.skin, _WHITE, 0.10))
        for side in (-1, 1):
            self.canvas.ellipse((self.x + side * half * 0.55, self.nose_y + 0.011), (half * 0.24, 0.008), dark)

    def _mouth(self) -> None:
        traits = self.traits
        half = (0.088 + 0.012 * traits.jaw - 0.018 * traits.child) * (1 + 0.4 * traits.smile)
        thick = (0.011 + 0.021 * traits.lips) * (1 - 0.42 * min(1.0, traits.aging))
        color = _mix(_mix(traits.skin * 0.84, _LIP_RED, 0.22), _LIP_RED, traits.lipstick)
        self.canvas.ellipse((self.x, self.mouth_y - thick * 0.45), (half * 0.88, thick * 0.85), color * 0.94)
        self.canvas.ellipse((self.x, self.mouth_y + thick * 0.60), (half * 0.80, thick), color)
        sag = 0.014 * traits.aging - 0.006 - 0.030 * traits.smile
        corners = [(-1.0, sag), (-0.5, 0.002), (0.0, 0.0), (0.5, 0.002), (1.0, sag)]
        line = [(self.x + dx * half, self.mouth_y + dy) for dx, dy in corners]
        if traits.smile > 0:  # shows teeth
            self.canvas.ellipse((self.x, self.mouth_y), (half * 0.75, thick * (0.4 + 0.5 * traits.smile)), _WHITE)
        self.canvas.stroke(line, color * 0.48, 0.009)

    def _eyes(self) -> None:
        traits = self.traits
        opening = self.eye_wide * (0.30 + 0.32 * traits.eye_opening) * (1 - 0.22 * min(1.0, traits.aging))
        opening *= 1 + 0.25 * traits.child
        lid = _mix(traits.skin * 0.45, _DARK, 0.3 + 0.7 * traits.lipstick)
        for side in (-1, 1):
            x = self.x + side * self.eye_x
            turn = -side * (11.0 * traits.eye_slant - 5.0 * traits.aging)
            self.canvas.ellipse((x, self.eye_y), (self.eye_wide * 1.18, opening * 1.65), self.shade, turn=turn)
            self.canvas.ellipse((x, self.eye_y), (self.eye_wide, opening), _WHITE, turn=turn)
            iris = min(opening * 0.98, self.eye_wide * 0.50)
            self.canvas.ellipse((x, self.eye_y), (iris, iris), traits.iris)
            self.canvas.ellipse((x, self.eye_y), (iris * 0.48, iris * 0.48), _DARK)
            tilt = np.tan(np.radians(turn))
            arc = [(dx, -opening * (1 - dx * dx) + dx * self.eye_wide * tilt) for dx in (-1.05, -0.5, 0.0, 0.5, 1.05)]
            width = 0.010 + 0.010 * traits.lipstick
            self.canvas.stroke([(x + dx * self.eye_wide, self.eye_y + dy) for dx, dy in arc], lid, width)

    def _brows(self) -> None:
        traits = self.traits
        color = _mix(traits.skin * 0.8, _mix(self.hair, _DARK, 0.25 * (1 - traits.grey)), 1.0 - 0.6 * traits.child)
        lift = self.eye_wide * (0.88 + 0.22 * traits.child) + 0.012 * (1 - traits.brows)
        half = self.eye_wide * 1.22
        for side in (-1, 1):
            x = self.x + side * self.eye_x
            points = [(-1.0, 0.008), (-0.2, -0.012), (0.5, -0.014), (1.0, 0.008 + 0.016 * traits.aging)]
            line = [(x + side * dx * half, self.eye_y - lift + dy) for dx, dy in points]
            self.canvas.stroke(line, color, 0.010 + 0.024 * traits.brows)

    def _wrinkles(self) -> None:
        aging = self.traits.aging
        if aging < 0.04:
            return
        strength = min(1.0, 0.25 + aging)
        crease = _mix(self.traits.skin, self.crease, strength)
        width = 0.006 + 0.003 * aging
        for line in range(round(4.2 * aging)):
            y = self.eye_y - self.high * (0.40 + 0.105 * line)
            half = self.wide * (0.58 - 0.05 * line)
            bend = self.rng.uniform(-0.012, 0.012)
            self.canvas.stroke(
                [(self.x - half, y + bend), (self.x, y - 0.006), (self.x + half, y - bend)], crease, width
            )
        for side in (-1, 1):
            x = self.x + side * self.eye_x
            bag = self.eye_y + self.eye_wide * (0.72 + 0.18 * aging)
            half = self.eye_wide * 0.9
            self.canvas.stroke([(x - half, bag - 0.012), (x, bag + 0.006), (x + half, bag - 0.012)], crease, width)
            fold = [(0.066, self.nose_y - 0.005), (0.108, self.nose_y + 0.045), (0.122, self.mouth_y + 0.012)]
            self.canvas.stroke([(self.x + side * dx, y) for dx, y in fold], crease, width)
            for foot in range(round(3.4 * aging)):
                start = (x + side * self.eye_wide * 1.15, self.eye_y + 0.012 * (foot - 1))
                self.canvas.stroke([start, (start[0] + side * 0.045, start[1] + 0.024 * (foot - 1))], crease, width)
        strokes = int(self.rng.poisson(11.0 * max(0.0, aging - 0.25)))
        places = self.rng.uniform([-0.75, 0.0], [0.75, 0.85], size=(strokes, 2))
        for dx, dy in places.tolist():
            x, y = self.x + dx * self.wide, self.y + dy * self.high
            self.canvas.stroke([(x, y), (x + 0.02 * dx, y + 0.04)], _mix(self.traits.skin, crease, 0.6), 0.005)

    def _top_hair(self) -> None:
        traits = self.traits
        swell = 1.04 + 0.14 * traits.hair_volume
        line = self.y - self.high * (0.52 + 0.42 * traits.receding - 0.06 * traits.child)
        outer = np.stack(
            [self.x + self.wide * swell * np.cos(_TOP), self.y - 0.02 + self.high * swell * np.sin(_TOP)], axis=1
        )
        across = np.linspace(1.0, -1.0, 13)
        temples = np.abs(across) ** (4.0 - 2.0 * traits.receding)
        inner_y = line + 0.045 * traits.parting * across + temples * (self.y - 0.02 - line)
        inner_y -= 0.09 * traits.receding * np.exp(-(((np.abs(across) - 0.55) / 0.2) ** 2))
        inner_y = np.maximum(inner_y, self.y - self.high * 1.02)
        inner = np.stack([self.x + self.wide * 0.98 * across, inner_y], axis=1)
        if traits.receding < 0.92:
            self.canvas.polygon(np.concatenate([outer, inner]), self.hair)
            self._strands(self.hair, swell, line)
        else:
            for side in (-1, 1):
                self.canvas.ellipse((self.x + side * self.wide * 0.99, self.eye_y - 0.03), (0.035, 0.10), self.hair)
        if traits.hair_length > 0.25:
            for side in (-1, 1):
                drop = self.y + self.high * (0.1 + 0.9 * traits.hair_length)
                edge = self.x + side * self.wide * (1.0 + 0.16 * traits.hair_volume)
                side_x = self.x + side * self.wide * 0.86
                lock = [(side_x, line + 0.05), (edge, self.y - 0.10), (edge, drop), (side_x + side * 0.03, drop)]
                self.canvas.polygon(np.array(lock), self.hair * 0.88)

    def _strands(self, color: Color, swell: float, line: float) -> None:
        traits = self.traits
        count = 10
        across = self.rng.uniform(-0.85, 0.85, size=count)
        grey = self.rng.random(count) < traits.grey
        tone = self.rng.uniform(0.70, 1.25, size=count)
        for dx, is_grey, factor in zip(across.tolist(), grey.tolist(), tone.tolist(), strict=True):
            top = self.y - self.high * swell * float(np.sqrt(1 - dx * dx)) * 0.97
            bottom = top + (line - top) * 0.85
            x = self.x + dx * self.wide * swell
            strand = np.minimum(_mix(color, _WHITE, 0.5) if is_grey else color * factor, 255.0)
            if traits.curly > 0.5:
                self.canvas.ring((x, (top + bottom) / 2), (0.022, 0.020), strand, 0.010)
            else:
                self.canvas.stroke([(x, top), (x - 0.25 * (x - self.x), bottom)], strand, 0.010)

    def _glasses(self) -> None:
        for side in (-1, 1):
            middle = (self.x + side * self.eye_x, self.eye_y + 0.005)
            self.canvas.ring(middle, (self.eye_wide * 1.45, self.eye_wide * 1.10), _DARK, 0.012)
        bridge = self.eye_x - self.eye_wide * 1.45
        self.canvas.stroke([(self.x - bridge, self.eye_y), (self.x + bridge, self.eye_y)], _DARK, 0.012)
