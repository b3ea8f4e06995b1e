import torch
from cd_samples import loaded

from rsfoundation.datasets.transforms.pair_loading import MultiImgPackSegInputs


def test_dates_lie_one_after_the_other():
    results = loaded()
    packed = MultiImgPackSegInputs()(results)
    assert packed["inputs"].shape == (6, 40, 50) and packed["inputs"].dtype == torch.uint8
    for channel in range(6):
        expected = torch.from_numpy(results["img"][channel // 3][..., channel % 3].copy())
        assert torch.equal(packed["inputs"][channel], expected)


def test_labels_and_metainfo_are_kept():
    sample = MultiImgPackSegInputs()({**loaded(), "img_path": ["a", "b"]})["data_samples"]
    assert sample.gt_sem_seg.data.dtype == torch.int64 and sample.gt_sem_seg.data.shape == (1, 40, 50)
    assert "gt_sem_seg_from" in sample and "gt_sem_seg_to" not in sample
    assert sample.metainfo["img_path"] == ["a", "b"] and sample.metainfo["ori_shape"] == (40, 50)
