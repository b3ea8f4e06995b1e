import pytest
import torch
from cd_golden import Golden, metas
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
