"""The DOTA data set: every version, as distributed or as tiled."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmdet.datasets import BaseDetDataset
from mmengine.logging import MMLogger

from rsfoundation.detection.classes import DOTA_CLASSES, DotaVersion
from rsfoundation.detection.dota_files import SplitFiles, find_split
from rsfoundation.detection.loading import read_image
from rsfoundation.errors import DataError, nearest
from rsfoundation.registry import DATASETS
from rsfoundation.structures.boxes import quad_to_rbox
from rsfoundation.structures.dota_txt import DotaObject, Policy, read_dota_txt
from rsfoundation.visualization import palette

MIN_SIDE = 2.0  # pixels; smaller rectangles encode to infinite regression targets


@DATASETS.register_module()
class DOTADataset(BaseDetDataset):
    """Images and oriented boxes of ``<data_root>/<split>/{images, labelTxt | annfiles}``.

    Boxes come out as quadrilaterals in image pixels (``box_type='qbox'``), images in name order. What is
    left out is counted, logged, and kept in :attr:`left_out`: boxes under two pixels, objects of DOTA
    classes that ``metainfo`` does not list, and under ``on_error='skip'`` whatever is broken.

    Args:
        data_root: Folder of the data set.
        split: Folder of the split below it, such as ``train``.
        label_dir: Label folder below the split; ``labelTxt`` or ``annfiles`` when ``None``.
        version: Chooses the class list, where ``metainfo`` has none.
        ignore_difficulty: Objects this difficult or more are neither trained on nor counted in the
            metric (1: difficult ones; 2: those cut by a window border); ``None`` uses all.
        on_error: ``fail`` stops at the first broken image or label line; ``skip`` leaves them out, and
            decodes every image once before the start to know which are broken.
        metainfo: ``dict(classes=(...))`` sets other classes, ``palette`` their colours.
        **kwargs: Passed to mmengine's ``BaseDataset``.

    Raises:
        DataError: A folder is missing; under ``fail``, a label or image is broken or missing.
    """

    def __init__(
        self,
        *,
        data_root: str,
        split: str = "train",
        label_dir: str | None = None,
        version: DotaVersion = "1.0",
        ignore_difficulty: int | None = None,
        on_error: Policy = "fail",
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.label_dir = label_dir
        self.ignore_difficulty = ignore_difficulty
        self.on_error = on_error
        self.left_out: Counter[str] = Counter()
        super().__init__(data_root=data_root, metainfo=_complete(metainfo, version), **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the label files.

        Returns:
            One dict per image: ``img_id``, ``img_path``, ``instances`` with ``bbox`` (8 numbers),
            ``bbox_label``, ``ignore_flag``.
        """
        files = find_split(Path(self.data_root), self.split, self.label_dir)
        self._check_labels(files)
        data_list = [
            {"img_id": image.stem, "img_path": str(image), "instances": self._instances(label)}
            for image, label in zip(files.images, files.labels, strict=True)
            if label is not None or not files.labelled
        ]
        if self.on_error == "skip":
            data_list = self._drop_broken_images(data_list)
        self._report(data_list)
        return data_list

    def filter_data(self) -> list[dict]:
        """Leave out images without objects from training where ``filter_cfg`` says so."""
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        return [info for info in self.data_list if any(not item["ignore_flag"] for item in info["instances"])]

    def _check_labels(self, files: SplitFiles) -> None:
        """Refuse images that look unlabelled by mistake; tell of labels without an image."""
        if not files.labelled and not self.test_mode:
            raise DataError(
                "no label folder, and training needs one: expected labelTxt/ or annfiles/ beside images/",
                where=Path(self.data_root) / self.split,
                cure="name it with label_dir='...' if it is called otherwise",
            )
        bare = [image for image, label in zip(files.images, files.labels, strict=True) if label is None]
        if files.labelled and bare and self.on_error == "fail":
            raise DataError(
                f"{len(bare)} of {len(files.images)} images have no label file",
                where=bare[0],
                cure="add an empty .txt for an image without objects, or set on_error='skip'",
            )
        self.left_out["images without a label file"] += len(bare) if files.labelled else 0
        self.left_out["label files without an image"] += len(files.orphans)

    def _instances(self, label: Path | None) -> list[dict]:
        if label is None:
            return []
        content = read_dota_txt(label, self.on_error)
        self.left_out["malformed label lines"] += len(content.skipped)
        rboxes = quad_to_rbox([item.quad for item in content.objects])
        instances = []
        for item, rbox in zip(content.objects, rboxes, strict=True):
            index = self._label_of(item, label)
            if min(rbox[2:4]) < MIN_SIDE:
                self.left_out[f"boxes under {MIN_SIDE:g} px"] += 1
            elif index is not None:
                ignored = self.ignore_difficulty is not None and item.difficulty >= self.ignore_difficulty
                instances.append({"bbox": list(item.quad), "bbox_label": index, "ignore_flag": int(ignored)})
        return instances

    def _label_of(self, item: DotaObject, file: Path) -> int | None:
        """Return the label index of an object, or ``None`` when it is left out."""
        classes = self._metainfo["classes"]
        if item.name in classes:
            return classes.index(item.name)
        if item.name in DOTA_CLASSES["2.0"]:
            self.left_out[f"objects of class {item.name}"] += 1
            return None
        if self.on_error == "skip":
            self.left_out["objects of unknown classes"] += 1
            return None
        hint = nearest(item.name, classes)
        raise DataError(
            f"unknown class {item.name!r}{f'; {hint}' if hint else ''}",
            where=f"{file}:{item.line}",
            cure="mend the label, list the class in metainfo=dict(classes=(...)), or set on_error='skip'",
        )

    def _drop_broken_images(self, data_list: list[dict]) -> list[dict]:
        with ThreadPoolExecutor() as pool:
            whole = list(pool.map(lambda info: _is_whole(info["img_path"]), data_list))
        self.left_out["unreadable images"] += whole.count(False)
        return [info for info, good in zip(data_list, whole, strict=True) if good]

    def _report(self, data_list: list[dict]) -> None:
        count = sum(len(info["instances"]) for info in data_list)
        self.left_out = +self.left_out  # keep what occurred
        logger = MMLogger.get_current_instance()
        logger.info("%s/%s: %d images, %d objects", self.data_root, self.split, len(data_list), count)
        if self.left_out:
            told = ", ".join(f"{number} {what}" for what, number in sorted(self.left_out.items()))
            logger.warning("%s/%s: left out %s", self.data_root, self.split, told)


def _complete(metainfo: Mapping[str, Any] | None, version: DotaVersion) -> dict[str, Any]:
    """Fill classes and colours where the user gave none."""
    meta = {"classes": DOTA_CLASSES[version], **(metainfo or {})}
    meta["classes"] = tuple(meta["classes"])
    return {"palette": list(palette(len(meta["classes"]))), **meta}


def _is_whole(path: str) -> bool:
    try:
        read_image(path)
    except DataError:
        return False
    return True
