"""Reading and writing pictures as RGB arrays, with errors that name the file."""

from pathlib import Path

import cv2
import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import replacing
from rsfoundation.io.loading import ImageLoading


def read_rgb(path: str | Path) -> np.ndarray:
    """Read an image to look at as ``uint8`` RGB ``(H, W, 3)``; see :meth:`ImageLoading.picture`.

    Raises:
        DataError: The file is missing or no readable image.
    """
    return ImageLoading().picture(path)


def write_rgb(path: Path, picture: np.ndarray) -> None:
    """Write an RGB array; the folder is made, and the file appears whole or not at all.

    Args:
        path: The file; its suffix chooses the format.
        picture: ``uint8`` ``(H, W, 3)``.

    Raises:
        DataError: The picture cannot be written there.
    """
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"a picture cannot be written as '{path.suffix}'", where=path, fix="use .png or .jpg")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise DataError(
            f"the picture cannot be written: {error.strerror}",
            where=path,
            fix="free some space, or choose a folder that you may write to",
        ) from error
