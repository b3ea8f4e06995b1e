import pytest
import torch
from cd_golden import Golden

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.rsp_bit_head import RSPBITHead


def test_logits_equal_official_output():
    golden = Golden("cd_rsp_bit")
    head = golden.load(RSPBITHead(**golden.meta["kwargs"]))
    with torch.no_grad():
        golden.check("logits", head(*golden.inputs().values()))


def test_the_level_of_a_pyramid_is_a_choice():
    maps = [torch.rand(1, width, 16 >> i, 16 >> i) for i, width in enumerate((4, 6, 8, 10))]
    for index, size in ((1, 128), (2, 64)):
        head = RSPBITHead(maps[index].shape[1], in_index=index, dec_depth=1).eval()
        assert head(maps, maps).shape == (1, 2, size, size)
        assert torch.equal(head(maps, maps), head(maps[index], maps[index]))


def test_tokens_without_positions():
    with_pos = RSPBITHead(4).state_dict().keys()
    assert with_pos - RSPBITHead(4, with_pos=None).state_dict().keys() == {"pos_embedding"}
    with pytest.raises(ConfigError, match="sine"):
        RSPBITHead(4, with_pos="sine")
