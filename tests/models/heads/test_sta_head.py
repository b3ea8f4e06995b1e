"""STANet's head has no golden file: it is compared with its formulas written out."""

import pytest
import torch
import torch.nn.functional as F
from cd_samples import change_samples

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.sta_head import BasicAttention, PyramidAttention, STAHead

SIZES = dict(in_channels=[4, 6], in_index=[0, 1], channels=8, sa_in_channels=16, norm_cfg=dict(type="BN"))


def attend(query, key, value):
    """Softmax attention of ``(C, N)`` matrices, one position at a time."""
    scores = query.T @ key / query.shape[0] ** 0.5
    return value @ scores.softmax(dim=1).T


def test_bam_is_attention_over_all_pixels_of_both_dates():
    bam = BasicAttention(16, ds=2).eval()
    x = torch.randn(2, 16, 4, 12)
    with torch.no_grad():
        found = bam(x)
        pooled = F.avg_pool2d(x, 2)
        for image in range(2):
            q, k, v = (
                conv(pooled)[image].flatten(1) for conv in (bam.query_conv, bam.key_conv, bam.value_conv)
            )
            context = F.interpolate(attend(q, k, v).view(1, 16, 2, 6), scale_factor=2, mode="nearest")
            torch.testing.assert_close(found[image], context[0] + x[image])


def test_pam_is_attention_inside_the_cells_of_four_grids():
    pam = PyramidAttention(16, ds=1).eval()
    height, width = 9, 11  # the last cell of a row or column takes the rest
    x = torch.randn(1, 16, height, 2 * width)
    joined = []
    with torch.no_grad():
        for cells, stage in zip((1, 2, 4, 8), pam.stages, strict=True):
            q, k, v = (f(x)[0] for f in (stage.f_query, stage.f_key, stage.f_value))
            result = torch.empty(16, height, 2 * width)
            for row in range(cells):
                for column in range(cells):
                    rows = range(
                        row * (height // cells),
                        height if row == cells - 1 else (row + 1) * (height // cells),
                    )
                    columns = range(
                        column * (width // cells),
                        width if column == cells - 1 else (column + 1) * (width // cells),
                    )
                    places = [(r, c + date * width) for date in (0, 1) for r in rows for c in columns]
                    r, c = (torch.tensor(index) for index in zip(*places, strict=True))
                    result[:, r, c] = attend(q[:, r, c], k[:, r, c], v[:, r, c])
            joined.append(result)
        expected = pam.conv_bn(torch.cat(joined)[None])
        torch.testing.assert_close(pam(x), expected, rtol=1e-4, atol=1e-5)


def test_distance_is_euclidean_between_the_joined_levels():
    head = STAHead(sa_mode="None", **SIZES).eval()
    levels = [torch.randn(2, 8, 6, 8), torch.randn(2, 12, 3, 4)]
    with torch.no_grad():
        dates = []
        for date in (0, 1):
            parts = [
                head.fpn_convs[i](x[:, x.shape[1] // 2 * date :][:, : x.shape[1] // 2])
                for i, x in enumerate(levels)
            ]
            parts[1] = F.interpolate(parts[1], size=(6, 8), mode="bilinear")
            dates.append(head.fpn_bottleneck(torch.cat(parts, dim=1)))
        expected = (dates[0] - dates[1] + 1e-6).square().sum(dim=1, keepdim=True).sqrt()
        torch.testing.assert_close(head(levels), expected)


@pytest.mark.parametrize(
    ("mode", "part"),
    [
        ("BAM", "gamma"),
        ("BAM", "query_conv.weight"),
        ("PAM", "stages.3.f_key.1.running_mean"),
        ("PAM", "stages.0.f_value.bias"),
        ("PAM", "conv_bn.0.weight"),
    ],
)
def test_published_names(mode, part):
    keys = STAHead(sa_mode=mode, **SIZES).state_dict().keys()
    assert f"netA.Self_Att.{part}" in keys
    assert {"fpn_convs.1.conv.weight", "fpn_bottleneck.0.bn.bias", "fpn_bottleneck.2.conv.weight"} <= keys
    assert not any(key.startswith("conv_seg") for key in keys)


def test_pixels_beyond_the_threshold_changed():
    head = STAHead(sa_mode=None, distance_threshold=1.5, **SIZES).eval()
    distance = torch.tensor([[[[0.0, 1.4], [1.6, 9.0]]]])
    logits = head.predict_by_feat(distance, [dict(img_shape=(2, 2))])
    assert (logits.sigmoid() > head.threshold).flatten().tolist() == [False, False, True, True]


def test_training_brings_unchanged_dates_together():
    torch.manual_seed(0)
    head = STAHead(sa_mode="BAM", **SIZES)
    levels, label = [torch.randn(1, 8, 8, 8), torch.randn(1, 12, 4, 4)], torch.zeros(8, 8)
    label[:, 4:] = 1
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        loss = head.loss(levels, change_samples(label), None)["bcl_loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss))
    assert values[-1] < 0.5 * values[0]


def test_maps_too_small_for_the_grid_and_unknown_modes_are_refused():
    head = STAHead(sa_mode="PAM", **SIZES)
    with pytest.raises(ConfigError, match="cannot be cut into 8 cells"):
        head([torch.randn(1, 8, 4, 4), torch.randn(1, 12, 2, 2)])
    with pytest.raises(ConfigError, match="sa_mode"):
        STAHead(sa_mode="pam", **SIZES)
