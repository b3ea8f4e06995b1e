"""A student learns a teacher's map; statistics, corruption, export and errors."""

import pytest
import torch
from mmengine.structures import BaseDataElement

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.models.distill.alignment import LevelAlignment, MapAlignment, boundary_energy, same_grid
from rsfoundation.models.distill.feature_distiller import FeatureDistiller, relative_error
from rsfoundation.models.distill.teachers import encode, fold_targets

TEACHER = dict(
    type="SAMViT",
    hidden_size=32,
    output_channels=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    global_attn_indexes=(1,),
    mlp_dim=64,
    image_size=64,
    window_size=2,
)
RSMAMBA = dict(
    type="RSMamba",
    arch=dict(embed_dims=16, num_layers=2, feedforward_channels=32),
    img_size=64,
    out_type="featmap",
)
SAM = dict(
    vision_config={**{k: v for k, v in TEACHER.items() if k != "type"}, "num_pos_feats": 8},
    prompt_encoder_config=dict(hidden_size=16, image_size=64),
    mask_decoder_config=dict(
        hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16, num_hidden_layers=1
    ),
)


def images(count=4, side=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // 8, side // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")


def distiller(measured=True, **options):
    torch.manual_seed(0)
    model = FeatureDistiller(**{"backbone": RSMAMBA, "teacher": TEACHER, **options})
    if measured:
        model.measure_targets([(images(), None)], 4)
    return model


def test_targets_are_standardised_by_the_statistics_of_the_teacher():
    model = distiller()
    raw = model.teach(images(), None)[0]
    pair = model.pair_of(images(), None, (raw, {}))
    assert torch.allclose(pair.teacher.mean((0, 2, 3)), torch.zeros(16), atol=1e-4)
    assert torch.allclose(pair.teacher.var((0, 2, 3), unbiased=False), torch.ones(16), atol=1e-3)
    assert torch.allclose(model.predict(images())[0].teacher_map, raw[0], atol=1e-4)


def test_the_student_learns_and_the_teacher_is_neither_trained_nor_saved():
    model = distiller()
    assert not any(name.startswith("teacher.") for name in model.state_dict())
    assert len([*model.parameters()]) == len([*model.backbone.parameters()])
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    errors = []
    for _ in range(60):
        losses = model(images(), None, mode="loss")
        errors.append(float(losses["relative_error"]))
        optimizer.zero_grad()
        losses["loss_0_MapAlignment"].backward()
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]
    assert all(torch.equal(before[name], value) for name, value in model.teacher.state_dict().items())


@pytest.mark.parametrize("student", [RSMAMBA, TEACHER], ids=["rsmamba", "sam_vit"])
def test_folded_weights_return_the_map_in_the_units_of_the_teacher(student):
    model = distiller(backbone=student)
    wanted = torch.stack([sample.student_map for sample in model.eval().predict(images())])
    state = fold_targets(
        model.backbone, model.backbone.state_dict(), model.target_mean, model.target_deviation
    )
    model.backbone.load_state_dict(state)
    assert torch.allclose(encode(model.backbone, images())[0], wanted, atol=1e-4)


def test_no_statistics_is_an_error():
    with pytest.raises(ConfigError, match="no statistics"):
        distiller(measured=False)(images(), None, mode="loss")


def test_another_teacher_cannot_continue_a_run():
    state = distiller().state_dict()
    distiller(measured=False).load_state_dict(state)
    with pytest.raises(CheckpointError, match="another teacher"):
        distiller(measured=False, teacher_seed=1).load_state_dict(state)


def test_other_channels_need_an_adapter():
    wide = {**RSMAMBA, "arch": dict(embed_dims=24, num_layers=1, feedforward_channels=24)}
    with pytest.raises(ConfigError, match="adapter"):
        distiller(backbone=wide)
    model = distiller(backbone=wide, adapter="linear")
    assert model(images(), None, mode="loss")["loss_0_MapAlignment"].requires_grad
    assert model(images())[0].shape == (4, 24, 4, 4)  # the student's own map


def test_pyramids_with_another_stride_are_brought_to_the_grid():
    model = distiller(backbone=dict(type="LWGANet", arch="l0"), adapter="linear")
    assert model(images(), None, mode="loss")["loss_0_MapAlignment"].isfinite()


def test_all_stages_of_a_pyramid_learn():
    pyramid = dict(type="LWGANet", arch="l0", out_indices=(0, 1, 2, 3))
    model = distiller(backbone=pyramid, adapter="stages")
    assert model.adapter.layers[0].weight.shape == (16, 32, 1, 1)
    model(images(), None, mode="loss")["loss_0_MapAlignment"].backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in model.adapter.layers)
    maps = [
        torch.randn(2, width, 16 // 2**index, 16 // 2**index)
        for index, width in enumerate((32, 64, 128, 256))
    ]
    pooled = torch.nn.functional.avg_pool2d(maps[0], 4)
    rest = [torch.zeros_like(one) for one in maps[1:]]
    first = model.adapter([maps[0], *rest], (4, 4)) - model.adapter([0 * maps[0], *rest], (4, 4))
    weight = model.adapter.layers[0].weight
    assert torch.allclose(first, torch.nn.functional.conv2d(pooled, weight), atol=1e-5)
    for single in (RSMAMBA, dict(type="LWGANet", arch="l0")):
        with pytest.raises(ConfigError, match="returns one map"):
            distiller(backbone=single, adapter="stages")


def test_grids_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="do not divide: the student has 3 x 3"):
        same_grid(torch.zeros(1, 2, 3, 3), (4, 4), "test")
    assert same_grid(torch.zeros(1, 2, 8, 8), (4, 4), "test").shape == (1, 2, 4, 4)


def test_padding_has_no_weight():
    samples = [BaseDataElement(metainfo=dict(img_shape=(32, 64)))] * 2
    model = distiller()
    padded = images(2)
    pair = model.pair_of(padded, samples, model.teach(padded, samples))
    assert pair.weight[:, :, :2].eq(1).all() and pair.weight[:, :, 2:].eq(0).all()
    changed = pair._replace(student=pair.student.clone())
    changed.student[:, :, 2:] += 100
    loss = MapAlignment(relation=0.5)
    torch.manual_seed(0)
    first = loss(pair)
    torch.manual_seed(0)
    assert torch.allclose(first, loss(changed)) and relative_error(pair) == relative_error(changed)


def test_a_student_equal_to_its_teacher_has_no_loss():
    model = distiller()
    pair = model.pair_of(images(), None, model.teach(images(), None))
    same = pair._replace(student=pair.teacher)
    assert MapAlignment(relation=1.0, boundary=1.0)(same) < 1e-5
    assert MapAlignment(relation=1.0, boundary=1.0)(pair) > 0.1


def test_boundaries_weigh_more():
    maps = torch.zeros(1, 2, 4, 4)
    maps[..., 2:] = 1
    energy = boundary_energy(maps)
    assert energy[0, 0, :, 1:3].eq(1).all() and energy[0, 0, :, 0].eq(0).all()


def test_levels_are_aligned_and_fade_out():
    level = dict(
        type="LevelAlignment", pairs=[(0, 0)], student_channels=16, teacher_channels=32, decay_steps=2
    )
    model = distiller(losses=[dict(type="MapAlignment"), level])
    found = [model(images(), None, mode="loss")["loss_1_LevelAlignment"].item() for _ in range(3)]
    assert found[0] > found[1] > found[2] == 0
    with pytest.raises(ConfigError, match="empty"):
        LevelAlignment([], 1, 1)


def test_corruption_changes_the_students_view_alone_and_adapts():
    options = dict(noise=0.2, mask=0.25, block=16, patience=2, interval=1, ramp=0)
    model = distiller(corruption=options)
    torch.manual_seed(1)
    view, hidden = model.corruption(images(), 0)
    assert hidden.mean() == pytest.approx(0.25) and (view[hidden.expand_as(view) > 0] == 0).all()
    losses = model(images(), None, mode="loss")
    assert "clean_error" in losses and model.corruption.clean == losses["clean_error"]
    corruption = model.corruption
    corruption.level.fill_(1.0)
    one = torch.tensor(1.0)
    corruption.clean.fill_(1.0), corruption.corrupted.fill_(1.0), corruption.best.fill_(0.5)
    corruption.adapt(one, one, step=int(corruption.best_step) + 2)
    assert corruption.level == pytest.approx(1.1)  # no improvement for two steps
    corruption.corrupted.fill_(2.0)
    corruption.adapt(one, 2 * one, step=int(corruption.best_step) + 1)
    assert corruption.level == pytest.approx(0.99)  # the gap is too wide
    low, lower = torch.tensor(0.12), torch.tensor(0.1)
    for step in range(100, 200):  # a gap of 20 % of a small error is too wide as well
        corruption.adapt(lower, low, step)
    assert corruption.level < 0.1 and corruption.clean == pytest.approx(0.1, rel=0.1)


def test_errors_are_smoothed_over_steps_whatever_the_interval():
    errors = {}
    for interval in (1, 10):
        corruption = distiller(corruption=dict(interval=interval)).corruption
        for step in range(0, 101, interval):
            one = torch.tensor(1.0 if step == 0 else 0.5)
            corruption.adapt(one, one, step)
        errors[interval] = float(corruption.clean)
    assert errors[1] == pytest.approx(errors[10], rel=0.02) and errors[1] < 0.51


def test_corruption_ramps_up_and_fades_out():
    model = distiller(corruption=dict(noise=0.2, mask=0.2, ramp=4, fade=(10, 20)))
    found = [model.corruption.strength(step) for step in (0, 3, 10, 15, 20, 99)]
    assert found == pytest.approx([0.25, 1, 1, 0.5, 0, 0])
    view, hidden = model.corruption(images(), 20)
    assert torch.equal(view, images()) and not hidden.any()
    with pytest.raises(ConfigError, match=r"fade is \(20, 10\)"):
        distiller(corruption=dict(fade=(20, 10)))
    with pytest.raises(ConfigError, match="fade is 300"):
        distiller(corruption=dict(fade=300))


def test_the_weights_of_the_teacher_are_loaded_when_they_are_needed():
    model = distiller(measured=False)
    random = model._teacher.network.pos_embed.clone()
    assert not model.teacher_hash.any() and model(images())[0].shape == (4, 16, 4, 4)
    assert not model.teacher_hash.any()  # predicting with the student does not need it
    model.init_weights()
    assert model.teacher_hash.any() and not torch.equal(model.teacher.pos_embed, random)
    again = distiller(measured=False)
    assert torch.equal(again.teacher.pos_embed, model.teacher.pos_embed)


def test_resolutions_change_with_the_steps():
    model = distiller(resolutions=[(0, 32), (2, 64)])
    sizes = []
    for _ in range(3):
        sizes.append(model._resized(images()).shape[-1])
        model(images(), None, mode="loss")
    assert sizes == [32, 32, 64]


def test_prompted_masks_of_both_maps_are_compared():
    prompt = dict(type="PromptAlignment", sam=SAM, prompts=2, start=1)
    model = distiller(losses=[dict(type="MapAlignment"), prompt])
    assert model(images(), None, mode="loss")["loss_1_PromptAlignment"] == 0
    loss = model(images(), None, mode="loss")["loss_1_PromptAlignment"]
    assert loss > 0 and not any("prompt" in name for name in model.state_dict())
    samples = model.predict(images())
    assert all(0 <= float(sample.prompt_iou) <= 1 for sample in samples)
    pair = model.pair_of(images(), None, model.teach(images(), None))
    assert model.losses[1].box_iou(pair._replace(student=pair.teacher)).eq(1).all()


def test_boxes_of_labels_are_prompts():
    samples = [BaseDataElement() for _ in range(4)]
    for sample in samples:
        sample.gt_instances = BaseDataElement(bboxes=torch.tensor([[4.0, 4.0, 30.0, 40.0]]))
    prompt = dict(type="PromptAlignment", sam=SAM, prompts=3)
    model = distiller(losses=[prompt])
    pair = model.pair_of(images(), samples, model.teach(images(), samples))
    assert model.losses[0]._training_boxes(pair).eq(torch.tensor([4.0, 4.0, 30.0, 40.0])).all()
