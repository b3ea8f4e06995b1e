"""Backbones by name: the table agrees with the shipped configs, arguments arrive, weights are loaded."""

import subprocess
import sys

import pytest
import torch
from locations import CONFIGS
from mmengine.config import Config

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.models.factory import NETWORKS, create_model, list_models
from rsfoundation.models.pretrained.catalogue import WEIGHTS
from rsfoundation.registry import MODELS

FILES = {path.stem: path for path in (CONFIGS / "_base_" / "backbones").glob("*.py")}
_RECIPE = ("init_cfg", "norm_cfg", "drop_rate", "drop_path_rate")  # belong to a training, not to a network


def described(cfg):
    """A config without what belongs to a training recipe, types without scope."""
    out = {key: value for key, value in cfg.items() if key not in _RECIPE}
    out = {key: described(value) if isinstance(value, dict) else value for key, value in out.items()}
    return {**out, "type": out["type"].removeprefix("rsfoundation.")}


def test_every_shipped_backbone_file_has_a_name():
    assert set(list_models()) == {name for name in FILES if not name.endswith("_scratch")}


@pytest.mark.parametrize("name", list_models())
def test_the_table_and_the_config_file_are_the_same_network(name):
    backbone = Config.fromfile(FILES[name]).backbone.to_dict()
    assert described(backbone) == NETWORKS[name]
    holder, network = backbone.get("encoder", backbone), NETWORKS[name].get("encoder", NETWORKS[name])
    published = (holder.get("init_cfg") or {}).get("checkpoint")
    assert published is None or WEIGHTS[published].backbone.items() <= network.items()


def quick(*large):
    """Every name; those that take gigabytes are slow."""
    return [pytest.param(name, marks=pytest.mark.slow if name in large else ()) for name in list_models()]


@pytest.mark.parametrize("name", quick("sam_vit_large", "sam_vit_huge", "sam_vit_huge_all"))
def test_every_name_builds_a_network_that_runs(name):
    small = dict(img_size=64) if name.startswith(("rsmamba", "sam")) else {}
    model = create_model(name, in_channels=4, **small).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 4, 64, 64))
    if name.startswith("sam") and name.endswith("_all"):
        assert maps.last_hidden_state.shape == (1, *model.out_channels, 4, 4)
        maps = (maps.last_hidden_state,)
    dims = slice(3, None) if name.startswith("rsmamba") and name.endswith("_all") else slice(1, 2)
    assert tuple(x.shape[dims][0] for x in maps) == tuple(model.out_channels)
    assert all(x.isfinite().all() and x.std() > 0 for x in maps)


def test_names_by_pattern():
    assert list_models("lsknet*") == ["lsknet_s", "lsknet_t"]
    assert list_models("*nothing*") == []


def test_registered_types_build_too():
    assert type(create_model("LSKNet", arch="t")) is MODELS.get("LSKNet")
    assert create_model("RSPResNet", out_indices=(1, 2)).out_channels == (512, 1024)


def test_arguments_of_a_pyramid_go_where_they_belong():
    model = create_model("rsmamba_s", img_size=64, norm_cfg=dict(type="GN", num_groups=4), with_cp=True)
    assert model.encoder.grid == (4, 4)
    assert model.encoder.with_cp
    assert any(isinstance(module, torch.nn.GroupNorm) for module in model.pyramid.modules())


def test_a_file_of_weights_is_loaded(tmp_path):
    source = create_model("lwganet_l0")
    torch.save({"state_dict": source.state_dict()}, tmp_path / "weights.pth")
    model = create_model("lwganet_l0", pretrained=tmp_path / "weights.pth")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    assert not model.load_report.missing


def test_published_weights_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RSF_WEIGHTS", str(tmp_path))
    source = create_model("vitaev2_s")
    torch.save(source.state_dict(), tmp_path / "vitaev2_s-millionaid.pth")
    model = create_model("vitaev2_s", pretrained=True)
    assert torch.equal(next(model.parameters()), next(source.parameters()))


def test_random_weights_are_the_published_initialisation():
    torch.manual_seed(0)
    expected = MODELS.build(dict(type="LSKNet", arch="t"))
    expected.init_weights()
    torch.manual_seed(0)
    found = create_model("lsknet_t").state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.state_dict().items())


def test_errors_name_the_fix():
    with pytest.raises(ConfigError, match="did you mean 'lsknet_t'"):
        create_model("lsknet_tt")
    with pytest.raises(ConfigError, match="did you mean 'in_channels'"):
        create_model("lsknet_t", in_chanels=4)
    with pytest.raises(ConfigError, match="RSMamba has no argument 'in_chanels'"):
        create_model("rsmamba_b", in_chanels=4)
    with pytest.raises(ConfigError, match="rsmamba_b has no published weights"):
        create_model("rsmamba_b", pretrained=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        create_model("lsknet_t", pretrained="no/such/file.pth")


def test_a_network_by_name_imports_no_toolbox():
    code = (
        "import sys\n"
        "from rsfoundation.models.factory import create_model, list_models\n"
        "assert 'lsknet_t' in list_models()\n"
        "create_model('lsknet_t')\n"
        "loaded = [name for name in ('mmdet', 'mmseg', 'mmrotate') if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_building_prints_nothing(capfd):
    create_model("lsknet_t")
    assert "init_weights" not in capfd.readouterr().out
