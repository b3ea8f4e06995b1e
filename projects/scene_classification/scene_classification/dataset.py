"""Folder-per-class scene data sets."""

from pathlib import Path

import cv2
import torch
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from rsfoundation.core.errors import DataError
from rsfoundation.io.loading import ImageLoading
from rsfoundation.registry import DATASETS


@DATASETS.register_module()
class SceneFolders(BaseDataset):
    """``<data_root>/<class name>/*``; classes are the folder names in alphabetical order.

    Args:
        data_root: The folder.
        size: Images are resized to ``size x size``.
    """

    def __init__(self, data_root: str, size: int = 224) -> None:
        self.size = size
        root = Path(data_root)
        if not root.is_dir():
            raise DataError(
                "the data folder does not exist", where=root, fix="expected <folder>/<class name>/*.png"
            )
        names = tuple(sorted(folder.name for folder in root.iterdir() if folder.is_dir()))
        super().__init__(data_root=data_root, metainfo=dict(classes=names), pipeline=[])

    def load_data_list(self) -> list[dict]:
        """List the images, class by class."""
        return [
            dict(img_path=str(file), label=label)
            for label, name in enumerate(self.metainfo["classes"])
            for file in sorted((Path(self.data_root) / name).iterdir())
        ]

    def prepare_data(self, index: int) -> dict:
        """Return ``inputs`` (3, size, size) RGB uint8 and a data sample with path and label."""
        info = self.get_data_info(index)
        image = cv2.resize(ImageLoading().read(info["img_path"])[..., ::-1], (self.size, self.size))
        sample = BaseDataElement(metainfo=dict(img_path=info["img_path"], label=info["label"]))
        return dict(inputs=torch.from_numpy(image).permute(2, 0, 1), data_samples=sample)
