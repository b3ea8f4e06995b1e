"""Loading images for detection, with errors that name the file."""

from pathlib import Path

from mmcv.transforms import BaseTransform

from rsfoundation.detection.pixels import OpenImages, read_image, read_window
from rsfoundation.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Load ``img_path`` as BGR ``uint8`` ``(H, W, 3)``; single-channel and alpha images are converted.

    Adds ``img``, ``img_shape`` and ``ori_shape``. Where the entry has a ``window`` (a virtual patch), only
    that square of the file is the image: TIFFs are read by windows where rasterio is installed, and other
    files are decoded once and kept for the next window of the same file.

    Args:
        cache_mb: Decoded files that each worker keeps, in megabytes; the last one is kept in any case.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """

    def __init__(self, cache_mb: float = 256) -> None:
        self._open_images = OpenImages(cache_mb)

    def transform(self, results: dict) -> dict:
        """Load the image of one results dict."""
        path, window = str(results["img_path"]), results.get("window")
        # a window is copied: what follows may write to the image
        image = (
            read_image(Path(path))
            if window is None
            else read_window(self._open_images.open(path), *window).copy()
        )
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results
