"""Draw the images of the sample release: one pattern a class, everything else left to chance.

Colours, light, noise, size, scale and phase come from the same distributions for every class, so that only the
pattern tells the classes apart. No pattern is the mirror image of another: random flips are safe.

Each pattern is a signed distance in periods: positive inside the motif, zero on its edge. `u` and `v` are
float32 [height, width] coordinates in periods, to the right and down, zero near the centre of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Field = np.ndarray  # float32 [height, width]


def _around(t: Field) -> Field:
    """Map each period onto -0.5..0.5."""
    return t - np.floor(t) - 0.5


def _stripe(t: Field) -> Field:
    return 0.25 - np.abs(_around(t))


def _checkerboard(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    a, b = _stripe(u), _stripe(v)
    return np.minimum(np.abs(a), np.abs(b)) * np.sign(a * b)


def _diagonal(u: Field, v: Field, rng: np.random.Generator) -> Field:
    return _stripe((u + rng.choice([-1, 1]) * v) * 0.7071)


def _crosses(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    x, y = np.abs(_around(u)), np.abs(_around(v))
    return np.maximum(np.minimum(0.14 - x, 0.42 - y), np.minimum(0.42 - x, 0.14 - y))


def _triangles(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    x, y = np.abs(_around(u)), _around(v)
    return np.minimum(0.42 - y, (0.46 * (y + 0.42) / 0.84 - x) * 0.88)


def _rays(u: Field, v: Field, rng: np.random.Generator) -> Field:
    num_rays = rng.integers(9, 17)
    return _stripe(np.arctan2(v, u) * num_rays / (2 * np.pi)) * np.hypot(u, v) * 2 * np.pi / num_rays


def _blobs(u: Field, _v: Field, rng: np.random.Generator) -> Field:
    coarse = rng.standard_normal((9, 9)).astype(np.float32)
    fine = rng.standard_normal((18, 18)).astype(np.float32)
    size = u.shape[::-1]
    return 0.3 * (
        cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        + 0.4 * cv2.resize(fine, size, interpolation=cv2.INTER_CUBIC)
    )


def _bricks(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    along = u / 2 + np.floor(v) % 2 / 2
    return np.minimum(0.41 - np.abs(_around(v)), 2 * (0.455 - np.abs(_around(along))))


def _zigzag(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    return _stripe(v + 2 * np.abs(_around(u / 2))) * 0.7071


def _honeycomb(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    root = np.float32(np.sqrt(3))
    cells = []
    for shift in (0.0, 0.5):  # the two rectangular lattices of centres that make a hexagonal one
        x, y = np.abs(_around(u + shift)), np.abs(_around(v / root + shift)) * root
        cells.append(np.maximum(x, 0.5 * x + 0.5 * root * y))
    return 0.40 - np.minimum(*cells)


def _flowers(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    x, y = _around(u * 0.8), _around(v * 0.8)
    radius = np.hypot(x, y)
    petals = 0.3 + 0.13 * np.cos(5 * np.arctan2(x, -y))
    return np.minimum(petals - radius, radius - 0.09)


def _scallops(u: Field, v: Field, _rng: np.random.Generator) -> Field:
    x = _around(u * 0.7 + np.floor(v * 1.4) % 2 / 2)
    return _stripe(np.hypot(x, 0.5 * (_around(v * 1.4) - 0.5)) * 4) / 3


@dataclass(frozen=True)
class Pattern:
    """What a class shows, and its entry in the devkit."""

    words: str
    gloss: str
    group: str  # its parent synset
    distance: Callable[[Field, Field, np.random.Generator], Field]


PATTERNS = (
    Pattern("pinstripe, horizontal stripe", "stripes that run from left to right", "lines", lambda u, v, _: _stripe(v)),
    Pattern("polka dot", "round spots in rows", "motif", lambda u, v, _: 0.37 - np.hypot(_around(u), _around(v))),
    Pattern("checkerboard, chequer", "squares in two colours by turns", "tiling", _checkerboard),
    Pattern("sunburst, ray", "rays that spread from one point", "radial pattern", _rays),
    Pattern("vertical stripe", "stripes that run from top to bottom", "lines", lambda u, v, _: _stripe(u)),
    Pattern("camouflage, blotch", "irregular patches without edges or order", "motif", _blobs),
    Pattern("ring, bull's eye", "circles around one centre", "radial pattern", lambda u, v, _: _stripe(np.hypot(u, v))),
    Pattern("cross, plus sign", "upright crosses in rows", "motif", _crosses),
    Pattern("diagonal stripe, bias", "slanting stripes, rising or falling", "lines", _diagonal),
    Pattern("brick, masonry", "oblong blocks laid with broken joints", "tiling", _bricks),
    Pattern("triangle, pennant", "triangles that point upwards, in rows", "motif", _triangles),
    Pattern("zigzag, chevron", "bands that turn up and down by turns", "lines", _zigzag),
    Pattern("honeycomb", "six-sided cells side by side", "tiling", _honeycomb),
    Pattern("flower, blossom", "round blossoms of five petals, in rows", "motif", _flowers),
    Pattern("fish scale, scallop", "overlapping arcs in staggered rows", "tiling", _scallops),
    Pattern(
        "windowpane, lattice",
        "thin lines that cross at right angles",
        "tiling",
        lambda u, v, _: np.maximum(0.1 - np.abs(_around(u)), 0.1 - np.abs(_around(v))),
    ),
)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw height and width in pixels: photographs of the usual shapes, one in twelve smaller than 256."""
    long, short = int(rng.integers(300, 501)), int(rng.integers(256, 401))
    if rng.random() < 1 / 12:
        long, short = int(rng.integers(180, 320)), int(rng.integers(120, 256))
    long, short = max(long, short), min(long, short)
    return (short, long) if rng.random() < 0.7 else (long, short)


def _colours(rng: np.random.Generator) -> np.ndarray:
    """Draw foreground and background, each with the shade it fades to, float32 [4, 3] 0..255, unlike in luma."""
    while True:
        hue, saturation, value = rng.random(2) * 180, rng.uniform(60, 230, 2), rng.uniform(50, 250, 2)
        hue, saturation = np.repeat(hue, 2), np.repeat(saturation, 2)
        hue[1::2] += rng.uniform(-25, 25, 2)
        value = np.repeat(value, 2) * np.tile([1.0, 0.85], 2)
        hsv = np.stack([hue % 180, saturation, value], axis=1).astype(np.uint8)
        colours = cv2.cvtColor(hsv[:, None], cv2.COLOR_HSV2RGB)[:, 0].astype(np.float32)
        luma = colours @ np.array([0.299, 0.587, 0.114], np.float32)
        if abs(luma[0] - luma[2]) > 70:
            return colours


def draw(pattern: Pattern, rng: np.random.Generator) -> np.ndarray:
    """Draw one image.

    Args:
        pattern: what to show.
        rng: source of everything else.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    height, width = _size(rng)
    shorter = min(height, width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x -= width * np.float32(rng.uniform(0.35, 0.65))
    y -= height * np.float32(rng.uniform(0.35, 0.65))
    turn = rng.uniform(-0.1, 0.1)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    period = np.float32(shorter * rng.uniform(0.11, 0.21))
    distance = pattern.distance((cos * x + sin * y) / period, (cos * y - sin * x) / period, rng)
    mask = np.clip(distance * period + 0.5, 0, 1, dtype=np.float32)

    slope = rng.uniform(0, 2 * np.pi)
    shade = np.clip(0.5 + (np.cos(slope) * x + np.sin(slope) * y).astype(np.float32) / (1.5 * shorter), 0, 1)
    colours = _colours(rng)
    light = np.float32(rng.uniform(0.8, 1.1)) - np.float32(rng.uniform(0, 0.25)) * (x * x + y * y) / (shorter * shorter)
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(1, 6))
    image = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        front, front_end, back, back_end = colours[:, channel]
        ink = front + (front_end - front) * shade
        paper = back + (back_end - back) * shade
        image[..., channel] = (paper + (ink - paper) * mask) * light + grain
    return np.clip(image, 0, 255).astype(np.uint8)
