"""Instance segmentation data in COCO's json layout, checked before training starts."""

from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmengine.logging import MMLogger

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.io.coco import read_coco
from rsfoundation.registry import DATASETS

_NAMED = 3  # missing files that an error names


@DATASETS.register_module()
class CocoInstanceDataset(CocoDataset):
    """mmdet's COCO data set with our checks: what is wrong is said at the start, with names.

    ``metainfo=dict(classes=(...))`` must list the classes to use in the order of the json file's
    ``categories``: mmdet numbers labels in that order whatever order the config says.

    Raises:
        DataError: The json file is missing, broken or lacks a part; classes are unknown or in another
            order; image files are missing.
    """

    def load_data_list(self) -> list[dict]:
        """Check the json file, read it as mmdet does, check that the images exist."""
        self._check_classes(read_coco(Path(self.ann_file)))
        data_list = super().load_data_list()
        self._check_images(data_list)
        count = sum(len(info["instances"]) for info in data_list)
        logger = MMLogger.get_current_instance()
        logger.info("%s: %d images, %d objects", self.ann_file, len(data_list), count)
        return data_list

    def _check_classes(self, content: dict[str, Any]) -> None:
        known = [category["name"] for category in content["categories"]]
        wanted = list(self.metainfo["classes"])
        for name in wanted:
            if name not in known:
                raise DataError(
                    f"class {name!r} is not among the categories {known}; {nearest(name, known)}".rstrip(
                        "; "
                    ),
                    where=self.ann_file,
                    fix="set metainfo=dict(classes=(...)) to names of the file",
                )
        in_file = [name for name in known if name in wanted]
        if in_file != wanted:
            raise DataError(
                f"classes {wanted} stand in another order in the file: {in_file}",
                where=self.ann_file,
                fix="write metainfo=dict(classes=(...)) in the order of the file",
            )

    def _check_images(self, data_list: list[dict]) -> None:
        missing = [info["img_path"] for info in data_list if not Path(info["img_path"]).is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(data_list)} images do not exist: {', '.join(missing[:_NAMED])}"
                + (", ..." if len(missing) > _NAMED else ""),
                where=self.ann_file,
                fix="set data_prefix=dict(img=...) to the folder of the images",
            )
