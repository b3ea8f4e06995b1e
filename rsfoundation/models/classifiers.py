"""Scene recognition: any backbone, a pooled linear head, and what training does to whole batches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import build_activation_layer
from mmengine.logging import print_log
from mmengine.model import BaseModel, BaseModule, ImgDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.base import Backbone
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.models.preprocessors import AnyBands
from rsfoundation.models.pretrained.download import resolve
from rsfoundation.models.pretrained.loading import (
    LoadReport,
    State,
    check_anything_fits,
    load_state,
    read_state,
    split_init_cfg,
    to_own_names,
)
from rsfoundation.registry import MODELS

# Names of the classifiers in published checkpoints -> ours, below `head.`
_HEAD_NAMES = (("head.fc.", "fc."), ("head.", "fc."), ("fc.", "fc."), ("avgpool_pre_head.1.", "pre."))
_FINAL_NORM = {"RSPSwinTransformer": ("norm.", "norm3.")}
_ERASED_AREA, _ERASED_RATIO = (0.02, 1 / 3), (0.3, 3.3)
_ERASING_TRIES = 10


def recognition_backbone(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a backbone as recognition and pretraining need it: its last map alone.

    Of a pyramid over a plain encoder the encoder is taken. Norms of outputs that published classifiers do
    not have are left out. What the config sets itself stays.

    Args:
        config: Of any backbone, such as the shipped files define.
    """
    chosen = dict(config)
    if str(chosen["type"]).rsplit(".", 1)[-1] == "PlainPyramid":
        chosen = dict(chosen["encoder"])
    kind = MODELS.get(chosen["type"])
    options = inspect.signature(kind).parameters if kind is not None else {}
    if isinstance(kind, type) and issubclass(kind, Backbone):
        chosen.setdefault("out_indices", (3,))
    if isinstance(kind, type) and issubclass(kind, PlainEncoder):
        indices = chosen.get("out_indices") or -1
        chosen["out_indices"] = indices[-1] if isinstance(indices, Sequence) else indices
        output = {"out_type": "featmap", "output_hidden_states": False}
        chosen.update({key: value for key, value in output.items() if key in options})
    if "output_norm" in options:
        chosen.setdefault("output_norm", False)
    return chosen


@MODELS.register_module()
class SceneDataPreprocessor(AnyBands, ImgDataPreprocessor):
    """Normalises a batch of scenes of any number of bands and, in training, mixes and erases.

    Mixup and CutMix blend each image with one of the batch and give it both labels, as shares in
    ``gt_score``. One of them is drawn for each batch. Random numbers come from torch's CPU generator.

    Args:
        mean: Mean of each band, in the model's order.
        std: Standard deviation likewise.
        bgr_to_rgb: Whether three bands come as blue, green, red.
        num_classes: Number of classes; needed to mix.
        mixup: Alpha of the beta distribution of Mixup (arXiv 1710.09412); 0 for none.
        cutmix: Alpha of CutMix (arXiv 1905.04899); 0 for none.
        mix_prob: Probability that a batch is mixed at all.
        erasing: Probability that a rectangle of an image becomes noise (arXiv 1708.04896).
        **kwargs: As for mmengine's ``ImgDataPreprocessor``.

    Raises:
        ConfigError: Images are to be mixed, and the number of classes is not given.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        bgr_to_rgb: bool = True,
        num_classes: int | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mix_prob: float = 1.0,
        erasing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(mean=mean, std=std, bgr_to_rgb=bgr_to_rgb, **kwargs)
        if (mixup or cutmix) and num_classes is None:
            raise ConfigError(
                "mixed images have shares of several classes, and their number is not given",
                where="model.data_preprocessor.num_classes",
                fix="set num_classes there, as in model.head",
            )
        self.classes = num_classes
        self.mixup, self.cutmix, self.mix_prob, self.erasing = mixup, cutmix, mix_prob, erasing

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Preprocess a batch.

        Args:
            data: ``inputs`` of ``(C, H, W)`` each, and data samples.
            training: Whether to mix and erase.

        Raises:
            ConfigError: The images have another number of bands than ``mean``.
        """
        data = super().forward(data, training)
        if training and self.erasing:
            erase_rectangles(data["inputs"], self.erasing)
        if training and (self.mixup or self.cutmix) and torch.rand(()) < self.mix_prob:
            self._mix(data)
        return data

    def _mix(self, data: dict[str, Any]) -> None:
        samples, images = data["data_samples"], data["inputs"]
        assert self.classes is not None
        scores = torch.stack([label_scores(sample, self.classes) for sample in samples])
        cuts = bool(self.cutmix) and (not self.mixup or bool(torch.rand(()) < 0.5))
        alpha = self.cutmix if cuts else self.mixup
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        partner = images.flip(0)
        if cuts:
            height, width = images.shape[2:]
            rows, columns = (_span(side, (1 - share) ** 0.5) for side in (height, width))
            images[:, :, rows, columns] = partner[:, :, rows, columns]
            share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        else:
            data["inputs"] = images * share + partner * (1 - share)
        for sample, score in zip(samples, scores * share + scores.flip(0) * (1 - share), strict=True):
            sample.gt_score = score


def _span(side: int, share: float) -> slice:
    """Return a part of a side around a random place, cut off at the border."""
    centre, half = int(torch.randint(side, ())), int(side * share) // 2
    return slice(max(0, centre - half), min(side, centre + half))


def erase_rectangles(images: torch.Tensor, probability: float) -> None:
    """Put noise into a rectangle of some normalised images, in place.

    Args:
        images: ``(N, C, H, W)``.
        probability: For each image.
    """
    height, width = images.shape[2:]
    low, high = (torch.tensor(value).log().item() for value in _ERASED_RATIO)
    for image in images:
        if torch.rand(()) >= probability:
            continue
        for _ in range(_ERASING_TRIES):
            area = height * width * float(torch.empty(()).uniform_(*_ERASED_AREA))
            ratio = float(torch.empty(()).uniform_(low, high).exp())
            tall, wide = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < tall < height and 0 < wide < width:
                top = int(torch.randint(height - tall + 1, ()))
                left = int(torch.randint(width - wide + 1, ()))
                noise = torch.randn(len(image), tall, wide).to(image)
                image[:, top : top + tall, left : left + wide] = noise
                break


def label_scores(sample: BaseDataElement, classes: int) -> torch.Tensor:
    """Return the target ``(classes,)`` of a sample: ones at its labels, or its shares after mixing.

    Args:
        sample: With ``gt_label``, and ``gt_score`` where it was mixed.
        classes: Number of classes.
    """
    if "gt_score" in sample:
        return sample.gt_score
    labels = sample.gt_label
    return torch.zeros(classes, device=labels.device).index_fill_(0, labels.long(), 1.0)


@MODELS.register_module()
class SceneHead(BaseModule):
    """Mean over the map, one linear layer, cross-entropy; for several labels binary cross-entropy.

    Args:
        in_channels: Channels of the map.
        num_classes: Number of classes.
        multi_label: An image may have any number of classes.
        label_smoothing: Share of a label that goes to all classes evenly.
        hidden_channels: Channels of a layer without bias before the classifier, which LWGANet has.
        act_cfg: Its activation, as MMCV reads it.
        drop_rate: Dropout before the classifier.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        hidden_channels: int | None = None,
        act_cfg: Mapping[str, Any] = dict(type="GELU"),
        drop_rate: float = 0.0,
        init_cfg: Any = dict(type="TruncNormal", layer=["Linear", "Conv2d"], std=0.02),  # noqa: B006
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes, self.multi_label, self.label_smoothing = num_classes, multi_label, label_smoothing
        self.pre, self.act = None, None
        if hidden_channels:
            self.pre = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
            self.act = build_activation_layer(dict(act_cfg))
        self.dropout = nn.Dropout(drop_rate)
        self.fc = nn.Linear(hidden_channels or in_channels, num_classes)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return logits ``(N, num_classes)`` of the last of the maps ``(N, C, h, w)``."""
        pooled = pool(maps)
        if self.pre is not None and self.act is not None:
            pooled = self.act(self.pre(pooled[..., None, None])).flatten(1)
        return self.fc(self.dropout(pooled))

    def loss(self, logits: torch.Tensor, samples: Sequence[BaseDataElement]) -> torch.Tensor:
        """Return the mean loss.

        Args:
            logits: ``(N, num_classes)``.
            samples: With ``gt_label``, and ``gt_score`` where they were mixed.
        """
        targets = torch.stack([label_scores(sample, self.num_classes) for sample in samples]).to(logits)
        if self.multi_label:
            smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, smoothed)
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def predict(self, logits: torch.Tensor, samples: Sequence[BaseDataElement]) -> list[BaseDataElement]:
        """Give every sample ``pred_score`` ``(num_classes,)`` and ``pred_label``, the best class.

        Args:
            logits: ``(N, num_classes)``.
            samples: Changed in place.
        """
        scores = logits.float().sigmoid() if self.multi_label else logits.float().softmax(1)
        for sample, score in zip(samples, scores, strict=True):
            sample.pred_score, sample.pred_label = score, score.argmax()
        return list(samples)


def pool(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean ``(N, C)`` over the last of the maps of a backbone."""
    last = maps[-1]
    return last.mean(dim=(2, 3)) if last.ndim == 4 else last


@MODELS.register_module()
class SceneClassifier(BaseModel):
    """A backbone and a head that names the class of the image.

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` loads a published classifier: backbone, head and the
    norm between them, under the names of any of the published formats or of this class.

    Args:
        backbone: Config of any backbone; see :func:`recognition_backbone` for what is taken of it.
        head: Config of the head; its ``in_channels`` follow from the backbone.
        data_preprocessor: Config of the preprocessor.
        init_cfg: MMEngine's.

    Attributes:
        load_report: Report of the checkpoint that ``init_cfg`` names, once it is loaded.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        head: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(MODELS.build(dict(data_preprocessor)) if data_preprocessor else None, init_cfg)
        self.backbone = MODELS.build(recognition_backbone(backbone))
        self.head = MODELS.build({"in_channels": self.backbone.out_channels[-1], **head})
        self.init_cfg: Any
        self.load_report: LoadReport | None = None

    def init_weights(self) -> None:
        """Initialise the parts, then load the classifier that ``init_cfg`` names."""
        given = self.init_cfg
        self.init_cfg, pretrained = split_init_cfg(given)
        super().init_weights()
        self.init_cfg = given
        for step in pretrained:
            self.load_report = load_classifier(self, step["checkpoint"])

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the maps of the backbone for ``inputs (N, bands, H, W)``."""
        return self.backbone(inputs)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Return logits, the loss, or the samples with their predictions.

        Args:
            inputs: ``(N, bands, H, W)``.
            data_samples: One per image.
            mode: ``tensor``, ``loss`` or ``predict``.
        """
        logits = self.head(self.extract_feat(inputs))
        if mode == "loss":
            return dict(loss=self.head.loss(logits, data_samples or ()))
        if mode == "predict":
            return self.head.predict(logits, data_samples or [BaseDataElement() for _ in logits])
        return logits


def load_classifier(model: SceneClassifier, checkpoint: str) -> LoadReport:
    """Load a published classifier, head included.

    A head of another number of classes keeps its initial values, and is reported as skipped.

    Args:
        model: The classifier.
        checkpoint: File, link or name, as :func:`rsfoundation.models.pretrained.download.resolve` takes it.

    Raises:
        CheckpointError: It cannot be found or read, or nothing of it fits the backbone.
    """
    path = resolve(checkpoint)
    body, head = _split_classifier(read_state(path, ("module.",)))
    body = _with_final_norm(type(model.backbone).__name__, to_own_names(model.backbone, body, path))
    reports = (load_state(model.backbone, body), load_state(model.head, head))
    check_anything_fits(model.backbone, reports[0], path)
    report = LoadReport(
        *(
            tuple(f"{part}.{name}" for part, one in zip(("backbone", "head"), reports, strict=True)
                  for name in getattr(one, field))
            for field in ("loaded", "resized", "skipped", "missing")
        )
    )  # fmt: skip
    print_log(f"{type(model).__name__} from {path.name}: {report.summary()}", logger="current")
    return report


def _split_classifier(state: State) -> tuple[State, State]:
    """Split a classifier's checkpoint, under published names or ours, into backbone and head."""
    head: State = {}
    body: State = {}
    own = any(key.startswith("backbone.") for key in state)
    for key, value in state.items():
        place = next((names for names in _HEAD_NAMES if key.startswith(names[0])), None)
        if own and key.startswith("head."):
            head[key.removeprefix("head.")] = value
        elif not own and place is not None:
            head[place[1] + key[len(place[0]) :]] = value
        else:
            body[key.removeprefix("backbone.")] = value
    return body, head


def _with_final_norm(kind: str, state: State) -> State:
    """Rename the norm that a published classifier has after its last map to the norm of that map."""
    if kind not in _FINAL_NORM:
        return state
    published, ours = _FINAL_NORM[kind]
    return {
        (ours + key[len(published) :] if key.startswith(published) else key): value
        for key, value in state.items()
    }
