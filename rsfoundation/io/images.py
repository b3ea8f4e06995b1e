"""Reading and writing pictures as RGB arrays, with errors that name the file."""

import io
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING

_TIFF = (b"II*\0", b"MM\0*")
_BITS, _EXTRA_SAMPLES = 258, 338  # tags
_UNASSOCIATED = 2  # transparency that the colours are free of
_MODES = ("L", "LA", "RGB", "RGBA")  # what Pillow turns into colours without guessing
_NO_IMAGE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError)


def decode_image(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file to BGR ``uint8`` ``(H, W, 3)``; of more bands the first three are taken.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"image cannot be read: {error.strerror}", where=path) from error
    decoders = (_by_pillow,) if _would_be_spoilt(content) else (_by_opencv, _by_pillow)
    image = next((found for found in (decode(content) for decode in decoders) if found is not None), None)
    if image is None:
        raise DataError(
            f"no readable image: it cannot be decoded ({len(content)} bytes)",
            where=path,
            fix=f"replace the file, convert it to 8-bit colours, or leave such images out with {SKIPPING}",
        )
    return image


def _would_be_spoilt(content: bytes) -> bool:
    """Say whether a file is a TIFF of 8 bit with a band that OpenCV would multiply the colours by."""
    if content[:4] not in _TIFF:
        return False
    with suppress(*_NO_IMAGE), TiffImageFile(io.BytesIO(content)) as opened:
        extra, bits = (opened.tag_v2.get(tag) or () for tag in (_EXTRA_SAMPLES, _BITS))
        return _UNASSOCIATED in extra and set(bits) == {8}
    return False


def _by_opencv(content: bytes) -> NDArray[np.uint8] | None:
    image = None
    with suppress(cv2.error):  # nothing to decode, or more pixels than it takes
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.asarray(image, dtype=np.uint8)


def _by_pillow(content: bytes) -> NDArray[np.uint8] | None:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.mode not in _MODES:
                return None
            bands = np.asarray(opened, dtype=np.uint8)
    except _NO_IMAGE:
        return None
    if bands.ndim == 2 or bands.shape[2] < 3:
        grey = bands if bands.ndim == 2 else bands[..., 0]
        return np.repeat(grey[..., None], 3, axis=2)
    return np.ascontiguousarray(bands[..., 2::-1])


def read_rgb(path: str | Path) -> np.ndarray:
    """Read an image as ``uint8`` RGB ``(H, W, 3)``.

    Raises:
        DataError: The file is missing or no readable image.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError("the image does not exist", where=file)
    return cv2.cvtColor(decode_image(file), cv2.COLOR_BGR2RGB)


def write_rgb(path: Path, picture: np.ndarray) -> None:
    """Write an RGB array; the folder is made, and the file appears whole or not at all.

    Raises:
        DataError: The picture cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"a picture cannot be written as '{path.suffix}'", where=path, fix="use .png or .jpg")
    aside = path.with_name(path.name + ".part")
    try:
        aside.write_bytes(encoded.tobytes())
        aside.replace(path)
    except OSError as error:
        raise DataError(f"the picture cannot be written: {error.strerror}", where=path) from error
