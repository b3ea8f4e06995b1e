"""Losses between a trained model and a smaller one: formulas, what does not count, what is refused."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement, PixelData
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import config_root
from rsfoundation.models.distill.detector_imitation import BoxImitation, ClassImitation
from rsfoundation.models.distill.imitation import Call, FeatureImitation, ImitationBatch, PixelImitation
from rsfoundation.registry import MODELS

HEADS = config_root() / "_base_" / "heads"
SIZES = ((8, 8), (4, 4), (2, 2), (1, 1))  # of the levels of an image of 32 px


class Whole(nn.Module):
    """A model that is a dense head alone."""

    def __init__(self, name="rotated_retinanet_small", key="bbox_head", **changes):
        super().__init__()
        init_default_scope("mmrotate")
        model = Config.fromfile(HEADS / f"{name}.py").model
        config = model[key][0] if isinstance(model[key], list) else model[key]
        config = {**config, "num_classes": 3, "train_cfg": None, "test_cfg": None}
        for option, value in changes.items():
            config[option] = {**config[option], **value} if isinstance(value, dict) else value
        self.bbox_head = MODELS.build(config)


def compared(own, other, network=None, samples=None, module="bbox_head"):
    images = torch.zeros(2, 3, 32, 32)
    calls = (Call((own,), own), Call((other,), other))
    return ImitationBatch({module: calls[0]}, {module: calls[1]}, network or nn.Module(), images, samples)


def maps(channels, size=(8, 8), seed=0):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(seed))


def padded(height, width):
    return [BaseDataElement(metainfo=dict(img_shape=(height, width))) for _ in range(2)]


@pytest.mark.parametrize("kind", ["correlation", "channel"])
def test_equal_maps_have_no_distance_and_their_offset_is_free(kind):
    loss = FeatureImitation(loss=kind)
    first, second = maps(4), maps(4, seed=1)
    assert float(loss(compared(first, first, module="neck"))) < 1e-5
    assert float(loss(compared(first + 3, first, module="neck"))) < 1e-4
    assert float(loss(compared(first, second, module="neck"))) > 0.1


def test_correlation_is_that_of_numpy_and_leaves_the_scale_free():
    own, other = maps(1), maps(1, seed=1)
    wanted = 1 - float(torch.corrcoef(torch.stack([own.flatten(), other.flatten()]))[0, 1])
    for factor in (1, 10):
        found = FeatureImitation()(compared([own * factor], [other], module="neck"))
        assert float(found) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kind", ["correlation", "channel"])
def test_padding_does_not_count(kind):
    own, other = maps(4), maps(4, seed=1)
    samples = padded(16, 32)
    found = [float(FeatureImitation(loss=kind)(compared(own, other, samples=samples, module="neck")))]
    own[:, :, 4:] = 100
    found.append(float(FeatureImitation(loss=kind)(compared(own, other, samples=samples, module="neck"))))
    assert found[0] == pytest.approx(found[1], rel=1e-2)


@pytest.mark.parametrize(
    ("own", "other", "text"),
    [
        ([maps(4)], [maps(4), maps(4)], "has 1 levels, neck of the teacher 2"),
        ([maps(4)], [maps(8)], "has 4 channels, neck of the teacher 8"),
        ([maps(4)], [maps(4, (4, 4))], "maps of 8 x 8 cells, neck of the teacher 4 x 4"),
    ],
)
def test_maps_that_are_not_comparable_are_refused(own, other, text):
    with pytest.raises(ConfigError, match=text):
        FeatureImitation()(compared(own, other, module="neck"))


@pytest.mark.parametrize("channels", [8, (4,), (4, 8, 8), "48", (4, 0), (4.0, 8)])
def test_channels_that_are_no_pair_are_refused(channels):
    with pytest.raises(ConfigError, match=r"channels=.* is not a pair of numbers") as caught:
        FeatureImitation(channels=channels)
    assert caught.value.where == "distill.losses: FeatureImitation.channels"
    assert "(student, teacher)" in caught.value.fix


def test_channels_of_another_student_are_refused():
    with pytest.raises(ConfigError, match="neck of the student has 4 channels, not 6") as caught:
        FeatureImitation(channels=(6, 8))(compared([maps(4)], [maps(8)], module="neck"))
    assert caught.value.fix == "channels=(4, 8)"


def test_convolutions_join_maps_of_other_widths_level_by_level():
    loss = FeatureImitation(channels=(4, 8), levels=2)
    found = loss(compared([maps(4)] * 2, [maps(8)] * 2, module="neck"))
    found.backward()
    assert all(adapter.weight.grad.abs().sum() > 0 for adapter in loss.adapters)


def outputs(seed=0, scale=1.0):
    """Scores and boxes of all levels, one anchor per cell, three classes."""
    scores = [scale * maps(3, size, seed) - 3 for size in SIZES]
    return scores, [0.1 * maps(5, size, seed + 10) for size in SIZES]


def test_class_scores_by_the_formula_of_the_quality_focal_loss():
    own, other = outputs(0), outputs(1)
    own, other = ([level.requires_grad_() for level in own[0]], own[1]), other
    found = ClassImitation(power=2.0)(compared(own, other, Whole()))
    total, objects = 0.0, 0.0
    for mine, theirs in zip(own[0], other[0], strict=True):
        wanted = theirs.sigmoid()
        entropy = -(wanted * mine.sigmoid().log() + (1 - wanted) * (1 - mine.sigmoid()).log())
        total += float((entropy * (mine.sigmoid() - wanted) ** 2).sum())
        best = wanted.amax(1)
        objects += float(best[best > 0.1].sum())
    assert float(found) == pytest.approx(total / objects, rel=1e-4)
    found.backward()
    assert float(ClassImitation()(compared(other, other, Whole()))) == pytest.approx(0, abs=1e-9)


def test_boxes_count_where_the_teacher_is_sure():
    network, loss = Whole(), BoxImitation(min_score=0.5)
    own, other = outputs(0), outputs(1)
    for level in other[0]:
        level.fill_(-9.0)
    empty = loss(compared(own, other, network))
    assert float(empty) == 0
    other[0][1][0, 2, 1, 3] = 4.0
    found = float(loss(compared(own, other, network)))
    assert found > 0.01
    own[1][0] += 5  # another level: no box of the teacher there
    assert float(loss(compared(own, other, network))) == pytest.approx(found)
    own[1][1][0, :, 1, 3] = other[1][1][0, :, 1, 3]
    assert float(loss(compared(own, other, network))) == pytest.approx(0, abs=1e-6)


def test_a_box_named_by_its_other_side_is_the_same_box():
    network, loss = Whole(), BoxImitation(min_score=0.5)
    other = outputs(1)
    other[1][1][0, :, 1, 3] = torch.tensor([0.0, 0, 0.7, 0, 0.1])
    for level in other[0]:
        level.fill_(-9.0)
    other[0][1][0, 0, 1, 3] = 4.0
    own = other[0], [level.clone() for level in other[1]]
    own[1][1][0, :, 1, 3] = torch.tensor([0.0, 0, 0, 0.7, 0.1 - torch.pi / 2])
    assert float(loss(compared(own, other, network))) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher", "text"),
    [
        (dict(num_classes=4), {}, "classes of bbox_head differ: the student has 4, the teacher 3"),
        (dict(anchor_generator=dict(strides=[8, 16, 32, 64])), {}, "strides of bbox_head differ"),
        (dict(anchor_generator=dict(ratios=[1.0, 2.0])), {}, "anchors per cell of bbox_head differ"),
        (dict(anchor_generator=dict(octave_base_scale=8)), {}, "anchors of bbox_head differ"),
        (dict(bbox_coder=dict(angle_version="le135")), {}, "box coder of bbox_head differ"),
        (
            dict(name="s2anet_small", key="bbox_head_refine"),
            dict(name="s2anet_small", key="bbox_head_refine"),
            "no fixed anchors",
        ),
    ],
)
def test_heads_that_are_not_comparable_are_refused(student, teacher, text):
    with pytest.raises(ConfigError, match=text):
        BoxImitation().check(Whole(**student), Whole(**teacher))


def test_scores_of_refined_boxes_are_comparable():
    heads = [Whole(name="s2anet_small", key="bbox_head_refine") for _ in range(2)]
    ClassImitation().check(*heads)


def labelled(labels):
    samples = [BaseDataElement() for _ in range(2)]
    for sample, label in zip(samples, labels, strict=True):
        sample.gt_sem_seg = PixelData(data=label)
    return samples


def test_pixels_by_the_divergence_of_softened_distributions():
    own, other = maps(3), maps(3, seed=1)
    labels = torch.zeros(2, 1, 32, 32, dtype=torch.long)
    samples = labelled(labels)
    loss = PixelImitation("c", temperature=2.0)
    found = float(loss(compared(own, other, samples=samples, module="c")))
    logs = [(one / 2).log_softmax(1) for one in (own, other)]
    wanted = 4 * float((logs[1].exp() * (logs[1] - logs[0])).sum(1).mean())
    assert found == pytest.approx(wanted, rel=1e-5)
    labels[:, :, 16:] = 255
    half = float(loss(compared(own, other, samples=samples, module="c")))
    own[:, :, 4:] = 50 * maps(3, (4, 8), 5)
    assert half != pytest.approx(found) and half == pytest.approx(
        float(loss(compared(own, other, samples=samples, module="c")))
    )


def test_everything_ignored_is_no_loss():
    samples = labelled(torch.full((2, 1, 32, 32), 255))
    assert float(PixelImitation("c")(compared(maps(3), maps(3, seed=1), samples=samples, module="c"))) == 0


def test_one_logit_is_the_second_of_two_classes():
    one, two = maps(1), maps(2, seed=1)
    both = torch.cat([torch.zeros_like(one), one], 1)
    found = [float(PixelImitation("c")(compared(own, two, module="c"))) for own in (one, both)]
    assert found[0] == found[1] > 0


def test_logits_of_another_stride_are_compared_on_the_grid_of_the_student():
    other = maps(3, (4, 4))
    own = F.interpolate(other, size=(8, 8), mode="bilinear", align_corners=False)
    assert float(PixelImitation("c")(compared(own, other, module="c"))) == pytest.approx(0, abs=1e-6)


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ConfigError, match="the student predicts 3 classes, the teacher 5"):
        PixelImitation("c")(compared(maps(3), maps(5), module="c"))
