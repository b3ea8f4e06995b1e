"""What would spoil a submission after the last image, told before the first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import FAIR1M_CLASSES
from rsfoundation.evaluation.oriented.metric import RecordingMetric
from rsfoundation.evaluation.oriented.patch_merging import Truth, merge_patches, place_of
from rsfoundation.evaluation.oriented.records import ImageRecord
from rsfoundation.evaluation.submission.check import Submission, check_submission
from rsfoundation.evaluation.submission.writing import Written, official_name, write_dota, write_fair1m
from rsfoundation.io.dota import IMAGE_SUFFIXES
from rsfoundation.io.rasters import image_size
from rsfoundation.registry import HOOKS, METRICS


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
        check_all_tested(self.images, tested, "were not tested")
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


def check_all_tested(images: Mapping[str, Path] | None, tested: set[str], verb: str) -> None:
    """Refuse a test of a part of the images; ``verb`` says what the others lack.

    Raises:
        DataError: Some of ``images`` are not in ``tested``.
    """
    absent = sorted(set(images or ()) - tested)
    if images and absent:
        raise DataError(
            f"{len(absent)} of {len(images)} test images {verb}, first: {absent[0]}",
            where=next(iter(images.values())).parent,
            fix="cut all of them: `rsf prepare dota`, and test the whole split",
        )


def unknown_size(image: str, where: str) -> DataError:
    """Return the error for an image whose size nothing tells."""
    return DataError(
        f"the size of image {image!r} is not known: only patches of it were tested",
        where=where,
        fix="name the folder of the full test images: --images FOLDER",
    )


def list_images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by name without suffix.

    Raises:
        DataError: There is no image.
    """
    found = sorted(file for file in folder.glob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError("no image in the folder", where=folder, fix="name the folder of the full test images")
    return {file.stem: file for file in found}


def _no_labels(image: str) -> Truth:
    return np.zeros((0, 5)), np.zeros(0, np.int16), np.zeros(0, bool)


@HOOKS.register_module()
class SubmissionCheckHook(Hook):
    """Compares the images of a test with those that its submission is for."""

    def before_test(self, runner: Runner) -> None:
        """Compare; data sets of other kinds are compared after the test only.

        Raises:
            DataError: The split is not the one of the submission, or sizes of images are not known.
        """
        data = runner.test_dataloader.dataset
        metrics = [one for one in runner.test_evaluator.metrics if isinstance(one, DetectionSubmission)]
        if metrics and isinstance(data, OrientedDataset):
            data.full_init()
            entries = data.data_list
            files = dict(zip(entries.names.tolist(), entries.paths.tolist(), strict=True))
            for metric in metrics:
                check_split(metric, files, str(data.data_root))


def check_split(metric: DetectionSubmission, files: Mapping[str, str], folder: str) -> None:
    """Check the images to be tested, patches or whole.

    Args:
        metric: Writes the submission.
        files: What results will call them, and the file each is read from.
        folder: Where they lie, for the message.

    Raises:
        DataError: They are not the images of the folder of full images; or sizes of full images are needed
            and nothing tells them.
    """
    images = {name: place_of(name).image for name in files}
    if metric.images is None:
        cut = [image for name, image in images.items() if Path(files[name]).stem != image]
        if cut and metric.is_fair1m():
            raise unknown_size(cut[0], folder)
        return
    tested = set(images.values())
    check_all_tested(metric.images, tested, "are not in the split that is tested")
    strange = sorted(tested - set(metric.images))
    if strange:
        raise DataError(
            f"{len(strange)} images of the split are no test images, first: {strange[0]}",
            where=f"{folder}; {next(iter(metric.images.values())).parent}",
            fix="test the split of that folder: --cfg-options submission.split=SPLIT",
        )
