"""Whatever a label file holds, its reader returns or raises a DataError that names the file."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.base import read_class_list
from rsfoundation.io.coco import read_coco
from rsfoundation.io.dota import read_dota_txt
from rsfoundation.io.label_tools import read_cvat, read_label_studio
from rsfoundation.io.xml_labels import read_fair1m_xml, read_voc_xml
from rsfoundation.io.yolo import read_yolo_classes, read_yolo_txt

VOC = (
    "<annotation><size><width>64</width><height>64</height></size><object><name>ship</name><difficult>0</difficult>"
    "<robndbox><cx>10</cx><cy>20</cy><w>8</w><h>4</h><angle>0.5</angle></robndbox></object></annotation>"
)
FAIR1M = (
    "<annotation><objects><object><possibleresult><name>Bus</name></possibleresult><points><point>1.0,2.0</point>"
    "<point>9,2</point><point>9,6</point><point>1,6</point><point>1.0,2.0</point></points></object></objects></annotation>"
)
COCO = json.dumps(
    dict(
        images=[dict(id=1, file_name="a.png", width=64, height=64)],
        annotations=[
            dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 8, 4], segmentation=[[1, 2, 9, 2, 9, 6]])
        ],
        categories=[dict(id=1, name="ship")],
    )
)
STUDIO = json.dumps(
    [
        dict(
            data=dict(image="/data/upload/1/a.png"),
            annotations=[
                dict(
                    result=[
                        dict(
                            original_width=64, original_height=48,
                            value=dict(x=1, y=2, width=8, height=4, rotation=30, rectanglelabels=["ship"]),
                        ),
                        dict(
                            original_width=64, original_height=48,
                            value=dict(points=[[1, 2], [8, 2], [8, 9]], polygonlabels=["ship"]),
                        ),
                    ]
                )
            ],
        )
    ]
)  # fmt: skip
CVAT = (
    '<annotations><image id="0" name="a.png" width="64" height="48"><box label="ship" xtl="1" ytl="2" '
    'xbr="9" ybr="6" rotation="30"/><polygon label="ship" points="1,2;8,2;8,9"/></image></annotations>'
)  # fmt: skip
READERS = {
    "dota": (read_dota_txt, "imagesource:GoogleEarth\ngsd:0.2\n10 10 30 10 30 20 10 20 ship 0\n"),
    "yolo": (
        lambda path, report=None: read_yolo_txt(path, (64, 48), ["ship"], report),
        "0 .1 .1 .3 .1 .3 .2 .1 .2\n",
    ),
    "voc": (read_voc_xml, VOC),
    "fair1m": (read_fair1m_xml, FAIR1M),
    "coco": (lambda path, report=None: read_coco(path, report or DatasetReport()), COCO),
    "label studio": (lambda path, report=None: read_label_studio(path, report or DatasetReport()), STUDIO),
    "cvat": (lambda path, report=None: read_cvat(path, report or DatasetReport()), CVAT),
    "class list": (lambda path, report=None: read_class_list(path), "ship\nplane\n"),
    "data file": (lambda path, report=None: read_yolo_classes(path), "names: [ship, plane]\n"),
}


def edits(text):
    """Return a strategy of texts that are truncated, or have a part replaced."""
    places = st.integers(0, len(text))
    part = st.one_of(
        st.text(max_size=12),
        st.sampled_from(["nan", "inf", "1e999", "-", "null", "[]", "{}", "\x00", "<", "٣"]),
    )
    changed = st.tuples(places, places, part).map(lambda e: text[: min(e[:2])] + e[2] + text[max(e[:2]) :])
    return st.one_of(places.map(lambda end: text[:end]), changed).map(
        lambda new: new.encode("utf-8", "surrogatepass")
    )


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_errors_that_name_the_file(name, tmp_path, data):
    read, sound = READERS[name]
    path = tmp_path / "label.txt"
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=200), edits(sound))))
    try:
        read(path)
    except DataError as error:
        assert "label.txt" in str(error.where)
    report = DatasetReport()
    try:
        found = read(path, report)
    except DataError as error:  # the file as a whole is unreadable
        assert "label.txt" in str(error.where)
        return
    for examples in report.examples.values():
        assert all("label.txt" in example.where for example in examples)
    if name in ("dota", "yolo", "voc", "fair1m"):
        quads = np.array([item.quad for item in found.objects])
        assert np.isfinite(quads).all()
    if name in ("label studio", "cvat"):
        assert all(np.isfinite(item.quad).all() for image in found for item in image.objects)


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(name, tmp_path):
    read, sound = READERS[name]
    path = tmp_path / "label.txt"
    path.write_text(sound)
    report = DatasetReport()
    assert read(path, report) and not any(report.errors.values())
