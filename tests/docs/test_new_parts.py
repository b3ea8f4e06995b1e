"""The example of docs/new_parts.md works as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from locations import ROOT

from rsfoundation.engine.networks import network_complexity


def test_the_console_finds_the_parts_where_it_is_started_and_next_to_the_config(tmp_path):
    page = (ROOT / "docs" / "new_parts.md").read_text(encoding="utf-8")
    module, config = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "start").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_config.py").write_text(config)
    rsf = Path(sys.executable).with_name("rsf")

    def show():
        done = subprocess.run(
            [rsf, "info", "config", "../my_config.py"],
            cwd=tmp_path / "start",
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return done.returncode, done.stdout + done.stderr

    status, text = show()
    assert status == 2 and "my_parts" in text and "next to the config" in text
    for folder in ("start", "."):
        (tmp_path / folder / "my_parts.py").write_text(module)
        status, text = show()
        assert not status and "FourStages" in text, text
        (tmp_path / folder / "my_parts.py").unlink()


def test_a_backbone_from_outside_the_package_is_built_and_counted(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "new_parts.md").read_text(encoding="utf-8")
    module, config = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_parts.py").write_text(module)
    config = config.replace('"configs/', f'"{ROOT}/configs/')
    (tmp_path / "my_config.py").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        counted = network_complexity(str(tmp_path / "my_config.py"), (128, 128))
    finally:
        sys.modules.pop("my_parts", None)
    parts = {part.name: part.params for part in counted.parts}
    # convolutions with bias, and two numbers per channel of each batch norm
    widths = [3, 16, 32, 64, 128]
    sizes = [49, 9, 9, 9]
    weights = [
        inside * size * outside + 3 * outside
        for inside, outside, size in zip(widths, widths[1:], sizes, strict=False)
    ]
    assert sum(count for name, count in parts.items() if name.startswith("backbone")) == sum(weights)
    assert counted.total.macs > 0
