"""HRSC2016: one class or 31, boxes by angle, and sizes the right way round."""

import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.hrsc import HRSCDataset
from rsfoundation.geometry.boxes import normalise, quad_to_rbox


def ship(identity="100000007", box=(30, 20, 24, 8, -0.5), difficult=0):
    names = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")
    numbers = "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, box, strict=True))
    return (
        f"<HRSC_Object><Class_ID>{identity}</Class_ID><difficult>{difficult}</difficult>"
        f"{numbers}</HRSC_Object>"
    )


def xml(*ships):
    size = "<Img_SizeWidth>64</Img_SizeWidth><Img_SizeHeight>48</Img_SizeHeight>"
    return f"<HRSC_Image>{size}<HRSC_Objects>{''.join(ships)}</HRSC_Objects></HRSC_Image>"


@pytest.fixture
def hrsc(tmp_path, draw, write):
    for name, content in (("100000001", xml(ship(), ship("100000033"))), ("100000002", xml())):
        draw(tmp_path / f"FullDataSet/AllImages/{name}.bmp")
        write(tmp_path / f"FullDataSet/Annotations/{name}.xml", content)
    write(tmp_path / "ImageSets/trainval.txt", "100000001\n100000002\n")
    return tmp_path


def read(root, **kwargs):
    return HRSCDataset(data_root=str(root), **kwargs)


def test_one_class_and_boxes_by_angle(hrsc):
    data = read(hrsc)
    assert data.metainfo["classes"] == ("ship",) and data.get_cat_ids(0) == [0, 0]
    box = quad_to_rbox([data.get_data_info(0)["instances"][0]["bbox"]])
    np.testing.assert_allclose(box, normalise([(30, 20, 24, 8, -0.5)]), atol=1e-4)
    assert data.get_data_info(1)["instances"] == []


def test_31_classes(hrsc):
    data = read(hrsc, classwise=True)
    assert len(data.metainfo["classes"]) == 31
    assert [data.metainfo["classes"][label] for label in data.get_cat_ids(0)] == [
        "Arleigh Burke",
        "Invincible-class",
    ]


def test_an_id_of_no_class_is_reported(hrsc, write):
    write(hrsc / "FullDataSet/Annotations/100000002.xml", xml(ship("100000021")))
    assert len(read(hrsc).get_cat_ids(1)) == 1
    with pytest.raises(DataError, match="unknown class '100000021'"):
        read(hrsc, classwise=True)
    assert read(hrsc, classwise=True, on_error="skip").report.counts == {"objects of unknown classes": 1}


def test_missing_numbers_stop_or_are_counted(hrsc, write):
    write(hrsc / "FullDataSet/Annotations/100000002.xml", xml(ship().replace("mbox_ang", "mbox_angle")))
    with pytest.raises(DataError, match="no <mbox_ang>") as caught:
        read(hrsc)
    assert caught.value.where.endswith("100000002.xml, object 1")
    assert read(hrsc, on_error="skip").report.files == {"malformed objects": ["100000002.xml"]}


def test_negative_sides_stop_or_are_counted(hrsc, write):
    write(hrsc / "FullDataSet/Annotations/100000002.xml", xml(ship(box=(30, 20, -24, 8, 0))))
    with pytest.raises(DataError, match="a side is negative: -24 x 8"):
        read(hrsc)
    assert read(hrsc, on_error="skip").report.counts == {"malformed objects": 1}


def test_files_of_another_format_are_refused(hrsc, write):
    write(hrsc / "FullDataSet/Annotations/100000002.xml", "<annotation><object/></annotation>")
    with pytest.raises(DataError, match="no label file of HRSC2016") as caught:
        read(hrsc)
    assert caught.value.where.endswith("100000002.xml")
    assert read(hrsc, on_error="skip").report.counts == {"unreadable label files": 1}


def test_a_list_that_is_no_text_is_named(hrsc):
    (hrsc / "ImageSets/trainval.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="cannot be read as text") as caught:
        read(hrsc)
    assert caught.value.where.endswith("trainval.txt")


def test_the_real_sample_is_wider_than_high(samples, tmp_path, draw):
    draw(tmp_path / "FullDataSet/AllImages/100000006.bmp", 1172, 816)
    (tmp_path / "FullDataSet/Annotations").symlink_to(samples / "hrsc_mmrotate/FullDataSet/Annotations")
    (tmp_path / "demo.txt").write_text("100000006\n")
    entry = read(tmp_path, split="demo").get_data_info(0)
    assert (entry["width"], entry["height"]) == (1172, 816)
    (box,) = quad_to_rbox([entry["instances"][0]["bbox"]])
    np.testing.assert_allclose(box, (341.2143, 443.3325, 778.4297, 178.2595, -1.122944), atol=1e-3)
    with pytest.raises(DataError, match="100000006 is listed and does not exist"):
        read(samples / "hrsc_mmrotate", split="demo")
