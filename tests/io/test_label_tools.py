"""Exports of Label Studio and CVAT: coordinates as their documentation defines them, and what is refused."""

import json

import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.io.label_tools import read_cvat, read_label_studio

HEAD = dict(original_width=200, original_height=100, image_rotation=0)


def studio(tmp_path, *regions, image="/data/upload/1/1a2b3c4d-a%20b.png", **annotation):
    task = dict(id=1, data=dict(image=image), annotations=[dict(result=list(regions), **annotation)])
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task]))
    return path


def rectangle(**value):
    value = dict(x=10, y=20, width=30, height=10, rotation=0, rectanglelabels=["ship"]) | value
    return dict(HEAD, id="r", type="rectanglelabels", value=value)


def quads(images):
    return np.array([item.quad for item in images[0].objects]).reshape(-1, 4, 2)


def test_label_studio_turns_rectangles_about_their_first_corner(tmp_path):
    report = DatasetReport()
    images = read_label_studio(studio(tmp_path, rectangle(), rectangle(rotation=90)), report)
    assert images[0].size == (200, 100) and images[0].name.endswith("1a2b3c4d-a b.png") and not report
    upright, turned = quads(images)
    assert np.allclose(upright, [[20, 20], [80, 20], [80, 30], [20, 30]])
    assert np.allclose(turned, [[20, 20], [20, 80], [10, 80], [10, 20]]), "clockwise: x goes down"


def test_label_studio_polygons_and_labels_in_regions_of_their_own(tmp_path):
    points = [[0, 0], [10, 0], [10, 10], [5, 12], [0, 10]]
    polygon = dict(HEAD, id="p", type="polygonlabels", value=dict(points=points, polygonlabels=["ship"]))
    bare = dict(HEAD, id="b", type="rectangle", value=dict(x=0, y=0, width=5, height=5, rotation=0))
    named = dict(bare, type="labels", value=dict(bare["value"], labels=["plane"]))
    alone = dict(bare, id="c")
    brush = dict(HEAD, id="m", type="brushlabels", value=dict(format="rle", rle=[0], brushlabels=["ship"]))
    report = DatasetReport()
    images = read_label_studio(studio(tmp_path, polygon, bare, named, alone, brush), report)
    assert [item.name for item in images[0].objects] == ["ship", "plane"]
    assert report.counts == {
        "polygons replaced by the smallest rectangle around them": 1,
        "shapes without an area (points, lines, brushes)": 1,
        "shapes without a label": 1,
    }


@pytest.mark.parametrize(("address", "name"), [
    ("/data/local-files/?d=set%2Fa.png", "set/a.png"),
    ("s3://bucket/set/a.png", "/set/a.png"),
    ("http://host/x/a.png?token=1", "/x/a.png"),
])  # fmt: skip
def test_label_studio_addresses_of_images(tmp_path, address, name):
    assert read_label_studio(studio(tmp_path, image=address), DatasetReport())[0].name == name


def test_label_studio_takes_one_annotator(tmp_path):
    path = studio(tmp_path, rectangle(x=1))
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"] += [
        dict(result=[rectangle(x=2)], ground_truth=True),
        dict(result=[], was_cancelled=True),
    ]
    path.write_text(json.dumps(tasks))
    report = DatasetReport()
    assert quads(read_label_studio(path, report))[0, 0, 0] == 4, "the ground truth"
    assert report.counts == {"further annotations of one image (the first is taken)": 1}


@pytest.mark.parametrize(("change", "words"), [
    (dict(image_rotation=90), "turned by 90 degrees"),
    (dict(original_width=None), "original_width is 'None'"),
    (dict(value=dict(x=1, y=2, width=-3, height=4, rectanglelabels=["a"])), "negative"),
    (dict(value=dict(x=1, y=2, width=3, height="4", rectanglelabels=["a"])), "height is '4'"),
    (dict(value=dict(x=1, y=2, width=3, height=4, rectanglelabels=["a", "b"])), "expected one name"),
    (dict(value=dict(points=[[1, 2], [3, 4]], polygonlabels=["a"])), "polygon of 2 points"),
])  # fmt: skip
def test_label_studio_regions_that_are_refused(tmp_path, change, words):
    report = DatasetReport()
    read_label_studio(studio(tmp_path, rectangle() | change), report)
    with pytest.raises(DataError, match=words) as caught:
        report.enforce("fail")
    assert "region 1" in caught.value.where


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"image": "a.png", "label": []}]', "[", '[{"data": {}, "annotations": 3}]']
)
def test_label_studio_exports_that_are_refused(tmp_path, text):
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_label_studio(path, DatasetReport())
    assert caught.value.where == str(path) and caught.value.fix


def cvat(tmp_path, body):
    path = tmp_path / "annotations.xml"
    image = f'<image id="0" name="s/a.png" width="200" height="100">{body}</image>'
    path.write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    return path


def test_cvat_turns_boxes_about_their_middle(tmp_path):
    box = '<box label="ship" xtl="20" ytl="20" xbr="80" ybr="30"{}>'
    box += '<attribute name="difficult">{}</attribute></box>'
    report = DatasetReport()
    images = read_cvat(cvat(tmp_path, box.format("", "true") + box.format(' rotation="90"', "0")), report)
    assert images[0].name == "s/a.png" and images[0].size == (200, 100) and not report
    upright, turned = quads(images)
    assert np.allclose(upright, [[20, 20], [80, 20], [80, 30], [20, 30]])
    assert np.allclose(turned, [[55, -5], [55, 55], [45, 55], [45, -5]])
    assert [item.difficulty for item in images[0].objects] == [1, 0]


def test_cvat_shapes_that_are_not_read_are_counted(tmp_path):
    report = DatasetReport()
    body = '<points label="a" points="1,2"/><polygon label="b" points="1,2;9,2;9,8;1,8"/>'
    body += '<mask label="c" rle="1"/>'
    assert [item.name for item in read_cvat(cvat(tmp_path, body), report)[0].objects] == ["b"]
    assert report.counts == {"shapes without an area (points, lines, brushes)": 2}


@pytest.mark.parametrize(("body", "words"), [
    ('<box label="a" xtl="9" ytl="1" xbr="2" ybr="3"/>', "negative"),
    ('<box label="a" xtl="9" ytl="1" xbr="12"/>', "ybr is 'None'"),
    ('<box xtl="1" ytl="1" xbr="2" ybr="3"/>', "no label"),
    ('<polygon label="a" points="1,2;3"/>', "not 'x,y;x,y'"),
    ('<polygon label="a" points="1,2;3,nan;4,5"/>', "not finite"),
    ('<box label="a" xtl="1" ytl="1" xbr="2" ybr="3"><attribute name="difficult">very</attribute></box>',
     "whole number"),
])  # fmt: skip
def test_cvat_shapes_that_are_refused(tmp_path, body, words):
    report = DatasetReport()
    read_cvat(cvat(tmp_path, body), report)
    with pytest.raises(DataError, match=words) as caught:
        report.enforce("fail")
    assert "s/a.png, shape 1" in caught.value.where


@pytest.mark.parametrize("text", ["<annotations><track/></annotations>", "<annotation/>", "no xml"])
def test_cvat_exports_that_are_refused(tmp_path, text):
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_cvat(path, DatasetReport())
    assert caught.value.where == str(path) and caught.value.fix
