"""Writing a submission in place of figures: for test sets whose labels only the server has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from mmengine.logging import MMLogger

from rsfoundation.detection.classes import FAIR1M_CLASSES
from rsfoundation.detection.dota_files import IMAGE_SUFFIXES
from rsfoundation.detection.evaluation.merging import Truth, merge_patches, place_of
from rsfoundation.detection.evaluation.records import ImageRecord
from rsfoundation.detection.metric import RecordingMetric
from rsfoundation.detection.pixels import image_size
from rsfoundation.detection.submission.check import Submission, check_submission
from rsfoundation.detection.submission.dota import Written, write_dota
from rsfoundation.detection.submission.fair1m import official_name, write_fair1m
from rsfoundation.errors import DataError
from rsfoundation.registry import METRICS


@METRICS.register_module()
class DetectionSubmission(RecordingMetric):
    """Merges patches into full images, writes the archives of the server, and checks them.

    Args:
        out: Folder for the archives.
        style: ``dota`` (Task1.zip, Task2.zip) or ``fair1m`` (test.zip); told by the classes when ``auto``.
        images: Folder of the full test images. With it, every image must have been tested, and no other;
            FAIR1M needs it for the sizes of images that were cut into patches.
        merge_iou: Of the NMS per class.
        collect_device: Where results of ranks are gathered.
        prefix: Put before every name.

    Attributes:
        submissions: What was written last, on the first rank.
    """

    default_prefix = "submission"

    def __init__(
        self,
        out: str,
        style: Literal["auto", "dota", "fair1m"] = "auto",
        images: str | None = None,
        merge_iou: float = 0.1,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to shows before the test
        self.style = style
        self.images = list_images(Path(images)) if images is not None else None
        self.merge_iou = merge_iou
        self.submissions: tuple[Submission, ...] = ()

    def compute_metrics(self, results: list[ImageRecord]) -> dict[str, float]:
        """Merge, write, check; the figures are counts."""
        records, names = self.sorted_records(results), tuple(self.dataset_meta["classes"])
        merged = merge_patches(records, self.merge_iou, _no_labels)
        written = (
            write_fair1m(self.out, merged, names, self._size_of, self._suffix(records))
            if self.is_fair1m()
            else write_dota(self.out, merged, names)
        )
        self.submissions = self._check(written, records, names)
        self._log(written)
        return {"images": float(written.images), "detections": float(written.detections)}

    def is_fair1m(self) -> bool:
        """Whether the archive is one for FAIR1M's server."""
        if self.style != "auto":
            return self.style == "fair1m"
        names = {official_name(name) for name in self.dataset_meta["classes"]}
        return names == {official_name(name) for name in FAIR1M_CLASSES}

    def _check(
        self, written: Written, records: list[ImageRecord], names: tuple[str, ...]
    ) -> tuple[Submission, ...]:
        tested = {place_of(record.name).image for record in records}
        refuse_absent(self.images, tested, "were not tested")
        known = self.images if self.images is not None else tested
        submissions = tuple(check_submission(file, known, names) for file in written.files)
        for submission in submissions:
            submission.refuse()
        return submissions

    def _size_of(self, record: ImageRecord) -> tuple[int, int]:
        """Return width and height of a full image: as tested, or out of its file."""
        if record.size != (0, 0):
            return record.size[1], record.size[0]
        file = (self.images or {}).get(record.name) or Path(record.path)
        if file.stem != record.name:
            raise unknown_size(record.name, record.path)
        return image_size(file)

    def _suffix(self, records: list[ImageRecord]) -> str:
        """Return the suffix of the full images: patches of them are mostly PNG, whatever they were."""
        files = self.images or {record.name: Path(record.path) for record in records[:1]}
        name, file = next(iter(files.items()))
        return file.suffix if file.stem == place_of(name).image and file.suffix else ".tif"

    def _log(self, written: Written) -> None:
        logger = MMLogger.get_current_instance()
        told = ", ".join(str(file) for file in written.files)
        logger.info("%d detections in %d images, checked: %s", written.detections, written.images, told)
        if written.flat:
            logger.warning("left out %d detections thinner than a hundredth of a pixel", written.flat)


def refuse_absent(images: Mapping[str, Path] | None, tested: set[str], verb: str) -> None:
    """Refuse a test of a part of the images; ``verb`` says what the others lack.

    Raises:
        DataError: Some of ``images`` are not in ``tested``.
    """
    absent = sorted(set(images or ()) - tested)
    if images and absent:
        raise DataError(
            f"{len(absent)} of {len(images)} test images {verb}, first: {absent[0]}",
            where=next(iter(images.values())).parent,
            cure="cut all of them: `rsf prepare dota`, and test the whole split",
        )


def unknown_size(image: str, where: str) -> DataError:
    """Return the error for an image whose size nothing tells."""
    return DataError(
        f"the size of image {image!r} is not known: only patches of it were tested",
        where=where,
        cure="name the folder of the full test images: --images FOLDER",
    )


def list_images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by name without suffix.

    Raises:
        DataError: There is no image.
    """
    found = sorted(file for file in folder.glob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(
            "no image in the folder", where=folder, cure="name the folder of the full test images"
        )
    return {file.stem: file for file in found}


def _no_labels(image: str) -> Truth:
    return np.zeros((0, 5)), np.zeros(0, np.int16), np.zeros(0, bool)
