"""Loading images for detection, with errors that name the file."""

from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from rsfoundation.errors import DataError
from rsfoundation.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Load ``img_path`` as BGR ``uint8`` ``(H, W, 3)``; single-channel and alpha images are converted.

    Adds ``img``, ``img_shape`` and ``ori_shape``.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """

    def transform(self, results: dict) -> dict:
        """Load the image of one results dict."""
        image = read_image(results["img_path"])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to BGR ``uint8`` ``(H, W, 3)``.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    try:
        content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"image cannot be read: {error.strerror}", where=path) from error
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise DataError(
            f"image cannot be decoded ({content.size} bytes)",
            where=path,
            cure="replace the file, or let the data set leave such images out with on_error='skip'",
        )
    return image
