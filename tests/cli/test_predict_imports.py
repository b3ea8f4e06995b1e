"""What ``rsf predict`` imports before its first window."""

import gc
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from rsfoundation.cli.predict import (
    _DEFERRED,
    _UNUSED,
    _import_frameworks,
    without_garbage_collection,
    without_unused_imports,
)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def forgotten(monkeypatch):
    """A small package of the standard library that nothing has imported."""
    monkeypatch.setattr("rsfoundation.cli.predict._UNUSED", ("this_is_absent", "antigravity"))
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)


def test_imports_fail_meanwhile_and_work_again_afterwards(forgotten):
    with without_unused_imports():
        assert sys.modules["antigravity"] is None
        with pytest.raises(ImportError):
            import_module("antigravity")
    assert "antigravity" not in sys.modules and "this_is_absent" not in sys.modules


def test_modules_that_are_loaded_stay(monkeypatch):
    monkeypatch.setattr("rsfoundation.cli.predict._UNUSED", ("json",))
    import json

    with without_unused_imports():
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json


def test_a_failure_inside_leaves_nothing_behind(forgotten):
    with pytest.raises(KeyError), without_unused_imports():
        raise KeyError
    assert "antigravity" not in sys.modules


def test_a_deferred_name_that_is_used_meanwhile_is_the_real_one(monkeypatch):
    monkeypatch.setattr("rsfoundation.cli.predict._DEFERRED", ("wsgiref", "wsgiref.util"))
    for name in ("wsgiref", "wsgiref.util"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with without_unused_imports():
        from wsgiref.util import guess_scheme, shift_path_info

        assert guess_scheme({"HTTPS": "on"}) == "https"
    assert shift_path_info({"PATH_INFO": "/a/b", "SCRIPT_NAME": ""}) == "a"


def test_the_garbage_collector_rests_meanwhile():
    with pytest.raises(KeyError), without_garbage_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.unfreeze()


def test_packages_that_need_what_is_deferred_are_imported_later(monkeypatch):
    monkeypatch.setattr("rsfoundation.cli.predict._DEFERRED", ("wsgiref",))
    monkeypatch.setattr("rsfoundation.cli.predict._FRAMEWORKS", ("wsgiref.util",))
    for name in ("wsgiref", "wsgiref.util"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    _import_frameworks([], None)
    assert import_module("wsgiref.util").guess_scheme({}) == "http"


def test_scipy_matplotlib_and_sharded_training_wait_until_they_are_used():
    code = (
        "import sys\n"
        "from rsfoundation.cli.predict import _import_frameworks\n"
        "_import_frameworks(['run'], None)\n"
        "slow = ('torch._dynamo', 'torch.distributed.fsdp', 'scipy.optimize', 'scipy.spatial', 'coverage',"
        " 'matplotlib.pyplot', 'imagecorruptions')\n"
        "print([name for name in slow if name in sys.modules], end=' ')\n"
        "from mmdet.models.task_modules.assigners import hungarian_assigner\n"
        "print(hungarian_assigner.linear_sum_assignment([[0, 1], [1, 0]])[1].tolist(), end=' ')\n"
        "from torchvision.ops.roi_align import is_compile_supported\n"
        "print(type(is_compile_supported('cpu')).__name__, end=' ')\n"
        "from mmengine.model.wrappers import MMFullyShardedDataParallel\n"
        "print(MMFullyShardedDataParallel.__name__)\n"
    )
    assert python(code) == "[] [0, 1] bool MMFullyShardedDataParallel"
    assert "scipy.optimize" in _DEFERRED


def test_prediction_loads_none_of_them_and_can_later():
    code = (
        "import sys\n"
        "from rsfoundation.cli.predict import _import_frameworks\n"
        "_import_frameworks(['run'], None)\n"
        "import rsfoundation.inference.predict, rsfoundation.tasks.detection\n"
        "from rsfoundation.cli.predict import _UNUSED\n"
        "loaded = [name for name in (*_UNUSED, 'imgaug') if name in sys.modules]\n"
        "from mmdet.datasets.transforms.generate_line import LineString, iaa\n"
        "print(loaded, iaa.Sequential.__name__, type(LineString([(0, 0), (1, 1)])).__name__)\n"
    )
    assert python(code) == "[] Sequential LineString"


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_a_model_of_text_gets_what_it_needs(tmp_path):
    (tmp_path / "config.py").write_text("model = dict(language_model=dict(type='BertModel'))\n")
    code = (
        "from rsfoundation.cli.predict import _import_frameworks\n"
        f"_import_frameworks([{str(tmp_path)!r}], None)\n"
        "from mmdet.models.language_models import bert\n"
        "print(bert.AutoTokenizer is not None)\n"
    )
    assert python(code) == "True"
    assert "transformers" in _UNUSED
