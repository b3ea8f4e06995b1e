"""Light, season and camera of one date."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.data.toy.textures import Field


@dataclass(frozen=True)
class Look:
    """How a scene is lit and recorded at one date.

    Attributes:
        shadow: Shift of a shadow per pixel of height (x, y).
        shadow_depth: Share of the light that a shadow takes away.
        gain: Brightness.
        warmth: Red against blue.
        haze: Share of grey veil.
        season: 0 summer, 1 late autumn.
        blur: Standard deviation of the optics in pixels.
        noise: Standard deviation of the sensor in grey levels.
        quality: JPEG quality of the source.
        seed: Seed of the sensor noise.
    """

    shadow: tuple[float, float]
    shadow_depth: float
    gain: float
    warmth: float
    haze: float
    season: float
    blur: float
    noise: float
    quality: int
    seed: int

    @property
    def sun(self) -> tuple[float, float]:
        """Unit vector towards the sun in the image plane."""
        norm = float(np.hypot(*self.shadow))
        return -self.shadow[0] / norm, -self.shadow[1] / norm


def draw_look(rng: np.random.Generator) -> Look:
    """Draw the look of a date."""
    azimuth, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.1)
    return Look(
        shadow=(reach * float(np.cos(azimuth)), reach * float(np.sin(azimuth))),
        shadow_depth=rng.uniform(0.45, 0.65),
        gain=rng.uniform(0.92, 1.28),
        warmth=rng.uniform(-0.03, 0.05),
        haze=rng.uniform(0.0, 0.16),
        season=float(rng.choice([0.0, rng.uniform(0, 1)])),
        blur=rng.uniform(0.3, 0.65),
        noise=rng.uniform(1.0, 3.5),
        quality=int(rng.integers(78, 96)),
        seed=int(rng.integers(2**31)),
    )


def record(picture: Field, look: Look) -> NDArray[np.uint8]:
    """Turn a lit scene ``(H, W, 3)`` into what the camera delivers."""
    tint = np.array([1 + look.warmth, 1.0, 1 - look.warmth], dtype=np.float32) * np.float32(look.gain)
    seen = picture * tint
    seen += (np.array([172, 178, 186], dtype=np.float32) - seen) * np.float32(look.haze)
    seen = cv2.GaussianBlur(seen, (0, 0), look.blur)
    rng = np.random.default_rng(look.seed)
    height, width = seen.shape[:2]
    seen += look.noise * rng.standard_normal((height, width, 1), dtype=np.float32)
    seen += 0.5 * look.noise * rng.standard_normal(seen.shape, dtype=np.float32)
    image = np.clip(seen, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, look.quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
