"""Configs by path and by name, overrides, and what is said of unknown ones."""

import pytest

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import find_config, list_configs, load_config


def test_shipped_configs_are_listed_and_all_parse():
    names = list_configs()
    assert names
    for name in names:
        load_config(name)


def test_a_config_is_found_by_path_full_name_and_last_part(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where configs/NAME.py is no file
    name, path = next(iter(list_configs().items()))
    assert (
        find_config(path)
        == find_config(name)
        == find_config(name.split("/")[-1])
        == find_config(f"configs/{name}.py")
    )


def test_an_unknown_config_names_the_nearest():
    name = next(iter(list_configs()))
    with pytest.raises(ConfigError) as caught:
        find_config(name[:-2] + "zz")
    assert name in caught.value.fix


def test_a_broken_config_is_named(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("model = dict(\n")
    with pytest.raises(ConfigError, match=r"broken\.py"):
        load_config(file)


def test_a_config_that_raises_is_named_with_its_line(tmp_path):
    (tmp_path / "base.py").write_text("a = 1\nb = a / 0\n")
    (tmp_path / "run.py").write_text("_base_ = './base.py'\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError") as caught:
        load_config(tmp_path / "run.py")
    assert caught.value.where.endswith("base.py:2")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match="py/yml/yaml/json") as caught:
        load_config(tmp_path / "notes.txt")
    assert caught.value.where.endswith("notes.txt")


def test_overrides_are_parsed_like_cfg_options(tmp_path):
    file = tmp_path / "c.py"
    file.write_text("a = dict(b=1, c=[1, 2])\nname = 'x'\n")
    cfg = load_config(file, ["a.b=2.5", "a.c=[3,4]", "name=y", "new.key=True"])
    assert (cfg.a.b, cfg.a.c, cfg.name, cfg.new.key) == (2.5, [3, 4], "y", True)
    with pytest.raises(ConfigError, match="key=value"):
        load_config(file, ["a.b"])
    with pytest.raises(ConfigError, match="do not fit"):
        load_config(file, ["name.x=1"])


def test_misspelt_top_level_keys_are_refused(tmp_path):
    file = tmp_path / "c.py"
    file.write_text("model = dict(a=1)\ntrain_cfg = dict(max_epochs=1)\n")
    for wrong, right in (
        ("modell.a=2", "model"),
        ("train_cgf.max_epochs=2", "train_cfg"),
        ("tTa.x=1", "tta"),
    ):
        with pytest.raises(ConfigError, match=f"did you mean '{right}'"):
            load_config(file, [wrong])
    cfg = load_config(file, ["model.b=2", "tta.scales=(1.0,)", "randomness.seed=3", "resume=True"])
    assert (cfg.model.b, cfg.tta.scales, cfg.randomness.seed, cfg.resume) == (2, (1.0,), 3, True)


def test_variables_of_the_file_are_refused_with_the_keys_they_were_copied_to(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(
        "data_root = 'data/a'\nnum_classes = 3\nbackbone = dict(type='Net', depth=1)\nlr = 0.1\n"
        "model = dict(backbone=dict(type='Net', depth=2), head=dict(num_classes=num_classes), norm=3)\n"
        "train_dataloader = dict(dataset=dict(datasets=[dict(root=data_root)]))\n"
    )
    for override, place in (
        ("data_root=data/b", "train_dataloader.dataset.datasets.0.root"),
        ("num_classes=4", "model.head.num_classes"),
        ("backbone.depth=3", "model.backbone"),
    ):
        with pytest.raises(ConfigError, match="would change nothing") as caught:
            load_config(file, [override])
        assert caught.value.fix == f"set it where it was copied to: {place}"
    assert load_config(file, ["lr=0.2"]).lr == 0.2  # in no key that is read: a hook of the user's may read it


@pytest.mark.parametrize("value", ["dict(a=1,b=2)", "{a,b}(", "(1,2"])
def test_a_value_that_cannot_be_read_is_named(value, tmp_path):
    path = tmp_path / "one.py"
    path.write_text("model = dict(arch=dict(width=1))")
    with pytest.raises(ConfigError, match="cannot read the value") as caught:
        load_config(path, ["model.arch.width=3", f"model.arch={value}"])
    assert f"model.arch={value}" in caught.value.what and "set each key" in caught.value.fix
