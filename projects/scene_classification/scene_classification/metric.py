"""Top-1 accuracy."""

from mmengine.evaluator import BaseMetric

from rsfoundation.registry import METRICS


@METRICS.register_module()
class SceneAccuracy(BaseMetric):
    """Share of images whose best class is right."""

    default_prefix = "scene"

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Compare a batch."""
        self.results += [int(sample["scores"].argmax()) == sample["label"] for sample in data_samples]

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Average."""
        return dict(accuracy=sum(results) / len(results))
