"""How one family is photographed: its light, lens, sensor and place, and how these differ from shot to shot."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from stream_ad.demo.camera import Exposure
from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.product import Fixture
from stream_ad.demo.shading import Light
from stream_ad.domain.images import Picture

DARKEST = 0.04  # nobody inspects what is all black


class Look(NamedTuple):
    """A family's station on the line."""

    azimuth: float
    elevation: float
    key: float
    dome: float
    fixture: Fixture
    angle: float  # how parts lie on average, in degrees
    brightness: float  # what the mean of a picture is exposed to, linear
    exposing: float  # 0: one exposure for all; 1: pictures of all families are equally bright
    balance: tuple[float, float]  # of red and blue
    defocus: float
    vignette: float
    center: tuple[float, float]  # where the light is strongest
    noise: float
    contrast: float  # of the tone curve, 1 as it is
    sharpening: float
    quality: int | None  # of JPEG; None: not compressed
    grey: bool
    tilt: tuple[float, float]  # how obliquely the camera looks, along x and y

    @classmethod
    def draw(cls, rng: np.random.Generator, *, full_frame: bool, turn: float | None) -> "Look":
        dome = between(rng, 0.14, 0.85)
        spread = turn if turn is not None else pick(rng, (2.0, 4.0, 10.0, 180.0))
        fixture = Fixture(
            degrees=spread, shift=between(rng, 0.01, 0.07), scale=between(rng, 0.01, 0.04), zoom=between(rng, 0.78, 1.1)
        )
        tilted, one_sided = happens(rng, 0.35), happens(rng, 0.3)
        reach = 0.9 if one_sided else 0.1
        return cls(
            azimuth=between(rng, -180, 180),
            elevation=between(rng, 22, 78) if full_frame else between(rng, 32, 75),
            key=between(rng, 0.5, 1.4) * (1.15 - 0.5 * dome),
            dome=dome,
            fixture=fixture,
            angle=0.0 if turn is not None else between(rng, -180, 180) if happens(rng, 0.5) else 0.0,
            brightness=scaled(rng, 0.15, 0.5),
            exposing=between(rng, 0.1, 0.6),
            balance=(float(np.exp(rng.normal(0, 0.06))), float(np.exp(rng.normal(0, 0.08)))),
            defocus=scaled(rng, 0.35, 1.5),
            vignette=between(rng, 0.05, 0.3),
            center=(between(rng, -reach, reach), between(rng, -reach, reach)),
            noise=scaled(rng, 0.4, 2.5),
            contrast=scaled(rng, 0.85, 1.6),
            sharpening=pick(rng, (0.0, 0.0, between(rng, 0.2, 0.9))),
            quality=pick(rng, (None, int(rng.integers(60, 96)))),
            grey=happens(rng, 0.12),
            tilt=(float(rng.normal(0, 0.10)), float(rng.normal(0, 0.10))) if tilted else (0.0, 0.0),
        )

    def light(self, rng: np.random.Generator, nuisance: float) -> Light:
        """The light of one shot."""
        off = rng.uniform(-1, 1, 4) * nuisance
        return Light(
            azimuth=self.azimuth + 10 * float(off[0]),
            elevation=float(np.clip(self.elevation + 5 * float(off[1]), 18, 85)),
            key=self.key * (1 + 0.08 * float(off[2])),
            dome=self.dome * (1 + 0.08 * float(off[3])),
        )

    def exposure(self, rng: np.random.Generator, seen: float, nuisance: float) -> Exposure:
        """The exposure of one shot of a scene whose mean reflected light is about `seen`."""
        off = rng.normal(0, 1, 6) * nuisance
        gain = (self.brightness / max(seen, 0.02)) ** self.exposing
        gain = max(gain, DARKEST / max(seen, 0.005))
        return Exposure(
            gain=float(np.clip(gain * (1 + 0.05 * float(off[0])), 0.4, 6.0)),
            balance=(self.balance[0] * (1 + 0.012 * float(off[1])), 1.0, self.balance[1] * (1 + 0.012 * float(off[2]))),
            defocus=self.defocus * float(np.exp(0.18 * off[3])),
            vignette=self.vignette,
            center=(self.center[0] + 0.06 * float(off[4]), self.center[1] + 0.06 * float(off[5])),
            noise=self.noise,
        )

    def place(self, rng: np.random.Generator, side: int, nuisance: float) -> np.ndarray:
        """Affine map from the drawn part to the canvas."""
        return self.fixture.place(rng, side, angle=self.angle, nuisance=nuisance)

    def seen_obliquely(self, planes: np.ndarray) -> np.ndarray:
        """The picture (or mask), seen by a camera that does not look straight down."""
        if self.tilt == (0.0, 0.0):
            return planes
        rows, columns = planes.shape[:2]
        tx, ty = self.tilt
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float32)
        depth = 1 + corners[:, :1] * tx + corners[:, 1:] * ty
        seen = corners / depth * (1 + abs(tx) + abs(ty))  # close enough to fill the picture
        size = np.array([columns, rows], dtype=np.float32)
        view = cv2.getPerspectiveTransform((corners + 1) * size / 2, ((seen + 1) * size / 2).astype(np.float32))
        return cv2.warpPerspective(planes, view, (columns, rows), borderMode=cv2.BORDER_REFLECT_101)

    def processed(self, picture: Picture) -> Picture:
        """What the camera's electronics make of the picture: sharpening, contrast, grey, JPEG."""
        if self.sharpening:
            soft = cv2.GaussianBlur(picture, (0, 0), 1.0)
            picture = cv2.addWeighted(picture, 1 + self.sharpening, soft, -self.sharpening, 0)
        picture = cv2.LUT(picture, _tone_curve(self.contrast))
        if self.grey:
            picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.quality is not None:
            _, written = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            read = np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR), dtype=np.uint8)
            picture = np.ascontiguousarray(read[..., ::-1])
        return picture


@lru_cache(maxsize=256)
def _tone_curve(contrast: float) -> UInt8[np.ndarray, "256"]:
    """Steeper (or flatter) in the middle, black and white as before."""
    level = np.linspace(-1, 1, 256)
    bent = np.tanh(level * contrast) / np.tanh(contrast) if contrast > 1 else contrast * level
    return np.round((bent + 1) * 127.5).clip(0, 255).astype(np.uint8)
