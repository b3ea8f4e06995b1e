"""Scene classifiers: every backbone, published classifiers, mixing and losses."""

import math

import pytest
import torch
from backbone_golden import image
from mmengine.structures import BaseDataElement
from small_backbones import SMALL

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.networks import list_backbones
from rsfoundation.models.classifiers import (
    SceneClassifier,
    SceneDataPreprocessor,
    SceneHead,
    erase_rectangles,
    recognition_backbone,
)
from rsfoundation.registry import MODELS

# Published names of head and final norm, with shapes for so many classes.
PUBLISHED = {
    "lsknet_t": {"head.weight": (5, 256), "head.bias": (5,)},
    "stripnet_t": {"head.weight": (5, 256), "head.bias": (5,)},
    "lwganet_l0": {
        "avgpool_pre_head.1.weight": (1280, 256, 1, 1),
        "head.weight": (5, 1280),
        "head.bias": (5,),
    },
    "rsp_resnet50": {"fc.weight": (5, 2048), "fc.bias": (5,)},
    "rsp_swin_t": {
        "norm.weight": (768,),
        "norm.bias": (768,),
        "head.weight": (5, 768),
        "head.bias": (5,),
    },
    "vitaev2_s": {"head.weight": (5, 512), "head.bias": (5,)},
}


def samples(labels):
    found = []
    for label in labels:
        sample = BaseDataElement()
        sample.gt_label = torch.tensor([label] if isinstance(label, int) else list(label))
        found.append(sample)
    return found


def classifier(name, classes=5, bands=3, **head):
    backbone = {**SMALL[name]}
    holder = backbone.setdefault("encoder", backbone) if backbone["type"] == "PlainPyramid" else backbone
    if bands != 3:
        holder = {**holder, "in_channels": bands}
        backbone = holder if backbone["type"] != "PlainPyramid" else {**backbone, "encoder": holder}
    preprocessor = dict(type="SceneDataPreprocessor", mean=[120.0] * bands, std=[60.0] * bands)
    return MODELS.build(
        dict(
            type="SceneClassifier",
            backbone=backbone,
            head=dict(type="SceneHead", num_classes=classes, **head),
            data_preprocessor=preprocessor,
        )
    )


@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("name", SMALL)
def test_every_backbone_trains_a_step_and_predicts(name, bands):
    torch.manual_seed(0)
    model = classifier(name, bands=bands).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = [torch.randint(0, 255, (bands, 64, 64), dtype=torch.uint8) for _ in range(2)]
    batch = model.data_preprocessor(dict(inputs=inputs, data_samples=samples([1, 3])), True)
    loss = model(**batch, mode="loss")["loss"]
    assert 0.1 * math.log(5) < loss.item() < 5 * math.log(5)
    loss.backward()
    idle = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not idle
    optimizer.step()
    (first, second) = model.eval().test_step(dict(inputs=inputs, data_samples=samples([1, 3])))
    assert first.pred_score.shape == (5,) and first.pred_score.sum().item() == pytest.approx(1, rel=1e-5)
    assert second.pred_label == second.pred_score.argmax()


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_published_classifiers_load_key_for_key(name, wrapper, tmp_path):
    """The state of the published form: the backbone less its output norms, and the classifier."""
    torch.manual_seed(1)
    source = MODELS.build({**SMALL[name], **({"output_norm": False} if "lwganet" in name else {})})
    state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    if name == "rsp_swin_t":
        state = {key: value for key, value in state.items() if not key.startswith("norm")}
    state.update({key: torch.randn(shape) for key, shape in PUBLISHED[name].items()})
    path = tmp_path / "published.pth"
    torch.save({wrapper: state} if wrapper else state, path)
    head = dict(hidden_channels=1280) if "lwganet" in name else {}
    model = classifier(name, **head)
    model.init_cfg = dict(type="Pretrained", checkpoint=str(path))
    model.init_weights()
    report = model.load_report
    unused = {f"backbone.norm{stage}" for stage in range(3)} if name == "rsp_swin_t" else set()
    assert {key.rpartition(".")[0] for key in report.missing} == unused and not report.resized
    assert all(key.endswith("relative_position_index") for key in report.skipped)
    weight = state.get("head.weight", state.get("fc.weight"))
    assert torch.equal(model.head.fc.weight, weight)
    if name == "rsp_swin_t":
        assert torch.equal(model.backbone.norm3.weight, state["norm.weight"])
    if name == "lwganet_l0":
        assert torch.equal(model.head.pre.weight, state["avgpool_pre_head.1.weight"])


def test_the_published_lwganet_classifier_is_computed(tmp_path):
    """The last map without a norm, mean, 1x1 without bias, activation, linear: 1.72 M with 45 classes."""
    model = classifier("lwganet_l0", classes=45, hidden_channels=1280).eval()
    assert sum(value.numel() for value in model.parameters()) == pytest.approx(1.72e6, rel=5e-3)
    x = image("lwganet_l0", (2, 3, 96, 96))
    with torch.no_grad():
        found = model(x)
        features = model.backbone.run_stem(x)
        for stage in range(4):
            features = model.backbone.run_stage(stage, features)
        pooled = torch.nn.functional.gelu(model.head.pre(features.mean((2, 3), keepdim=True))).flatten(1)
        torch.testing.assert_close(found, model.head.fc(pooled))


def test_the_layers_of_a_head_start_as_published():
    model = classifier("lwganet_l0", classes=45, hidden_channels=1280)
    model.init_weights()
    for layer in (model.head.pre, model.head.fc):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert not model.head.fc.bias.any()


def test_a_classifier_of_other_classes_loads_all_but_its_last_layer(tmp_path):
    path = tmp_path / "own.pth"
    torch.save({"state_dict": classifier("lsknet_t", classes=7).state_dict()}, path)
    model = classifier("lsknet_t")
    model.init_cfg = dict(type="Pretrained", checkpoint=str(path))
    before = model.head.fc.weight.clone()
    model.init_weights()
    assert set(model.load_report.skipped) == {"head.fc.weight", "head.fc.bias"}
    assert model.head.fc.weight.shape == before.shape
    torch.save({"conv9.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="nothing in the checkpoint fits LSKNet"):
        model.init_weights()


@pytest.mark.parametrize("name", sorted(list_backbones()))
def test_shipped_backbones_give_their_last_map_alone(name):
    from mmengine.config import Config

    config = Config.fromfile(list_backbones()[name]).backbone
    made = recognition_backbone(config)
    assert isinstance(made["out_indices"], int) or tuple(made["out_indices"]) == (3,)
    assert not made["type"].endswith("PlainPyramid")


def test_several_labels_train_by_binary_cross_entropy():
    head = SceneHead(4, 3, multi_label=True)
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    truth = torch.tensor([[1.0, 0.0, 1.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    assert torch.equal(head.loss(logits, samples([(0, 2)])), expected)
    (sample,) = head.predict(logits, samples([(0, 2)]))
    torch.testing.assert_close(sample.pred_score, logits[0].sigmoid())
    assert head.loss(logits, samples([()])) > 0


def test_label_smoothing_is_shared_by_all_classes():
    logits = torch.randn(2, 4)
    found = SceneHead(4, 4, label_smoothing=0.1).loss(logits, samples([0, 3]))
    target = torch.full((2, 4), 0.025)
    target[0, 0] += 0.9
    target[1, 3] += 0.9
    torch.testing.assert_close(found, -(target * logits.log_softmax(1)).sum(1).mean())


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_gives_each_image_the_share_of_its_pixels(kind):
    torch.manual_seed(3)
    model = SceneDataPreprocessor(num_classes=2, **{kind: 1.0})
    inputs = [torch.full((3, 32, 32), 0.0), torch.full((3, 32, 32), 100.0)]
    for _ in range(5):
        batch = model(dict(inputs=[x.clone() for x in inputs], data_samples=samples([0, 1])), True)
        for picture, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            assert sample.gt_score.sum().item() == pytest.approx(1)
            assert picture.mean().item() / 100 == pytest.approx(sample.gt_score[1].item(), abs=1e-4)
            blended = bool(((picture > 0) & (picture < 100)).any())
            assert blended == (kind == "mixup")
    plain = model(dict(inputs=inputs, data_samples=samples([0, 1])), False)
    assert "gt_score" not in plain["data_samples"][0]


def test_mixing_needs_the_number_of_classes():
    with pytest.raises(ConfigError, match="number is not given"):
        SceneDataPreprocessor(mixup=0.8)


def test_erasing_puts_noise_into_one_rectangle():
    torch.manual_seed(0)
    images = torch.full((40, 3, 32, 32), 9.0)
    erase_rectangles(images, 0.5)
    changed = (images != 9).any(1)
    hit = changed.flatten(1).any(1)
    assert 10 <= hit.sum() <= 30
    for mask in changed[hit]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.float().mean() <= 0.4


def test_colours_are_turned_only_where_there_are_three_bands():
    three, five = (SceneDataPreprocessor(mean=[0.0] * n, std=[1.0] * n) for n in (3, 5))
    for model, expected in ((three, [2, 1, 0]), (five, [0, 1, 2, 3, 4])):
        bands = len(expected)
        inputs = [torch.arange(bands, dtype=torch.uint8)[:, None, None].expand(bands, 4, 4)]
        out = model(dict(inputs=inputs, data_samples=samples([0])), False)["inputs"]
        assert out[0, :, 0, 0].tolist() == expected
    with pytest.raises(ConfigError, match="3 bands"):
        five(dict(inputs=[torch.zeros(3, 4, 4)], data_samples=samples([0])), False)


def test_the_classifier_is_counted_with_its_head():
    from rsfoundation.engine.networks import measure_complexity, run_parts

    model = classifier("lsknet_t")
    assert isinstance(model, SceneClassifier)
    counted = measure_complexity(model, (1, 3, 64, 64), run_parts)
    assert next(part for part in counted.parts if part.name == "head").macs == 256 * 5
