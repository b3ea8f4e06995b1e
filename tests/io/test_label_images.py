"""What the numbers and colours of mask files mean."""

import numpy as np
import pytest
from PIL import Image
from raster_files import write_tiff

from rsfoundation.core.errors import DataError
from rsfoundation.io.label_images import (
    as_palette,
    decode_change,
    decode_mask,
    read_label_image,
    unknown_label_error,
)

PALETTE = as_palette([[10, 10, 10], [255, 0, 0], [0, 0, 255]])  # ground, roof, water
COUNTS = [14983, 501, 900]
LABELS = np.repeat(np.arange(3, dtype=np.uint8), COUNTS).reshape(128, 128)
COLOURS = np.array(PALETTE, np.uint8)[LABELS]
CHANGED = np.zeros((128, 128), np.uint8)
CHANGED[10:44, 20:54] = CHANGED[60:94, 50:84] = 1
TRUE_CHANGE = 2312


def save(path, values, **options):
    if path.suffix in (".tif", ".tiff") and not isinstance(values, Image.Image):
        return write_tiff(path, values, **options)
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(path, **options)
    return path


def indexed(values, palette):
    picture = Image.fromarray(values)
    picture.putpalette([channel for colour in palette for channel in colour])
    return picture


def counts(labels):
    return np.bincount(labels.reshape(-1), minlength=3).tolist()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_whose_colours_are_the_data_sets_is_read_by_colour(tmp_path, raster_library, suffix):
    """Savers order colours by how often they occur: by position, ground and roof change places."""
    quantized = Image.fromarray(COLOURS).quantize(8, dither=Image.Dither.NONE)
    assert counts(np.asarray(quantized)) != COUNTS
    labels, bad = decode_mask(read_label_image(save(tmp_path / f"a{suffix}", quantized)), PALETTE)
    assert counts(labels) == COUNTS and np.array_equal(labels, LABELS) and not bad.any()


def test_a_palette_with_a_foreign_colour_is_read_by_number(tmp_path):
    file = save(tmp_path / "a.png", indexed(LABELS, [(0, 0, 255), (255, 0, 0), (1, 2, 3)]))
    labels, bad = decode_mask(read_label_image(file), PALETTE)
    assert np.array_equal(labels, LABELS) and not bad.any()
    swapped = save(tmp_path / "b.png", indexed(LABELS, [(0, 0, 255), (255, 0, 0), (10, 10, 10)]))
    assert decode_mask(read_label_image(swapped), PALETTE)[0][0, 0] == 2
    assert decode_mask(read_label_image(swapped), PALETTE, label_map={1: 1})[0][0, 0] == 0, (
        "numbers are named"
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_numbers_of_every_type_and_colours_of_every_tiff(tmp_path, raster_library, dtype):
    numbers = LABELS.astype(dtype)
    numbers[0, 0] = 255
    labels, bad = decode_mask(read_label_image(write_tiff(tmp_path / "a.tif", numbers)), PALETTE)
    assert labels[0, 0] == 255 and np.array_equal(labels[1:], LABELS[1:]) and not bad.any()
    for tags in (dict(photometric="rgb"), dict(photometric="minisblack"), dict(planar=True)):
        file = write_tiff(tmp_path / "b.tif", np.dstack([COLOURS, CHANGED]), alpha=2, **tags)
        assert np.array_equal(decode_mask(read_label_image(file), PALETTE)[0], LABELS), tags


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "I;16"])
def test_other_kinds_of_png(tmp_path, mode):
    binary = LABELS.clip(max=1)
    if mode == "1":
        picture = Image.fromarray(binary.astype(bool))
    elif mode == "LA":
        picture = Image.fromarray(np.dstack([binary, np.full_like(binary, 255)]))
    elif mode == "RGBA":
        picture = Image.fromarray(np.dstack([np.array(PALETTE, np.uint8)[binary], CHANGED * 255]))
    else:
        picture = Image.fromarray(binary.astype(np.uint16))
    image = read_label_image(save(tmp_path / "a.png", picture))
    assert np.array_equal(decode_mask(image, PALETTE)[0], binary)


def test_a_label_map_replaces_numbers_of_the_file_first(tmp_path):
    two = as_palette([[0, 0, 0], [255, 255, 255]])
    image = read_label_image(save(tmp_path / "a.png", CHANGED * 255))
    labels, bad = decode_mask(image, two)
    assert (labels == 255).sum() == TRUE_CHANGE, "255 is ignored"
    labels, bad = decode_mask(image, two, label_map={255: 1})
    assert (labels == 1).sum() == TRUE_CHANGE and not bad.any()
    wide = read_label_image(save(tmp_path / "b.png", CHANGED.astype(np.uint16) * 4000))
    assert (decode_mask(wide, two, label_map={4000: 1})[0] == 1).sum() == TRUE_CHANGE
    assert decode_mask(wide, two)[1].sum() == TRUE_CHANGE
    swapped = decode_mask(
        read_label_image(save(tmp_path / "c.png", LABELS)), PALETTE, label_map={0: 2, 2: 0}
    )[0]
    assert counts(swapped) == COUNTS[::-1], "no number is replaced twice"


def fix_of(file, palette=PALETTE, **options):
    image = read_label_image(file)
    _, bad = decode_mask(image, palette, **options)
    error = unknown_label_error(image, bad, palette, options.get("reduce_zero_label", False))
    assert error.where == str(file)
    return error


def test_the_fix_named_is_the_one_that_works(tmp_path):
    from_one = save(tmp_path / "a.png", LABELS + 1)
    assert "reduce_zero_label=True" in fix_of(from_one).fix
    labels, bad = decode_mask(read_label_image(from_one), PALETTE, reduce_zero_label=True)
    assert np.array_equal(labels, LABELS) and not bad.any()
    two = as_palette([[0, 0, 0], [255, 255, 255]])
    assert "label_map={100: 1}" in fix_of(save(tmp_path / "b.png", CHANGED * 100), two).fix
    equal = fix_of(save(tmp_path / "c.png", np.repeat(LABELS[..., None], 3, axis=2)))
    assert "three equal channels" in equal.fix and "(0, 0, 0)" in equal.what
    far = fix_of(save(tmp_path / "d.png", LABELS * 90))
    assert "label_map={90: CLASS}" in far.fix and "off_palette='ignore'" in far.fix
    assert "first: 90" in far.what and "known are 0..2 and 255" in far.what
    assert "reduce_zero_label" not in fix_of(save(tmp_path / "e.png", LABELS + 2), reduce_zero_label=True).fix
    assert "metainfo=dict(palette" in fix_of(save(tmp_path / "f.png", COLOURS // 2)).fix


def test_numbers_that_are_not_whole_are_refused(tmp_path, raster_library):
    for value in (0.25, np.nan):
        file = write_tiff(tmp_path / "a.tif", np.array([[0, 1, value]], np.float32))
        with pytest.raises(DataError, match="expected whole numbers") as caught:
            read_label_image(file)
        assert caught.value.where == str(file)


def change_files(folder):
    """One change in every way that the public data sets and rasterised polygons are written."""
    two = np.zeros((128, 128, 3), np.uint8)
    two[10:44, 20:54], two[60:94, 50:84] = (0, 0, 255), (255, 0, 0)
    grey = CHANGED * 255
    return {
        "0 and 255": save(folder / "a.png", grey),
        "0 and 1": save(folder / "b.png", CHANGED),
        "S2Looking's two colours": save(folder / "c.png", two),
        "dark colours": save(folder / "d.png", two // 8),
        "palette": save(folder / "e.png", indexed(CHANGED, [(0, 0, 0), (255, 0, 0)])),
        "palette, black last": save(folder / "f.png", indexed(1 - CHANGED, [(255, 0, 0), (0, 0, 0)])),
        "palette of one colour": save(folder / "g.png", indexed(CHANGED, [(9, 9, 9)] * 2)),
        "grey palette": save(folder / "h.png", indexed(grey, [(n, n, n) for n in range(256)])),
        "float": save(folder / "i.tif", CHANGED.astype(np.float32)),
        "8-bit TIFF": save(folder / "j.tif", grey),
        "16-bit TIFF": save(folder / "k.tif", CHANGED.astype(np.uint16) * 65535),
        "three equal channels": save(folder / "l.png", np.repeat(grey[..., None], 3, axis=2)),
        "colours with alpha": save(folder / "m.png", np.dstack([two, np.full_like(CHANGED, 255)])),
        "JPEG": save(folder / "n.jpg", grey, quality=100),
        "one bit": save(folder / "o.png", Image.fromarray(CHANGED.astype(bool))),
    }


def test_change_is_read_however_it_is_written(tmp_path, raster_library):
    for name, file in change_files(tmp_path).items():
        label = decode_change(read_label_image(file))
        assert label.dtype == np.uint8 and set(np.unique(label)) == {0, 1}, name
        assert (label != CHANGED).sum() <= (80 if name == "JPEG" else 0), name


def test_labels_without_change(tmp_path):
    nothing = np.zeros((9, 9), np.uint8)
    for index, values in enumerate(
        (
            nothing,
            nothing.astype(np.float32),
            np.dstack([nothing] * 3),
            indexed(nothing, [(255, 255, 255), (0, 0, 0)]),
        )
    ):
        file = save(tmp_path / f"{index}{'.tif' if index == 1 else '.png'}", values)
        assert not decode_change(read_label_image(file)).any()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 20, (40, 40), dtype=np.uint8))
    assert not decode_change(read_label_image(save(tmp_path / "a.jpg", noise))).any()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (CHANGED * 2, "0, 2;"),
        (CHANGED + 1, "1, 2;"),
        (CHANGED * 254 + 1, "1, 255;"),
        (np.array([[0, 1, 255]], np.uint8), "0, 1, 255;"),
        (CHANGED.astype(np.int16) * -1, "-1, 0;"),
        (np.arange(100, dtype=np.uint8)[None], "0, 1, 2, 3, 4, 5, 6, 7 and 92 more;"),
    ],
)
def test_other_values_of_change_are_named(tmp_path, values, found):
    file = save(tmp_path / "a.tif", values)
    with pytest.raises(DataError, match=f"holds {found} expected 0 and 1, 0 and 255, or colours") as caught:
        decode_change(read_label_image(file))
    assert caught.value.where == str(file) and "format_seg_map=None" in caught.value.fix


def test_a_palette_without_black_does_not_say_what_changed(tmp_path):
    file = save(tmp_path / "a.png", indexed(CHANGED, [(255, 255, 255), (255, 0, 0)]))
    with pytest.raises(DataError, match=r"\(255, 0, 0\), \(255, 255, 255\)"):
        decode_change(read_label_image(file))


def test_broken_and_missing_masks_are_named(tmp_path, raster_library):
    for name in ("a.png", "a.tif"):
        with pytest.raises(DataError, match="cannot be read"):
            read_label_image(tmp_path / name)
        (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(DataError, match=r"cannot be (read|decoded)") as caught:
            read_label_image(tmp_path / name)
        assert caught.value.where.endswith(name)
    Image.new("CMYK", (3, 3)).save(tmp_path / "b.jpg")
    with pytest.raises(DataError, match="pixels of kind CMYK"):
        read_label_image(tmp_path / "b.jpg")
