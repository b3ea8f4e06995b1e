"""The site's pages: every page of docs has its place, every config its row in the model zoo."""

import json
import re
import runpy

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


def test_latencies_of_different_conditions_are_not_in_one_table():
    tools = runpy.run_path(str(ROOT / "tools" / "site.py"))
    rows = json.loads((ROOT / "docs" / "zoo.json").read_text())["latency"]
    assert len(rows) >= 10 and len({row["name"] for row in rows}) == len(rows)
    # every condition of a row is in the head of its table
    (head,) = (line for line in tools["_latency"](rows[:1]).splitlines() if line.endswith(":"))
    timed = rows[0]["latency"]
    for condition in (
        rows[0]["processor"],
        f"{timed['threads']} threads",
        timed["dtype"],
        "1 x 3 x 512 x 512",
    ):
        assert condition in head
    other = {**rows[0], "processor": "another", "name": "another"}
    assert tools["_latency"]([rows[0], other]).count("| backbone |") == 2
