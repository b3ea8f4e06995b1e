"""Oriented boxes in the files of labelling tools and of geographic information systems."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.reports import SKIPPING, DatasetReport
from rsfoundation.datasets.oriented.annotations import (
    NO_IMAGE,
    NO_LABEL,
    ORPHANS,
    UNREADABLE_IMAGES,
    UNREADABLE_LABELS,
    AnnotationTable,
    ImageLabels,
    join_splits,
    read_folders,
)
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.sar_ships import read_coco_boxes
from rsfoundation.io.dota import IMAGE_SUFFIXES, LabelledBox, list_images, pair_up
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.label_tools import TOOL_READERS, corners_of
from rsfoundation.io.rasters import RasterReader, image_size
from rsfoundation.io.vectors import VECTOR_FORMATS, read_labelled_polygons
from rsfoundation.io.xml_labels import read_voc_xml
from rsfoundation.registry import DATASETS

ToolForm = Literal["coco", "voc", "label-studio", "cvat", "vector"]
_SUFFIXES = {"coco": ".json", "label-studio": ".json", "cvat": ".xml"}
_IMAGE_FOLDERS = ("images", "JPEGImages", "imgs", "")
_XML_FOLDERS = ("Annotations", "labels", "xml", "")
_OWN_FILES = ("manifest.json",)


@DATASETS.register_module()
class LabelToolDataset(OrientedDataset):
    """Images with the label files of a tool: COCO json, VOC (roLabelImg), Label Studio, CVAT, or vectors.

    ``<split>/images`` holds the images, or the split folder itself; next to it are

    - ``coco``: the only ``*.json``; polygons of four points keep their corners;
    - ``voc``: ``Annotations/<image>.xml``, or xml files next to the images;
    - ``label-studio``: the only ``*.json``, exported in the format JSON;
    - ``cvat``: the only ``*.xml``, exported as "CVAT for images 1.1";
    - ``vector``: ``labels/<image>.gpkg`` (or geojson, parquet, fgb, shp) for images with a CRS, or the only
      such file, for all images. Coordinates in pixel edges become pixel centres.

    Args:
        data_root: Folder of the data set.
        form: Which of them.
        split: Folder of the split; or several, read as one; ``.`` for the folder itself.
        metainfo: See :class:`OrientedDataset`; the classes are those of the files, in alphabetical order,
            where none are given.
        class_column: Column of vector files with the class names.
        **kwargs: See :class:`OrientedDataset`.

    Raises:
        DataError: A folder or label file is missing; under ``fail``, a label or image is broken.
    """

    def __init__(
        self,
        *,
        data_root: str,
        form: ToolForm,
        split: str | Sequence[str] = "train",
        metainfo: dict[str, Any] | None = None,
        class_column: str = "class",
        **kwargs: Any,
    ) -> None:
        check_choice("form", form, get_args(ToolForm), type(self).__name__)
        self.form, self.class_column = form, class_column
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self._first: tuple[AnnotationTable, DatasetReport] | None = None
        meta = dict(metainfo or {})
        if "classes" not in meta:
            found = DatasetReport()
            table = self._read(Path(data_root), found)
            self._first = table, found
            meta["classes"] = tuple(sorted(table.class_names))
        super().__init__(data_root=data_root, metainfo=meta, **kwargs)

    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Read the label files of every split."""
        if self._first is None:
            return self._read(Path(self.data_root), report)
        (table, found), self._first = self._first, None
        report.merge(found)
        return table

    def _read(self, root: Path, report: DatasetReport) -> AnnotationTable:
        return join_splits([self._read_split(root / split, report) for split in self.splits], report)

    def _read_split(self, folder: Path, report: DatasetReport) -> AnnotationTable:
        images = _image_folder(folder)
        if self.form == "voc":
            labels = next((folder / n for n in _XML_FOLDERS if [*(folder / n).glob("*.xml")]), None)
            files = pair_up(list_images(images), None if labels is None else sorted(labels.glob("*.xml")))
            return read_folders([files], read_voc_xml, report, needs_labels=True)
        if self.form == "vector":
            return AnnotationTable.build(self._vectors(folder, report))
        label = _only(folder, _SUFFIXES[self.form])
        if self.form == "coco":
            return read_coco_boxes(label, images, report, corners=True)
        return AnnotationTable.build(self._tool(label, images, report))

    def _tool(self, label: Path, folder: Path, report: DatasetReport) -> Iterator[ImageLabels]:
        files = {path.name: path for path in list_images(folder)}
        for image in TOOL_READERS[self.form](label, report):
            file = _find_image(files, image.name)
            if file is None:
                error = DataError(
                    "a listed image does not exist", where=folder / image.name, fix="add all images"
                )
                report.error(NO_IMAGE, error, image.name)
                continue
            try:
                size = image.size or image_size(file)
            except DataError as error:
                report.error(UNREADABLE_IMAGES, error, file)
                continue
            yield ImageLabels(file, image.objects, label, size)
        if files:
            what = f"{len(files)} images are not in the label file"
            fix = f"label them, or leave such images out with {SKIPPING}"
            report.error(NO_LABEL, DataError(what, where=label, fix=fix), *files)

    def _vectors(self, folder: Path, report: DatasetReport) -> Iterator[ImageLabels]:
        for image, label, common in vector_files(folder, report):
            kind, file = UNREADABLE_IMAGES, image
            try:
                with RasterReader(image) as raster:
                    reference, size = raster.georeference, (raster.width, raster.height)
                kind, file = UNREADABLE_LABELS, label
                shapes, names, hard = polygons_of(
                    image, reference, label, common=common, column=self.class_column
                )
                rings = [shapely.get_coordinates(ring) for ring in shapely.get_exterior_ring(shapes)]
                objects = [
                    LabelledBox(corners_of(ring - 0.5, label, report), name, difficulty)
                    for ring, name, difficulty in zip(rings, names, hard, strict=True)
                ]
            except DataError as error:
                report.error(kind, error, file)
            except ValueError as error:
                report.error(
                    kind, DataError(f"malformed polygon: {error}", where=label, fix="repair it"), file
                )
            else:
                inside = [o for o in objects if _touches(o.quad, size)] if common else objects
                yield ImageLabels(image, inside, label, size)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"


def _image_folder(folder: Path) -> Path:
    """Return the folder of the images of a split."""
    for name in _IMAGE_FOLDERS:
        place = folder / name
        if place.is_dir() and any(path.suffix.lower() in IMAGE_SUFFIXES for path in place.iterdir()):
            return place
    raise DataError(
        "no images of the split",
        where=folder,
        fix="point at the folder that holds images/ and the label file",
    )


def _only(folder: Path, suffix: str) -> Path:
    """Return the label file of a split: the only one with a suffix, there or in ``annotations/``."""
    found = [*folder.glob(f"*{suffix}"), *folder.glob(f"annotations/*{suffix}")]
    found = sorted(path for path in found if path.name not in _OWN_FILES)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"expected one *{suffix}, found {names}", where=folder, fix="keep the label file alone there"
        )
    return found[0]


def _is_vector(path: Path) -> bool:
    return path.suffix.lower().lstrip(".") in VECTOR_FORMATS


def vector_files(folder: Path, report: DatasetReport) -> list[tuple[Path, Path, bool]]:
    """Return the images of a split with their vector files, and whether a file is that of all images.

    Args:
        folder: Of the split.
        report: Takes images without a file, and files without an image.

    Raises:
        DataError: There are no images, or no vector file, or several for all images.
    """
    images = list_images(_image_folder(folder))
    named = {p.stem: p for p in sorted((folder / "labels").glob("*")) if _is_vector(p)}
    if not named:
        common = _only_vector(folder)
        return [(image, common, True) for image in images]
    found = [(image, named[image.stem], False) for image in images if image.stem in named]
    bare = [image for image in images if image.stem not in named]
    if bare:
        problem = DataError(
            f"{len(bare)} images have no label file", where=bare[0],
            fix=f"add the files, or leave such images out with {SKIPPING}",
        )  # fmt: skip
        report.error(NO_LABEL, problem, *bare)
    stems = {image.stem for image in images}
    report.note(ORPHANS, [path.name for stem, path in named.items() if stem not in stems])
    return found


def polygons_of(
    image: Path, reference: GeoReference, label: Path, *, common: bool, column: str
) -> tuple[NDArray[np.object_], list[str], list[int]]:
    """Return the labelled polygons of an image, as :func:`.read_labelled_polygons` does.

    Args:
        image: The image.
        reference: Its georeference.
        label: The vector file.
        common: Whether the file is that of all images.
        column: The column of class names.

    Raises:
        DataError: The file is broken; or it is that of all images, and this one has no place on the ground.
    """
    if common and not reference.is_referenced:
        fix = "give it its CRS (gdal_edit.py -a_srs EPSG:n), or label each image in its own file"
        raise DataError("one label file for all images, and this one has no CRS", where=image, fix=fix)
    return read_labelled_polygons(label, reference, column)


def _only_vector(folder: Path) -> Path:
    found = [path for path in sorted(folder.iterdir()) if _is_vector(path)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise DataError(
        f"expected labels/<image>.gpkg, or one vector file; found {names}", where=folder,
        fix=f"put one file there: {', '.join(VECTOR_FORMATS)}",
    )  # fmt: skip


def _find_image(files: dict[str, Path], name: str) -> Path | None:
    """Take the file of an image; Label Studio puts eight digits and a hyphen before names of uploads."""
    name = PurePosixPath(name.replace("\\", "/")).name
    head, _, rest = name.partition("-")
    plain = rest if len(head) == 8 and all(c in "0123456789abcdef" for c in head) else name
    return files.pop(name, None) or files.pop(plain, None)


def _touches(quad: Sequence[float], size: tuple[int, int]) -> bool:
    """Return whether the middle of an object is in the image: it belongs to that one of several rasters."""
    x, y = sum(quad[::2]) / 4, sum(quad[1::2]) / 4
    return -0.5 <= x < size[0] - 0.5 and -0.5 <= y < size[1] - 0.5
