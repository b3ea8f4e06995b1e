"""Writing a submission in ``rsf test --format-only``, and checks before the test that it will be complete."""

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
from rsfoundation.evaluation.oriented.image_results import ImageResult
from rsfoundation.evaluation.oriented.metric import ImageResultMetric
from rsfoundation.evaluation.oriented.patch_merging import Truth, merge_patches, parse_place
from rsfoundation.evaluation.submission.check import Submission, check_submission, list_images
from rsfoundation.evaluation.submission.dota_results import Written, write_dota
from rsfoundation.evaluation.submission.fair1m_results import official_name, write_fair1m
from rsfoundation.io.rasters import image_size
from rsfoundation.registry import HOOKS, METRICS


@METRICS.register_module()
class DetectionSubmission(ImageResultMetric):
    """Merges patches into full images, writes the archives of the server, and checks them.

    Args:
        out: Folder for the archives.
        style: ``dota`` (Task1.zip, Task2.zip) or ``fair1m`` (test.zip); by the classes when ``auto``.
        images: Folder of the full test images. With it, every image must have been tested, and no other;
            FAIR1M needs it for the sizes of images that were cut into patches.
        merge_iou: Of the NMS per class.
        class_agnostic: Whether that NMS compares detections of different classes too.
        collect_device: Where results of ranks are gathered.
        prefix: Put before every name.

    Attributes:
        submissions: The archives that were written last, on the first rank.
    """

    default_prefix = "submission"

    def __init__(
        self,
        out: str,
        style: Literal["auto", "dota", "fair1m"] = "auto",
        images: str | None = None,
        merge_iou: float = 0.1,
        class_agnostic: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to shows before the test
        self.style = style
        self.images = list_images(Path(images)) if images is not None else None
        self.merge_iou = merge_iou
        self.class_agnostic = class_agnostic
        self.submissions: tuple[Submission, ...] = ()

    def compute_metrics(self, results: list[ImageResult]) -> dict[str, float]:
        """Merge, write, check; the metrics are counts."""
        tested, names = self.sorted_results(results), tuple(self.dataset_meta["classes"])
        merged = merge_patches(tested, self.merge_iou, _no_truth, self.class_agnostic)
        written = (
            write_fair1m(self.out, merged, names, self._size_of, self._suffix(tested))
            if self.is_fair1m()
            else write_dota(self.out, merged, names)
        )
        self.submissions = self._check(written, tested, names)
        self._log(written)
        return {"images": float(written.images), "detections": float(written.detections)}

    def is_fair1m(self) -> bool:
        """Return whether the archive is one for FAIR1M's server."""
        if self.style != "auto":
            return self.style == "fair1m"
        names = {official_name(name) for name in self.dataset_meta["classes"]}
        return names == {official_name(name) for name in FAIR1M_CLASSES}

    def _check(
        self, written: Written, results: list[ImageResult], names: tuple[str, ...]
    ) -> tuple[Submission, ...]:
        tested = {parse_place(result.name).image for result in results}
        check_all_tested(self.images, tested, "were not tested")
        known = self.images if self.images is not None else tested
        submissions = tuple(check_submission(file, known, names) for file in written.files)
        for submission in submissions:
            submission.raise_problem()
        return submissions

    def _size_of(self, result: ImageResult) -> tuple[int, int]:
        """Return width and height of a full image: as tested, or from its file."""
        if result.size != (0, 0):
            return result.size[1], result.size[0]
        file = (self.images or {}).get(result.name) or Path(result.path)
        if file.stem != result.name:
            raise unknown_size(result.name, result.path)
        return image_size(file)

    def _suffix(self, results: list[ImageResult]) -> str:
        """Return the suffix of the full images: patches of them are mostly PNG, whatever they were."""
        files = self.images or {result.name: Path(result.path) for result in results[:1]}
        name, file = next(iter(files.items()))
        return file.suffix if file.stem == parse_place(name).image and file.suffix else ".tif"

    def _log(self, written: Written) -> None:
        logger = MMLogger.get_current_instance()
        files = ", ".join(str(file) for file in written.files)
        logger.info("%d detections in %d images, checked: %s", written.detections, written.images, files)
        if written.flat:
            logger.warning("left out %d detections thinner than a hundredth of a pixel", written.flat)


def check_all_tested(images: Mapping[str, Path] | None, tested: set[str], verb: str) -> None:
    """Refuse a test of only some of the images.

    Args:
        images: The full test images by name; ``None`` where they are not known.
        tested: Names of those that are tested.
        verb: What the others lack, for the message: ``were not tested``.

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
    """Return the error for an image whose size is unknown.

    Args:
        image: Its name.
        where: File or folder of its patches.
    """
    return DataError(
        f"the size of image {image!r} is not known: only patches of it were tested",
        where=where,
        fix="name the folder of the full test images: --images FOLDER",
    )


def _no_truth(image: str) -> Truth:
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
            table = data.data_list
            files = dict(zip(table.names.tolist(), table.paths.tolist(), strict=True))
            for metric in metrics:
                check_split(metric, files, str(data.data_root))


def check_split(metric: DetectionSubmission, files: Mapping[str, str], folder: str) -> None:
    """Check the images to be tested, patches or whole.

    Args:
        metric: Writes the submission.
        files: The name of each in results, and the file it is read from.
        folder: Their folder, for the message.

    Raises:
        DataError: They are not the images of the folder of full images; or sizes of full images are needed
            and not known.
    """
    images = {name: parse_place(name).image for name in files}
    if metric.images is None:
        cut = [image for name, image in images.items() if Path(files[name]).stem != image]
        if cut and metric.is_fair1m():
            raise unknown_size(cut[0], folder)
        return
    tested = set(images.values())
    check_all_tested(metric.images, tested, "are not in the split that is tested")
    unknown = sorted(tested - set(metric.images))
    if unknown:
        raise DataError(
            f"{len(unknown)} images of the split are no test images, first: {unknown[0]}",
            where=f"{folder}; {next(iter(metric.images.values())).parent}",
            fix="test the split of that folder: --cfg-options submission.split=SPLIT",
        )
