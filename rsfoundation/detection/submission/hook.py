"""What would spoil a submission after the last image, told before the first."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from rsfoundation.detection.datasets.base import OrientedDataset
from rsfoundation.detection.evaluation.merging import place_of
from rsfoundation.detection.submission.metric import DetectionSubmission, refuse_absent, unknown_size
from rsfoundation.errors import DataError
from rsfoundation.registry import HOOKS


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
    refuse_absent(metric.images, tested, "are not in the split that is tested")
    strange = sorted(tested - set(metric.images))
    if strange:
        raise DataError(
            f"{len(strange)} images of the split are no test images, first: {strange[0]}",
            where=f"{folder}; {next(iter(metric.images.values())).parent}",
            cure="test the split of that folder: --cfg-options submission.split=SPLIT",
        )
