"""What all data sets of oriented boxes share: the rules for odd labels, and the report of what they hit.

The rules are listed for users in ``docs/datasets.md``.
"""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmengine.dataset import force_full_init
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError, check_choice, nearest
from rsfoundation.core.reports import SKIPPING, DatasetReport, Policy
from rsfoundation.datasets.oriented.annotations import Entries, LabelTable, Scan, file_name
from rsfoundation.geometry.boxes import in_order, is_outside
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.rasters import image_size
from rsfoundation.visualization import palette


def complete_metainfo(
    metainfo: Mapping[str, Any] | None, classes: tuple[str, ...], root: str
) -> dict[str, Any]:
    """Fill in classes and colours where the user gave none.

    Args:
        metainfo: What the config says; ``classes`` may be the path of a class list.
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
    """Read class names: one a line; or all on one line, parted by commas or blanks.

    Raises:
        DataError: The file is missing, empty, or names a class twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"class list cannot be read: {error}", where=path) from error
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
    """Return the class list below the data folder if it lies there, else as given."""
    return root / name if (root / name).is_file() else Path(name)


Small = Literal["drop", "ignore"]
MIN_SIDE = 2.0  # pixels; mmrotate 0.x drops smaller rectangles when it loads labels
_FLAT = 1e-3  # pixels; a side below it encodes to infinite regression targets
_ELSEWHERE, _UNKNOWN = -1, -2
_OPENED = 8  # images whose size is compared with the stated one: enough for sets that were resized


class OrientedDataset(BaseDetDataset):
    """Images with oriented boxes; a subclass finds and reads them, this class checks them.

    Boxes come out as quadrilaterals in image pixels (``box_type='qbox'``). What is left out or mended
    is logged, and kept with the files' names in :attr:`left_out`; remarks on the whole in :attr:`remarks`.

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
            metric (1: difficult ones; 2: those cut by a window border); ``None`` uses all.
        on_error: ``fail`` stops at the first broken image or label; ``skip`` leaves them out, and
            decodes every image once before the start to know which are broken.
        **kwargs: Passed to mmengine's ``BaseDataset``.

    Raises:
        ConfigError: An option has a value that it does not know.
        DataError: A folder is missing, or no image is left; under ``fail``, a label or image is broken or
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
        on_error: Policy = "fail",
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(Policy), type(self).__name__)
        check_choice("small", small, get_args(Small), type(self).__name__)
        self.min_side = min_side
        self.small = small
        self.ignore_difficulty = ignore_difficulty
        self.on_error = on_error
        self.left_out = DatasetReport()
        self.remarks: list[str] = []
        meta = complete_metainfo(metainfo, self.CLASSES, data_root)
        self.upright_labels = self._upright(upright_classes, meta["classes"])
        kwargs["serialize_data"] = False  # entries are columns already
        super().__init__(data_root=data_root, metainfo=meta, **kwargs)

    @abstractmethod
    def scan(self) -> Scan:
        """Find the images and read their labels."""

    def class_key(self, name: str) -> str:
        """Return what class names are compared by; subclasses drop differences in spelling."""
        return name

    def load_data_list(self) -> Entries:
        """Read and check everything.

        Returns:
            One dict per image: ``img_id``, ``img_path``, ``instances`` with ``bbox`` (8 numbers),
            ``bbox_label``, ``ignore_flag``; ``width`` and ``height`` where known, ``window`` where only
            a part of the file is the image.
        """
        self.remarks = []
        scan = self.scan()
        self.left_out = scan.left_out
        entries = self._checked(scan, self._labels(scan))
        if self.on_error == "skip":
            entries = self._drop_broken_images(entries)
        if not len(entries):
            raise DataError(
                f"no image is left{f': left out {self.left_out.describe()}' if self.left_out else ''}",
                where=self._described(),
                fix="check data_root and split, and what was left out",
            )
        self.remarks += [*self._remarks(entries), *_size_remarks(entries)]
        self._report(entries)
        return entries

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return one entry, with ``upright_labels`` for the augmentation."""
        row = range(len(self.data_list))[idx]
        return {**self.data_list[row], "sample_idx": row, "upright_labels": self.upright_labels}

    def filter_data(self) -> Entries:
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

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> Entries:
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

    def _labels(self, scan: Scan) -> NDArray[np.int64]:
        """Return the label of every object ``(M,)``; below 0 for those of no class of ours."""
        keys = {self.class_key(name): index for index, name in enumerate(self._metainfo["classes"])}
        family = {self.class_key(name) for name in self.FAMILY}
        per_name = [
            keys.get(key, _ELSEWHERE if key in family else _UNKNOWN)
            for key in map(self.class_key, scan.table.names)
        ]
        labels = np.array(per_name, dtype=np.int64)[scan.table.kinds]
        unknown = np.flatnonzero(labels == _UNKNOWN)
        if len(unknown) and self.on_error == "fail":
            raise self._unknown_class(scan, unknown)
        self._note("objects of unknown classes", scan, unknown)
        for kind, name in enumerate(scan.table.names):
            if per_name[kind] == _ELSEWHERE:
                self._note(f"objects of class {name}", scan, np.flatnonzero(scan.table.kinds == kind))
        return labels

    def _unknown_class(self, scan: Scan, unknown: NDArray[np.int64]) -> DataError:
        table, first = scan.table, unknown[0]
        name, label = table.names[table.kinds[first]], scan.pictures[table.owners[first]].label
        hint = nearest(name, self._metainfo["classes"])
        files = len(np.unique(table.owners[unknown]))
        return DataError(
            f"unknown class {name!r}{f'; {hint}' if hint else ''} "
            f"({len(unknown)} objects of unknown classes in {files} files)",
            where=f"{label}:{table.lines[first]}" if table.lines[first] else label,
            fix="mend the label, list the class in metainfo=dict(classes=(...)) or in a file for --classes, "
            f"or leave such objects out with {SKIPPING}",
        )

    def _checked(self, scan: Scan, labels: NDArray[np.int64]) -> Entries:
        """Return the images with the objects that pass the rules."""
        table, ours = scan.table, labels >= 0
        limit = max(self.min_side, _FLAT)
        small = ours & (table.short_sides < (limit if self.small == "drop" else _FLAT))
        outside = ours & ~small & is_outside(table.quads, _sizes(scan))
        keep = ours & ~small & ~outside
        crossed = keep & table.crossed
        self._note(self._small_kind(), scan, np.flatnonzero(small))
        self._note("boxes beyond the image", scan, np.flatnonzero(outside))
        self._note("boxes with crossed corners (put in order)", scan, np.flatnonzero(crossed))
        ends = np.concatenate([[0], np.cumsum(keep)])[table.ends]
        quads = table.quads[keep]
        quads[crossed[keep]] = in_order(quads[crossed[keep]])
        ignored, difficulties = self._ignored(table)[keep], table.difficulties[keep]
        return Entries.of(scan.pictures, ends, quads, labels[keep], ignored, difficulties)

    def _small_kind(self) -> str:
        dropped = self.min_side >= _FLAT and self.small == "drop"
        return f"boxes under {self.min_side:g} px" if dropped else "boxes without area"

    def _ignored(self, table: LabelTable) -> NDArray[np.int64]:
        """Return 1 for objects that are neither trained on nor counted."""
        ignored = np.zeros(len(table.quads), dtype=np.int64)
        if self.ignore_difficulty is not None:
            ignored[table.difficulties >= self.ignore_difficulty] = 1
        if self.small == "ignore":
            ignored[table.short_sides < self.min_side] = 1
        return ignored

    def _note(self, kind: str, scan: Scan, objects: NDArray[np.int64]) -> None:
        owners = scan.table.owners[objects] if len(objects) else objects
        self.left_out.note(kind, [file_name(scan.pictures[owner].label) for owner in owners])

    def _drop_broken_images(self, entries: Entries) -> Entries:
        paths = np.unique(entries.paths)
        with ThreadPoolExecutor() as pool:
            whole = np.array(list(pool.map(_is_whole, paths)), dtype=np.bool_)
        self.left_out.note("unreadable images", [file_name(path) for path in paths[~whole]])
        return entries.take(np.flatnonzero(np.isin(entries.paths, paths[whole])))

    def _remarks(self, entries: Entries) -> list[str]:
        """Return what the labels as a whole look wrong about; subclasses add to it."""
        if self.test_mode:
            return []
        if not len(entries.labels):
            return ["no labelled object at all: nothing can be learned from it"]
        seen = set(np.unique(entries.labels).tolist())
        absent = [name for index, name in enumerate(self._metainfo["classes"]) if index not in seen]
        return [f"no object of {len(absent)} classes: {', '.join(absent)}"] if absent else []

    def _report(self, entries: Entries) -> None:
        logger, name = MMLogger.get_current_instance(), self._described()
        logger.info("%s: %d images, %d objects", name, len(entries), len(entries.labels))
        if self.left_out:
            logger.warning("%s: left out %s", name, self.left_out.describe())
        for remark in self.remarks:
            logger.warning("%s: %s", name, remark)

    def _described(self) -> str:
        """Return what the log calls the data set."""
        return str(self.data_root)


def _size_remarks(entries: Entries) -> list[str]:
    """Open a few images, and tell of those whose size is not what their name or label file says."""
    stated = np.flatnonzero((entries.sizes[:, 0] >= 0) & (entries.windows[:, 2] == 0))
    odd = []
    for row in stated[np.unique(np.linspace(0, len(stated) - 1, min(_OPENED, len(stated)), dtype=int))]:
        width, height = entries.sizes[row]
        found = _size(str(entries.paths[row]))
        if found not in (None, (width, height)):
            odd.append(f"{entries.names[row]} is {found[0]} x {found[1]}, not {width} x {height}")
    opened = min(_OPENED, len(stated))
    return [f"{len(odd)} of {opened} images opened have another size than stated: {odd[0]}"] if odd else []


def _size(path: str) -> tuple[int, int] | None:
    try:
        return image_size(Path(path))
    except DataError:
        return None  # reported when it is loaded


def _sizes(scan: Scan) -> NDArray[np.float64]:
    """Return width and height ``(M, 2)`` of the image of every object, infinite where it is not known."""
    unknown = (np.inf, np.inf)
    sizes = np.array([picture.size or unknown for picture in scan.pictures], dtype=np.float64)
    return sizes.reshape(-1, 2)[scan.table.owners]


def _is_whole(path: str) -> bool:
    try:
        ImageLoading().read(path)
    except DataError:
        return False
    return True
