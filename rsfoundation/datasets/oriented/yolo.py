"""Data sets in the layout of YOLO-OBB."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import (
    UNREADABLE_IMAGES,
    UNREADABLE_LABELS,
    AnnotationTable,
    ImageLabels,
    join_splits,
    report_unpaired,
)
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.io.dota import SplitFiles, list_images, pair_up
from rsfoundation.io.rasters import image_size
from rsfoundation.io.yolo import read_yolo_classes, read_yolo_txt
from rsfoundation.registry import DATASETS


@DATASETS.register_module()
class YOLOOBBDataset(OrientedDataset):
    """Images and oriented boxes as Ultralytics distributes them, such as DOTA8 and DOTAv1.

    ``images/<split>/*.jpg`` with ``labels/<split>/*.txt``, or ``<split>/images`` with ``<split>/labels``. In
    YOLO an image without a label file shows no object; it is read so.

    Args:
        data_root: Folder of the data set.
        split: Folder of the split, such as ``train``; or several, read as one.
        data_file: Data file below ``data_root`` with the class names in the order of their numbers; ``None``
            takes the only ``*.yaml`` there. Not needed where ``metainfo`` has classes.
        metainfo: See :class:`OrientedDataset`; classes given here are those of the label files, by number.
        **kwargs: See :class:`OrientedDataset`.

    Raises:
        DataError: A folder or the data file is missing; under ``fail``, a label or image is broken.
    """

    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] = "train",
        data_file: str | None = None,
        metainfo: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        meta = dict(metainfo or {})
        if "classes" not in meta:
            meta["classes"] = read_yolo_classes(_find_data_file(Path(data_root), data_file))
        super().__init__(data_root=data_root, metainfo=meta, **kwargs)

    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Read the label files of every split."""
        root = Path(self.data_root)
        tables = [
            AnnotationTable.build(self._read_split(_find_split(root, split), report)) for split in self.splits
        ]
        return join_splits(tables, report)

    def _read_split(self, files: SplitFiles, report: DatasetReport) -> Iterator[ImageLabels]:
        if not files.labelled and not self.test_mode:
            raise DataError(
                "no label folder, and training needs one",
                where=files.images[0].parent,
                fix="put the label files into labels/ next to images/",
            )
        report_unpaired(SplitFiles((), (), files.labelled, files.orphans), report)
        names = self._metainfo["classes"]
        for image, label in zip(files.images, files.labels, strict=True):
            kind, file = UNREADABLE_IMAGES, image
            try:
                size = image_size(image)
                kind, file = UNREADABLE_LABELS, label or image
                objects = () if label is None else read_yolo_txt(label, size, names, report).objects
            except DataError as error:
                report.error(kind, error, file)
            else:
                yield ImageLabels(image, objects, label, size)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"


def _find_data_file(root: Path, name: str | None) -> Path:
    if name is not None:
        return root / name
    found = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    if len(found) == 1:
        return found[0]
    several = (
        f"there are {len(found)}: {', '.join(path.name for path in found)}" if found else "there is none"
    )
    raise DataError(
        f"class names are read from the only *.yaml of the folder, and {several}",
        where=root,
        fix="name it with data_file='data.yaml', or set metainfo=dict(classes=(...))",
    )


def _find_split(root: Path, split: str) -> SplitFiles:
    """Return images and labels of the first of the two layouts that exists."""
    for images, labels in ((f"images/{split}", f"labels/{split}"), (f"{split}/images", f"{split}/labels")):
        if (root / images).is_dir():
            folder = root / labels
            return pair_up(
                list_images(root / images), sorted(folder.glob("*.txt")) if folder.is_dir() else None
            )
    raise DataError(
        f"no images of the split {split!r}: expected {root / 'images' / split} or {root / split / 'images'}",
        where=root,
        fix="point data_root at the folder with images/ and labels/",
    )
