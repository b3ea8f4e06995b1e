import pytest
import torch
from cd_golden import Golden, metas, recipe
from cd_samples import change_samples
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.segmentors.siamese import SiamEncoderDecoder
from rsfoundation.registry import MODELS


@pytest.fixture
def scope():
    """Unprefixed names are ours, as an Open-CD config spells them."""
    with DefaultScope.overwrite_default_scope("rsfoundation"):
        yield


def check_model(name):
    golden = Golden(name)
    model = golden.load(MODELS.build(ConfigDict(golden.meta["model"])))
    pair = golden.inputs()["pair"]
    with torch.no_grad():
        golden.check("seg_logits", model.inference(pair, metas(pair)))
        golden.check("raw_seg_logits", model(pair, mode="tensor"))


@pytest.mark.parametrize(
    "name", ["cd_siam_upernet_r18", "cd_changer_r18", "cd_bit_r18", "cd_slide", "cd_tinycd_full"]
)
def test_whole_model_equals_official_outputs(name, scope):
    check_model(name)


def test_siamese_model_needs_a_neck():
    with pytest.raises(ConfigError, match="needs a neck"):
        SiamEncoderDecoder(backbone=dict(), decode_head=dict())


def test_other_channel_counts_are_refused(scope):
    model = MODELS.build(ConfigDict(Golden("cd_siam_upernet_r18").meta["model"]))
    with pytest.raises(ConfigError, match="pairs of 6 channels, got 3"):
        model.extract_feat(torch.zeros(1, 3, 32, 32))


def scd_model(**options):
    return MODELS.build(ConfigDict({**Golden("cd_scd_upernet_r18").meta["model"], **options}))


def test_semantic_model_equals_official_outputs():
    golden = Golden("cd_scd_upernet_r18")
    model = golden.load(scd_model())
    pair = golden.inputs()["pair"]
    with torch.no_grad():
        found, raw = model.inference(pair, metas(pair)), model(pair, mode="tensor")
    assert list(found) == list(raw) == ["seg_logits", "seg_logits_from", "seg_logits_to"]
    for name, logits in found.items():
        golden.check(name, logits)
        golden.check(f"raw_{name}", raw[name])


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_semantic_change_is_predicted_without_labels(mode):
    """Without labels there is nothing to cover, and nothing to fail on."""
    test_cfg = dict(mode=mode, crop_size=(64, 64), stride=(32, 32))
    model = scd_model(postprocess_pred_and_label="cover_semantic", test_cfg=test_cfg)
    model.eval()
    with torch.no_grad():
        (sample,) = model(torch.rand(1, 6, 64, 96), mode="predict")
        (named,) = model(torch.rand(1, 6, 64, 96), change_samples(torch.zeros(64, 96)), mode="predict")
    for found in (sample, named):
        assert found.seg_logits_from.data.shape == (6, 64, 96)
        unchanged = found.pred_sem_seg.data == 0
        for field in ("pred_sem_seg_from", "pred_sem_seg_to"):
            assert not found.get(field).data[unchanged].any()
            assert (found.get(field).data[~unchanged] >= 1).all()


def test_semantic_labels_count_from_one_where_they_are_known():
    model = scd_model(postprocess_pred_and_label="cover_semantic")
    model.eval()
    label = torch.randint(6, (1, 64, 64))
    label[:, :9] = 255
    samples = change_samples(torch.zeros(64, 64), gt_sem_seg_from=label, gt_sem_seg_to=label)
    with torch.no_grad():
        (sample,) = model(torch.rand(1, 6, 64, 64), samples, mode="predict")
    covered = sample.gt_sem_seg_from.data[0]
    assert not covered[:9].any() and torch.equal(covered[9:], label[0, 9:] + 1)


def test_semantic_losses_are_those_of_three_heads():
    model = scd_model()
    label = torch.zeros(64, 64)
    samples = change_samples(label, gt_sem_seg_from=[label + 1], gt_sem_seg_to=[label + 255])
    losses = model(torch.rand(1, 6, 64, 64).repeat(2, 1, 1, 1), [*samples, *samples], mode="loss")
    names = ("binary_cd", "semantic_cd_from", "semantic_cd_to")
    assert {f"decode.{name}.loss_ce" for name in names} <= losses.keys()
    assert float(losses["decode.semantic_cd_to.loss_ce"]) == 0  # every pixel of the second date is ignored
    assert float(losses["decode.semantic_cd_from.loss_ce"]) > 0


def test_unknown_postprocessing_is_refused():
    with pytest.raises(ConfigError, match="cover_semantics"):
        scd_model(postprocess_pred_and_label="cover_semantics")


def a2net(**options):
    return MODELS.build(dict(type="A2Net", backbone=dict(type="LWGANet", arch="l0"), **options))


def test_a2net_equals_official_outputs():
    golden = Golden("cd_a2net_lwganet_l0")
    model = golden.load(a2net())
    with torch.no_grad():
        masks = model.forward_masks(*golden.inputs().values())
    for level, mask in zip((2, 3, 4, 5), masks, strict=True):
        golden.check(f"prob{level}", mask)


def test_a2net_is_its_head_behind_a_siamese_backbone():
    whole = a2net(mid=16)
    head = dict(type="A2NetHead", stage_channels=whole.backbone.out_channels, mid=16)
    parts = MODELS.build(
        dict(type="SiamEncoderPairDecoder", backbone=dict(type="LWGANet", arch="l0"), decode_head=head)
    )
    state = {
        key if key.startswith("backbone") else f"decode_head.{key}": value
        for key, value in whole.state_dict().items()
    }
    parts.load_state_dict(state)
    pair = torch.rand(1, 6, 64, 96)
    whole.eval(), parts.eval()
    with torch.no_grad():
        (one,), (other,) = whole(pair, mode="predict"), parts(pair, mode="predict")
    assert torch.equal(one.seg_logits.data, other.seg_logits.data)
    assert one.seg_logits.data.max() <= 1  # probabilities: one channel


def test_a2net_trains_all_of_its_weights():
    model = a2net(mid=8)
    label = torch.randint(2, (2, 64, 64))
    losses = model(torch.rand(2, 6, 64, 64), change_samples(*label), mode="loss")
    assert len(losses) == 8
    sum(losses.values()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_a2net_asks_for_the_channels_of_a_foreign_backbone():
    with pytest.raises(ConfigError, match="ResNetV1c does not say"):
        MODELS.build(dict(type="A2Net", backbone=dict(type="mmseg.ResNetV1c", depth=18)))


def full_resolution(**head):
    return MODELS.build(
        dict(
            type="DIEncoderDecoder",
            backbone=dict(type="FC_EF", in_channels=6, base_channel=2),
            decode_head=dict(
                type="mmseg.FCNHead",
                in_channels=2,
                channels=2,
                num_convs=0,
                concat_input=False,
                num_classes=2,
                loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True),
                **head,
            ),
        )
    )


def test_one_channel_has_a_threshold_of_a_half_unless_the_config_says_otherwise():
    assert full_resolution(out_channels=1).decode_head.threshold == 0.5
    assert full_resolution(out_channels=1, threshold=0.3).decode_head.threshold == 0.3
    assert full_resolution(out_channels=2).decode_head.threshold is None


@pytest.mark.parametrize(("asked", "found"), [({}, 0.5), ({"threshold": 0.3}, 0.3)])
def test_so_does_the_change_head_of_semantic_change(asked, found):
    head = dict(type="mmseg.FCNHead", in_channels=4, channels=4, num_classes=2, num_convs=1)
    whole = MODELS.build(
        dict(
            type="GeneralSCDHead",
            binary_cd_head=dict(head, out_channels=1, **asked),
            semantic_cd_head=head,
        )
    )
    assert whole.threshold == whole.binary_cd_head.threshold == found


@pytest.mark.parametrize("channels", [1, 2])
def test_views_of_a_pair_are_averaged(channels):
    model = full_resolution(out_channels=channels)
    model.eval()
    views = list(torch.randn(2, 3, 6, 32, 32))
    with torch.no_grad():
        labels = model.aug_test(views, [metas(view) for view in views])
        mean = sum(model.inference(view, metas(view)) for view in views) / 2
    expected = mean.argmax(1) if channels == 2 else (mean[:, 0].sigmoid() > 0.5).long()
    assert len(labels) == 3 and torch.equal(torch.stack(labels), expected)


def test_both_dates_are_one_batch_at_inference_and_two_in_training():
    model = MODELS.build(ConfigDict(Golden("cd_siam_upernet_r18").meta["model"]))
    sizes = []
    model.backbone.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    pair = torch.from_numpy(recipe.image("pair", (2, 6, 64, 64)))
    model.eval()
    with torch.no_grad():
        together = model.extract_feat(pair)
    assert sizes == [4]
    statistics = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.train()
    model.extract_feat(pair)
    assert sizes == [4, 2, 2]
    assert int(model.backbone.layer1[0].bn1.num_batches_tracked) == 2
    model.backbone.load_state_dict(statistics)
    model.eval()
    with torch.no_grad():
        apart = model.neck(model.backbone(pair[:, :3]), model.backbone(pair[:, 3:]))
    for mine, other in zip(together, apart, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
