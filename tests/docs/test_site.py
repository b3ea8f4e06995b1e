"""The site's pages: every page of docs has its place, every config its row in the model zoo."""

import json
import re
import runpy

import pytest
from locations import ROOT

from rsfoundation.engine.config import list_configs


@pytest.fixture(scope="module")
def site():
    return runpy.run_path(str(ROOT / "tools" / "site.py"))


@pytest.fixture(scope="module")
def zoo():
    return json.loads((ROOT / "docs" / "zoo.json").read_text())


def test_every_page_is_in_the_navigation():
    navigation = re.findall(r"- ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    missing = sorted(set(pages) - set(navigation))
    assert not missing, f"add to `nav` of mkdocs.yml: {missing}"
    assert len(navigation) == len(set(navigation))


def test_every_config_is_counted_in_the_model_zoo(zoo):
    counted = zoo["configs"]
    assert sorted(counted) == sorted(list_configs()), "run: python tools/zoo.py"
    assert all(row["params"] >= row["trainable"] > 0 and row["macs"] > 0 for row in counted.values())


def rows(text):
    """Return the cells of the rows of a page's tables, by their first cell."""
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0].removeprefix("| "): [cell.removesuffix(" |") for cell in cells[1:]] for cells in lines}


def test_rows_of_the_model_zoo_say_what_is_known_of_a_config(site, zoo):
    names = (
        "lsknet/lsknet_s_oriented_rcnn_1x_dota_ms",
        "distill/lsknet_s_lwganet_l0_changer_ex_40k_levir_cd",
        "distill/sam_vit_base_lwganet_l0_512",
    )
    page = site["_published"]({name: list_configs()[name] for name in names}, zoo["configs"])
    cells = {name.split("`")[1]: row for name, row in rows(page).items() if "`" in name}
    params, gmac, published, protocol, start = cells["lsknet_s_oriented_rcnn_1x_dota_ms"]
    assert params == "30.98 M" and gmac == "67.6"
    assert published.startswith("81.64 mAP") and "multi-scale" in protocol
    assert start == "[`lsknet_s-in1k`](#published-weights), CC BY-NC 4.0"
    *_, published, protocol, start = cells["lsknet_s_lwganet_l0_changer_ex_40k_levir_cd"]
    assert published == "nothing for this combination."
    assert protocol.endswith("first:<br>`rsf train lsknet/lsknet_s_changer_ex_40k_levir_cd`")
    *_, published, _, start = cells["sam_vit_base_lwganet_l0_512"]
    assert published == "nothing public to compare with; the recipe is ours."
    assert "sam_vit_base-sa1b" in start and "Apache-2.0" in start and "lwganet_l0-in1k" in start


def test_parts_that_are_not_counted_are_named(site):
    count = dict(params=2_500_000, trainable=1, macs=1_500_000_000)
    assert site["_cost"](count) == ("2.50 M", "1.5")
    assert site["_cost"]({**count, "uncounted": ["head"]}) == ("2.50 M", "1.5, without `head`")


def test_no_published_number_of_the_model_zoo_holds_a_command(site):
    headers = {name: site["_header"](path)[1] for name, path in list_configs().items()}
    assert not [name for name, header in headers.items() if "rsf " in header.get("Reported", "")]


def test_every_toy_config_has_its_command_in_the_model_zoo(site, zoo):
    text = site["_toy"](zoo)
    for name in list_configs():
        if name.startswith(("quickstart/", "distill/toy_")):
            assert re.search(f"`rsf train (\\w+/)?{name.rpartition('/')[2]}[ `]", text), name
    (row,) = (
        row for name, row in rows(text).items() if "rsf train quickstart/change_toy_lsknet_t_changer`" in name
    )
    assert row[2] == "changed/F1 0.8255 in 438 s"


def test_bars_in_code_of_tables_have_no_backslash_on_the_site(site):
    table = site["_table"](("a", "b"), [("`x|y` or | z", "`1|2`")])
    assert site["_bars_in_code"](table).splitlines()[2] == "| `x|y` or \\| z | `1|2` |"
    assert site["_bars_in_code"]("a `\\|` in a text") == "a `\\|` in a text"


def test_roles_and_examples_are_code_on_the_site(site):
    html = site["on_page_content"]("see :func:<code>~a.b</code>, :mod:<code>c</code>", None, None, None)
    assert html == "see <code>a.b</code>, <code>c</code>"
    text = site["_command_line"]()
    assert "Example: `rsf train quickstart/detection_toy_lsknet_t --device cpu`" in text
    assert "\n\n`rsf export lsknet_t --size 1024 -o backbone.onnx`" in text


def test_tables_of_docstrings_are_markdown():
    files = sorted((ROOT / "rsfoundation").rglob("*.py"))
    found = [path.name for path in files if re.search(r"^ *={3,} +={3,}", path.read_text(), re.MULTILINE)]
    assert len(files) > 200 and not found


def test_latencies_of_different_conditions_are_not_in_one_table(site, zoo):
    rows = zoo["latency"]
    assert len(rows) >= 10 and len({row["name"] for row in rows}) == len(rows)
    # every condition of a row is in the head of its table
    (head,) = (line for line in site["_latency"](rows[:1]).splitlines() if line.endswith(":"))
    timed = rows[0]["latency"]
    for condition in (
        rows[0]["processor"],
        f"{timed['threads']} threads",
        timed["dtype"],
        "1 x 3 x 512 x 512",
    ):
        assert condition in head
    other = {**rows[0], "processor": "another", "name": "another"}
    assert site["_latency"]([rows[0], other]).count("| backbone |") == 2
