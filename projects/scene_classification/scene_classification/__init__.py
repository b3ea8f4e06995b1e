"""Scene classification on rsfoundation's backbones."""

from scene_classification.dataset import SceneFolders
from scene_classification.metric import SceneAccuracy
from scene_classification.model import MeanPoolClassifier
from scene_classification.task import SceneClassification

__all__ = ["MeanPoolClassifier", "SceneAccuracy", "SceneClassification", "SceneFolders"]
