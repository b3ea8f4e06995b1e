"""The base of all data sets of oriented boxes: the rules for odd labels and files, and their report.

The rules are listed for users in ``docs/datasets.md``.
"""

import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.dataset import force_full_init
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError, check_choice, nearest
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import SKIPPING, DatasetReport, Example, ReadingPolicy
from rsfoundation.datasets.oriented.annotations import UNREADABLE_IMAGES, AnnotationTable
from rsfoundation.datasets.samplers import spread
from rsfoundation.datasets.transforms.images import pipeline_loading
from rsfoundation.geometry.boxes import in_order, is_outside
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.rasters import image_size
from rsfoundation.visualization import palette


def complete_metainfo(
    metainfo: Mapping[str, Any] | None, classes: tuple[str, ...], root: str
) -> dict[str, Any]:
    """Fill in classes and colours where the user gave none.

    Args:
        metainfo: Of the config; ``classes`` may be the path of a class list.
        classes: The data set's own.
        root: Folder that the path of a class list may start from.

    Raises:
        DataError: The class list is missing, empty, or names a class twice.
    """
    meta = {"classes": classes, **(metainfo or {})}
    if isinstance(meta["classes"], str):
        meta["classes"] = read_class_list(_find(meta["classes"], Path(root)))
    meta["classes"] = tuple(meta["classes"])
    return {"palette": list(palette(len(meta["classes"]))), **meta}


def read_class_list(path: Path) -> tuple[str, ...]:
    """Read class names: one a line; or all on one line, separated by commas or blanks.

    Raises:
        DataError: The file is missing, empty, or names a class twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"class list cannot be read: {error}", where=path, fix="give the path of a text file"
        ) from error
    lines = [line.strip() for line in lines if line.strip()]
    names = lines
    if len(lines) == 1:
        separator = r"\s*,\s*" if "," in lines[0] else r"\s+"
        names = [name for name in re.split(separator, lines[0]) if name]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        problem = f"names {twice[0]!r} twice" if twice else "is empty"
        raise DataError(f"the class list {problem}", where=path, fix="write each class once, one a line")
    return tuple(names)


def _find(name: str, root: Path) -> Path:
    """Return the class list below the data folder if it is there, else as given."""
    return root / name if (root / name).is_file() else Path(name)


Small = Literal["drop", "ignore"]
MIN_SIDE = 2.0  # pixels; mmrotate 0.x drops smaller rectangles when it loads labels
_FLAT = 1e-3  # pixels; a side below it encodes to infinite regression targets
_NOT_USED, _UNKNOWN = -1, -2  # labels of classes of the family that the class list lacks, and of no class
_OPENED = 8  # images whose size is compared with the stated one: enough for sets that were resized


class OrientedDataset(BaseDetDataset):
    """Images with oriented boxes; a subclass finds and reads them, this class checks them.

    Boxes come out as quadrilaterals in image pixels (``box_type='qbox'``). Everything that is left out or
    repaired is logged and kept in :attr:`report`, with counts, files and first places.

    Args:
        data_root: Folder of the data set.
        metainfo: ``dict(classes=(...))`` sets other classes; a text instead of a tuple is a file with
            one class a line, or all on one line. ``palette`` sets their colours.
        upright_classes: Classes whose boxes are upright by custom: ``RandomRotate`` turns images with one
            of them by right angles.
        min_side: Boxes whose shorter side is under this many pixels are small. Those without area are
            left out always: no box can be encoded against them.
        small: Small boxes are left out (``drop``), or neither trained on nor counted in the metric
            (``ignore``).
        ignore_difficulty: Objects this difficult or more are neither trained on nor counted in the
            metric (1: difficult ones; 2: those truncated by a window border); ``None`` uses all.
        on_error: ``fail`` reads all labels, then stops with one error for everything that is broken or
            missing; ``skip`` leaves it out, and decodes every image once before the start to know which
            are broken; ``count`` leaves it out and decodes nothing.
        **kwargs: Passed to mmengine's ``BaseDataset``.

    Raises:
        ConfigError: An option has a value that it does not know.
        DataError: A folder is missing, or no image is left; under ``fail``, labels or images are broken or
            missing.
    """

    CLASSES: ClassVar[tuple[str, ...]] = ()
    FAMILY: ClassVar[frozenset[str]] = frozenset()  # classes of other versions: left out, not unknown

    def __init__(
        self,
        *,
        data_root: str,
        metainfo: Mapping[str, Any] | None = None,
        upright_classes: Sequence[str] = (),
        min_side: float = MIN_SIDE,
        small: Small = "drop",
        ignore_difficulty: int | None = None,
        on_error: ReadingPolicy = "fail",
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(ReadingPolicy), type(self).__name__)
        check_choice("small", small, get_args(Small), type(self).__name__)
        self.min_side = min_side
        self.small = small
        self.ignore_difficulty = ignore_difficulty
        self.on_error = on_error
        self.report = DatasetReport()
        meta = complete_metainfo(metainfo, self.CLASSES, data_root)
        self.upright_labels = self._upright(upright_classes, meta["classes"])
        kwargs["serialize_data"] = False  # the table holds columns already
        super().__init__(data_root=data_root, metainfo=meta, **kwargs)

    @abstractmethod
    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Find the images and read their labels.

        Args:
            report: Takes what is broken or missing, which is left out.

        Returns:
            The images and objects, with class names as written.
        """

    def class_key(self, name: str) -> str:
        """Return the text that class names are compared by; subclasses drop differences in spelling."""
        return name

    def load_data_list(self) -> AnnotationTable:
        """Read and check everything.

        Returns:
            One dict per image: ``img_id``, ``img_path``, ``instances`` with ``bbox`` (8 numbers),
            ``bbox_label``, ``ignore_flag``; ``width`` and ``height`` where known, ``window`` where only
            a part of the file is the image.
        """
        self.report = report = DatasetReport()
        table = self._with_labels(self.read_annotations(report))
        report.enforce(self.on_error)
        table = self._checked(table)
        if self.on_error == "skip":
            table = self._without_broken_images(table)
        if not len(table):
            raise DataError(
                f"no image is left{f': left out {report.describe()}' if report else ''}",
                where=self._described(),
                fix="check data_root and split, and the files that were left out",
            )
        report.images, report.objects = len(table), len(table.labels)
        for warning in [*self._warnings(table), *_size_warnings(table)]:
            report.warn(warning)
        report.log(self._described())
        return table

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return one entry, with ``upright_labels`` for the augmentation."""
        row = range(len(self.data_list))[idx]
        return {**self.data_list[row], "sample_idx": row, "upright_labels": self.upright_labels}

    def filter_data(self) -> AnnotationTable:
        """Leave out images without objects from training where ``filter_cfg`` says so.

        Raises:
            DataError: No image would be left.
        """
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return self.data_list
        kept = self.data_list.take(self.data_list.with_objects())
        if not len(kept):
            raise DataError(
                f"none of {len(self.data_list)} images has an object to train on",
                where=self._described(),
                fix="check the label folder and the class list, or set filter_cfg=None",
            )
        return kept

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> AnnotationTable:
        """Return the first (or last, below 0) entries, or those listed; mmengine calls it for ``indices``."""
        if isinstance(indices, int):
            return self.data_list[:indices] if indices >= 0 else self.data_list[indices:]
        return self.data_list.take(np.asarray(indices, dtype=np.int64))

    def _upright(self, names: Sequence[str], classes: Sequence[str]) -> list[int]:
        """Return labels; classes of the family that the class list lacks are passed over."""
        for name in names:
            if name not in classes and name not in self.FAMILY:
                hint = nearest(name, classes)
                raise ConfigError(
                    f"no class {name!r}{f'; {hint}' if hint else ''}",
                    where="upright_classes",
                    fix="correct it",
                )
        return [classes.index(name) for name in names if name in classes]

    def _with_labels(self, table: AnnotationTable) -> AnnotationTable:
        """Return the table with the data set's classes as labels, without objects of other classes."""
        classes = tuple(self._metainfo["classes"])
        keys = {self.class_key(name): index for index, name in enumerate(classes)}
        family = {self.class_key(name) for name in self.FAMILY}
        per_name = [
            keys.get(key, _NOT_USED if key in family else _UNKNOWN)
            for key in map(self.class_key, table.class_names)
        ]
        labels = np.array(per_name, dtype=np.int64)[table.labels]
        self._report_unknown_classes(table, np.flatnonzero(labels == _UNKNOWN))
        for index, name in enumerate(table.class_names):
            if per_name[index] == _NOT_USED:
                self._note(f"objects of class {name}", table, np.flatnonzero(table.labels == index))
        return replace(table, labels=labels, class_names=classes).keep(labels >= 0)

    def _report_unknown_classes(self, table: AnnotationTable, unknown: NDArray[np.int64]) -> None:
        """Report objects of no known class; one error for each name, with the nearest known one."""
        for label in np.unique(table.labels[unknown]):
            objects = unknown[table.labels[unknown] == label]
            name, file, line = table.class_names[label], *self._place(table, objects[0])
            hint = nearest(name, self._metainfo["classes"])
            files = len(np.unique(table.owners[objects]))
            count = f"({len(objects)} objects in {files} files)"
            error = DataError(
                f"unknown class {name!r}{f'; {hint}' if hint else ''} {count}",
                where=f"{file}:{line}" if line else file,
                fix="correct the label, list the class in metainfo=dict(classes=(...)) or in a file for "
                f"--classes, or leave such objects out with {SKIPPING}",
            )
            self.report.error("objects of unknown classes", error, *table.label_files[table.owners[objects]])

    def _checked(self, table: AnnotationTable) -> AnnotationTable:
        """Return the table with the objects that pass the rules."""
        limit = max(self.min_side, _FLAT)
        small = table.short_sides < (limit if self.small == "drop" else _FLAT)
        outside = ~small & is_outside(table.quads, _sizes(table))
        crossed = ~small & ~outside & table.crossed
        self._note(self._small_kind(), table, np.flatnonzero(small))
        self._note("boxes beyond the image", table, np.flatnonzero(outside))
        self._note("boxes with crossed corners (put in order)", table, np.flatnonzero(crossed))
        quads = table.quads.copy()
        quads[crossed] = in_order(quads[crossed])
        return replace(table, quads=quads, ignored=self._ignored(table)).keep(~small & ~outside)

    def _small_kind(self) -> str:
        dropped = self.min_side >= _FLAT and self.small == "drop"
        return f"boxes under {self.min_side:g} px" if dropped else "boxes without area"

    def _ignored(self, table: AnnotationTable) -> NDArray[np.int64]:
        """Return 1 for objects that are neither trained on nor counted."""
        ignored = np.zeros(len(table.quads), dtype=np.int64)
        if self.ignore_difficulty is not None:
            ignored[table.difficulties >= self.ignore_difficulty] = 1
        if self.small == "ignore":
            ignored[table.short_sides < self.min_side] = 1
        return ignored

    def _note(self, kind: str, table: AnnotationTable, objects: NDArray[np.int64]) -> None:
        """Count objects that a rule leaves out or repairs."""
        if len(objects):
            file, line = self._place(table, objects[0])
            example = Example(f"{file}:{line}" if line else file, kind)
            files = [Path(name).name for name in table.label_files[table.owners[objects]]]
            self.report.note(kind, files, example)

    def _place(self, table: AnnotationTable, row: int) -> tuple[str, int]:
        """Return label file and line of an object."""
        return str(table.label_files[table.owners[row]]), int(table.lines[row])

    def _without_broken_images(self, table: AnnotationTable) -> AnnotationTable:
        """Decode every image once and leave out those that cannot be decoded."""
        paths = np.unique(table.paths)
        check = partial(_decode_error, pipeline_loading(self.pipeline.transforms))
        errors = run_jobs(check, paths.tolist(), workers=os.cpu_count() or 1, title="decoding images")
        for path, error in zip(paths, errors, strict=True):
            if error is not None:
                self.report.error(UNREADABLE_IMAGES, error, path)
        whole = [error is None for error in errors]
        return table.take(np.flatnonzero(np.isin(table.paths, paths[np.array(whole, dtype=bool)])))

    def _warnings(self, table: AnnotationTable) -> list[str]:
        """Return what looks wrong about the labels as a whole; subclasses add to it."""
        if self.test_mode:
            return []
        if not len(table.labels):
            return ["no labelled object at all: nothing can be learned from it"]
        seen = set(np.unique(table.labels).tolist())
        absent = [name for index, name in enumerate(self._metainfo["classes"]) if index not in seen]
        return [f"no object of {len(absent)} classes: {', '.join(absent)}"] if absent else []

    def _described(self) -> str:
        """Return the name of the data set in the log."""
        return str(self.data_root)


def _size_warnings(table: AnnotationTable) -> list[str]:
    """Open a few images, and warn where their size is not that of their name or label file."""
    stated = np.flatnonzero((table.sizes[:, 0] >= 0) & (table.windows[:, 2] == 0))
    odd = []
    for row in spread(stated.tolist(), _OPENED):
        width, height = table.sizes[row]
        found = _size(str(table.paths[row]))
        if found not in (None, (width, height)):
            odd.append(f"{table.names[row]} is {found[0]} x {found[1]}, not {width} x {height}")
    opened = min(_OPENED, len(stated))
    return [f"{len(odd)} of {opened} images opened have another size than stated: {odd[0]}"] if odd else []


def _size(path: str) -> tuple[int, int] | None:
    try:
        return image_size(Path(path))
    except DataError:
        return None  # reported when it is loaded


def _sizes(table: AnnotationTable) -> NDArray[np.float64]:
    """Return width and height ``(M, 2)`` of the image of every object, infinite where it is not known."""
    return np.where(table.sizes >= 0, table.sizes.astype(np.float64), np.inf)[table.owners]


def _decode_error(loading: ImageLoading, path: str) -> DataError | None:
    try:
        loading.read(path)
    except DataError as error:
        return error
    return None
