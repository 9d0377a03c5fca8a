"""Records for the benchmarks of the stream: seeded pictures of three products, and records that can never be scored.

A record's number decides all of it, so a benchmark knows what each must become.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stream_ad.domain.images import Picture

PRODUCTS = ("nut", "tile", "cloth")
#: of the pictures; the last product is rare, so that a bank without it calls few pictures NG
SHARES = (0.45, 0.45, 0.1)
CAMERAS = 8
#: what may be wrong with a record; each is a dead letter, at the stage beside it
POISON: Mapping[str, str] = {
    "text": "decode",  # no picture at all
    "half a picture": "decode",
    "bomb": "decode",  # a header that promises 3.6 gigapixels
    "nothing": "message",  # neither bytes nor a reference
    "other bytes": "message",  # not those of the sha256
    "structured mode": "message",
    "no such text": "message",  # a header that is not UTF-8
    "reference outside": "message",  # references are not allowed here
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A record to be sent, and what it must become."""

    number: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    #: what is wrong with it; None: it must be scored
    poison: str | None

    @property
    def id(self) -> str:
        return message_id(self.number)


def message_id(number: int) -> str:
    return f"image-{number:06d}"


def planned(number: int, *, seed: int, side: int, poison: float, scratched: float = 0.15) -> Planned:
    """The record of a number: half of them declared, `scratched` of them defective, `poison` of them hopeless."""
    rng = np.random.default_rng([seed, number])
    product = str(rng.choice(PRODUCTS, p=SHARES))
    camera = f"cam-{int(rng.integers(CAMERAS))}"
    data = encoded(picture(product, rng, side=side, scratched=rng.random() < scratched), lossless=rng.random() < 0.1)
    headers = {"ce_id": message_id(number).encode(), "ce_specversion": b"1.0", "camera": camera.encode()}
    if rng.random() < 0.5:
        headers["product"] = product.encode()
    if rng.random() < 0.5:
        headers["sha256"] = hashlib.sha256(data).hexdigest().encode()
    if (wrong := poison_of(number, seed=seed, share=poison)) is not None:
        data, headers = spoilt(wrong, data, headers)
    return Planned(number=number, key=camera.encode(), value=data, headers=headers, poison=wrong)


def poison_of(number: int, *, seed: int, share: float) -> str | None:
    """What is wrong with the record of a number; None: nothing."""
    rng = np.random.default_rng([seed, number, 1])
    return list(POISON)[int(rng.integers(len(POISON)))] if rng.random() < share else None


def picture(product: str, rng: np.random.Generator, *, side: int, scratched: bool = False) -> Picture:
    """A good or scratched part; products differ in colour and shape, so that an untrained backbone tells them apart."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    if product == "nut":
        disc = np.hypot(y - rng.uniform(-0.03, 0.03), x - rng.uniform(-0.03, 0.03)) < 0.3
        grey = np.where(disc, 170.0, 50.0)
        colour = np.stack([grey, 0.6 * grey, 0.4 * grey], axis=2)
    elif product == "cloth":
        weave = 40 * np.sign(np.sin(60 * x + rng.uniform(0, 6))) * np.sign(np.sin(60 * y + rng.uniform(0, 6)))
        colour = np.stack([120 + weave, 160 + weave, 110 + 0.5 * weave], axis=2)
    else:
        grey = 130 + 40 * np.sin(40 * x + rng.uniform(0, 6))
        colour = np.stack([0.3 * grey, 0.6 * grey, grey], axis=2)
    colour += rng.normal(0, 4, (side, side, 1))
    if scratched:
        row, column = (int(place) for place in rng.integers(side // 4, side // 2, 2))
        colour[row : row + max(1, side // 12), column : column + side // 3] = (230, 230, 40)
    return colour.clip(0, 255).astype(np.uint8)


def encoded(image: Picture, *, lossless: bool) -> bytes:
    """As PNG or JPEG."""
    stream = io.BytesIO()
    if lossless:
        Image.fromarray(image).save(stream, "PNG", compress_level=1)
    else:
        Image.fromarray(image).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def spoilt(wrong: str, data: bytes, headers: Mapping[str, bytes]) -> tuple[bytes, dict[str, bytes]]:
    """Value and headers of a record that can never be scored, for the reason given."""
    rest = {name: value for name, value in headers.items() if name != "sha256"}
    match wrong:
        case "text":
            return b"this is not the picture that you are looking for", rest
        case "half a picture":
            return data[: len(data) // 2], rest
        case "bomb":
            return _png_that_promises(60_000, 60_000), rest
        case "nothing":
            return b"", rest
        case "other bytes":
            return data, rest | {"sha256": hashlib.sha256(b"another picture").hexdigest().encode()}
        case "structured mode":
            return data, rest | {"content-type": b"application/cloudevents+json"}
        case "no such text":
            return data, rest | {"camera": b"\xff\xfe cam"}
        case "reference outside":
            return b"", rest | {"ce_dataref": b"file:///proc/self/environ"}
    raise ValueError(f"needed one of {', '.join(POISON)}, got {wrong!r}")


def _png_that_promises(width: int, height: int) -> bytes:
    """A valid header and no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
