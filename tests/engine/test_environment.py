"""The doctor finds what is broken and names the fix; it never fails itself."""

import pytest

from rsfoundation.engine import environment


def test_this_environment_is_healthy():
    checks = environment.examine()
    assert not [check for check in checks if check.status == "error"]
    assert {"Python", "torch", "torch / torchvision pair", "mmcv operators", "shipped configs"} <= {
        c.name for c in checks
    }


@pytest.fixture
def versions(monkeypatch):
    """Pretend that other versions are installed."""
    real = environment.installed_version
    pretended = {}
    monkeypatch.setattr(environment, "installed_version", lambda name: pretended.get(name, real(name)))
    return pretended


def test_versions_outside_the_bounds_and_missing_packages(versions):
    versions.update({"onedl-mmcv": "2.1.0", "shapely": None})
    found = {check.name: check for check in environment._requirements()}
    assert found["onedl-mmcv"].status == "error" and "2.3.6" in found["onedl-mmcv"].fix
    assert found["shapely"].status == "error" and found["shapely"].found == "not installed"
    assert found["numpy"].status == "ok"


def test_original_toolboxes_and_imgaug_are_in_the_way(versions):
    versions.update({"mmcv": "2.1.0", "imgaug": "0.4.0"})
    (mmcv,) = environment._original_toolboxes()
    assert mmcv.status == "error" and "onedl-mmcv" in mmcv.fix
    (imgaug,) = environment._imgaug()
    assert "uninstall imgaug" in imgaug.fix


@pytest.mark.parametrize(("other", "status"), [("4.5.0", "error"), ("same", "note")])
def test_opencv_duplicates(versions, other, status):
    headless = environment.installed_version("opencv-python-headless")
    versions["opencv-python"] = headless if other == "same" else other
    (check,) = environment._opencv()
    assert check.status == status and "uninstall opencv-python" in check.fix


def test_a_torchvision_built_apart_is_told(monkeypatch):
    import torchvision

    def fail(*args):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", fail)
    (check,) = environment._torch_pair()
    assert check.status == "error" and "torchvision::nms" in check.found and "torchvision" in check.fix


def test_a_failing_check_does_not_hide_the_others(monkeypatch):
    def _python():
        raise ValueError("boom")

    monkeypatch.setattr(environment, "_PROBES", (_python, environment._operators))
    first, second = environment.examine()
    assert first.status == "error" and "boom" in first.found and second.status == "ok"
