"""The site's pages: every page of docs has its place, every config its row in the model zoo."""

import json
import re

from locations import ROOT

from rsfoundation.engine.config import list_configs


def test_every_page_is_in_the_navigation():
    navigation = re.findall(r"- ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    missing = sorted(set(pages) - set(navigation))
    assert not missing, f"add to `nav` of mkdocs.yml: {missing}"
    assert len(navigation) == len(set(navigation))


def test_every_config_is_counted_in_the_model_zoo():
    counted = json.loads((ROOT / "docs" / "zoo.json").read_text())["configs"]
    assert sorted(counted) == sorted(list_configs()), "run: python tools/zoo.py"
    assert all(row["params"] >= row["trainable"] > 0 and row["macs"] > 0 for row in counted.values())
