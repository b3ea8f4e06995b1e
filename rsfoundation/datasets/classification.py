"""Data sets of scene recognition: folders per class, lists, public data sets, several labels per image."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
from mmengine.dataset import BaseDataset

from rsfoundation.core.errors import ConfigError, DataError, check_choice, nearest
from rsfoundation.core.reports import SKIPPING, DatasetReport, Example, Policy
from rsfoundation.core.task import Window
from rsfoundation.datasets.samplers import spread
from rsfoundation.datasets.transforms.images import pipeline_loading
from rsfoundation.geometry.windows import window_grid
from rsfoundation.io.rasters import RasterReader
from rsfoundation.registry import DATASETS

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".jp2")
Split = Literal["all", "train", "val"]
_MOST_OPENED = 2000  # images whose band counts are compared at the start


class SceneEntry(NamedTuple):
    """One image as it is listed: its file, the names of its classes, and the place of the listing."""

    path: str
    names: tuple[str, ...]
    where: str


@DATASETS.register_module()
class SceneDataset(BaseDataset):
    """Images with one class each, or with any number of them.

    Without ``ann_file`` the layout is a folder per class, at any depth below ``data_root``: the class of an
    image is the name of the folder that holds it. With ``ann_file`` each line has a file and a class: a name,
    or a number from 0. Tabs, commas or blanks separate them (a path with blanks needs tabs or commas), a
    third column is ignored, and a line without a class takes the name of the folder. ``|`` separates several
    classes of an image.

    Names are compared without case, blanks, ``_`` and ``-``. Without a list of classes in ``metainfo``, the
    folders or names that occur are the classes, in alphabetical order.

    Args:
        data_root: The folder.
        ann_file: The list; relative to ``data_root``.
        split: ``all``, or one part of a split by ``train_ratio``: ``train`` or ``val``.
        train_ratio: Share of the images of each class that are ``train``.
        split_seed: Another number gives another split. The order of a class follows from a hash of seed and
            path, so that a split is the same on every computer, and images added later move no others.
        multi_label: Whether images have any number of classes.
        on_error: ``fail`` stops at missing files, labels of no class and images of another number of bands;
            ``skip`` leaves such images out.
        **kwargs: As for mmengine's ``BaseDataset``.

    Attributes:
        report: What was left out, and what looks wrong.

    Raises:
        ConfigError: An option has a value that it does not know.
        DataError: The folder or the list is missing or empty; or, under ``fail``, an image has a problem.
    """

    METAINFO: ClassVar[dict] = {}

    def __init__(
        self,
        data_root: str = "",
        ann_file: str = "",
        split: Split = "all",
        train_ratio: float | None = None,
        split_seed: int = 0,
        multi_label: bool = False,
        on_error: Policy = "fail",
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("split", split, get_args(Split), type(self).__name__)
        check_choice("on_error", on_error, get_args(Policy), type(self).__name__)
        if (split == "all") != (train_ratio is None):
            raise DataError(
                f"split='{split}' with train_ratio={train_ratio}",
                where=type(self).__name__,
                fix="give both, split='train' and train_ratio=0.8, or none of them",
            )
        self.split, self.train_ratio, self.split_seed = split, train_ratio, split_seed
        self.multi_label, self.on_error = multi_label, on_error
        self.report = DatasetReport()
        given = {**self.METAINFO, **(metainfo or {})}
        self._root = Path(data_root)
        self._list = self._root / ann_file if ann_file else None
        self._entries: list[SceneEntry] | None = None
        if not given.get("classes"):
            given["classes"] = self._found_classes()
        super().__init__(data_root=data_root, ann_file=ann_file, metainfo=given, **kwargs)

    def _found_classes(self) -> tuple[str, ...]:
        """Return the classes that occur, in alphabetical order."""
        self._entries = list(self.list_images())
        names = sorted({name for entry in self._entries for name in entry.names})
        if names and all(name.isdigit() for name in names):
            raise DataError(
                "the list has numbers, and the classes have no names",
                where=self._list,
                fix="list them in label order: metainfo=dict(classes=('airport', ...))",
            )
        return tuple(names)

    def list_images(self) -> Iterator[SceneEntry]:
        """Yield every image with the names of its classes.

        Raises:
            DataError: The folder or the list is missing.
        """
        if self._list is not None:
            yield from self._listed(self._list)
            return
        if not self._root.is_dir():
            raise DataError(
                "the data folder does not exist",
                where=self._root,
                fix="check data_root; expected <data_root>/<class>/<image>",
            )
        empty = []
        for folder, folders, files in os.walk(self._root):
            folders.sort()
            images = sorted(name for name in files if name.lower().endswith(SUFFIXES))
            if not images and not folders and Path(folder) != self._root:
                empty.append(folder)
            if Path(folder) != self._root:
                for name in images:
                    yield SceneEntry(os.path.join(folder, name), (os.path.basename(folder),), folder)  # noqa: PTH118, PTH119
        if empty:
            example = Example(
                empty[0], "no image in this class folder", f"known suffixes: {', '.join(SUFFIXES)}"
            )
            self.report.note("class folders without images", [Path(folder).name for folder in empty], example)

    def _listed(self, file: Path) -> Iterator[SceneEntry]:
        if not file.is_file():
            raise DataError("the list does not exist", where=file, fix="check data_root and ann_file")
        yield from self.read_list(file)

    def read_list(self, file: Path) -> Iterator[SceneEntry]:
        """Yield the images of a list; a data set with tables of another layout overrides this."""
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                separator = "\t" if "\t" in line else "," if "," in line else None
                path, *rest = (word.strip() for word in line.strip().split(separator))
                names = tuple(name.strip() for name in rest[0].split("|") if name.strip()) if rest else ()
                if not rest:
                    names = (Path(path).parent.name,)
                yield SceneEntry(str(self._root / path), names, f"{file}:{number}")

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split with their labels; problems go into the report."""
        entries = self._entries if self._entries is not None else list(self.list_images())
        self._entries = None
        where = self._list or self._root
        if not entries:
            raise DataError("there are no images", where=where, fix=f"known suffixes: {', '.join(SUFFIXES)}")
        entries = self._existing(self._of_split(entries))
        samples = self._labelled(entries)
        samples = self._of_one_kind(samples)
        self.report.enforce(self.on_error)
        if not samples:
            raise DataError(f"no image is left: left out {self.report.describe()}", where=where)
        counts = Counter(label for sample in samples for label in sample["gt_label"])
        absent = [name for label, name in enumerate(self.metainfo["classes"]) if not counts[label]]
        if absent:
            self.report.warn(f"classes without images: {', '.join(absent)}")
        self.report.images, self.report.objects = len(samples), sum(counts.values())
        self.report.log(str(where))
        return samples

    def _of_split(self, entries: list[SceneEntry]) -> list[SceneEntry]:
        """Return the images of the split: a share of each class, or of all images with several classes."""
        if self.train_ratio is None:
            return entries
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, entry in enumerate(entries):
            groups.setdefault(() if self.multi_label else entry.names, []).append(index)
        kept: list[int] = []
        for members in groups.values():
            members.sort(key=lambda index: self._draw(entries[index].path))
            count = round(len(members) * self.train_ratio)
            kept += members[:count] if self.split == "train" else members[count:]
        return [entries[index] for index in sorted(kept)]

    def _draw(self, path: str) -> str:
        name = os.path.relpath(path, self._root).replace(os.sep, "/")
        return hashlib.sha256(f"{self.split_seed}/{name}".encode()).hexdigest()

    def _existing(self, entries: list[SceneEntry]) -> list[SceneEntry]:
        """Leave out what a list names and does not exist."""
        if self._list is None:
            return entries
        folders: dict[str, set[str]] = {}
        kept = []
        for entry in entries:
            folder, name = os.path.split(entry.path)
            if folder not in folders:
                folders[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()  # noqa: PTH112, PTH208
            if name in folders[folder]:
                kept.append(entry)
                continue
            error = DataError(
                f"the image does not exist: {entry.path}",
                where=entry.where,
                fix=f"check data_root and the list, or leave such lines out: {SKIPPING}",
            )
            self.report.error("listed images that do not exist", error, entry.path)
        return kept

    def _labelled(self, entries: list[SceneEntry]) -> list[dict[str, Any]]:
        """Give every image its labels; leave out those with a class outside the list."""
        known = {_plain(name): label for label, name in enumerate(self.metainfo["classes"])}
        samples = []
        for entry in entries:
            labels = [self._label(name, known) for name in entry.names]
            odd = [name for name, label in zip(entry.names, labels, strict=True) if label is None]
            if odd or (len(labels) != 1 and not self.multi_label):
                self._report_labels(entry, odd)
            else:
                numbers = sorted({label for label in labels if label is not None})
                samples.append(dict(img_path=entry.path, gt_label=numbers))
        return samples

    def _label(self, name: str, known: Mapping[str, int]) -> int | None:
        if _plain(name) in known:
            return known[_plain(name)]
        return int(name) if name.isdigit() and int(name) < len(known) else None

    def _report_labels(self, entry: SceneEntry, odd: Sequence[str]) -> None:
        classes = self.metainfo["classes"]
        if not odd:
            what = f"{len(entry.names)} classes of one image"
            fix = "set multi_label=True in the data set, or name one class"
            error = DataError(what, where=entry.where, fix=fix)
            self.report.error("images without a single class", error, entry.path)
            return
        hint = nearest(odd[0], classes) or f"the classes: {', '.join(classes)}"
        fix = f"{hint}; or list all classes in metainfo=dict(classes=(...))"
        error = DataError(f"'{odd[0]}' is none of the {len(classes)} classes", where=entry.where, fix=fix)
        self.report.error("labels outside the class list", error, entry.path)

    def _of_one_kind(self, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out images of another number of bands than most have, where the pipeline reads all bands."""
        steps = getattr(self.pipeline, "transforms", ())
        if not samples or pipeline_loading(steps).bands != "all":
            return samples
        counts: dict[int, int] = {}
        broken = set()
        for place in spread(range(len(samples)), _MOST_OPENED):
            try:
                with RasterReader(samples[place]["img_path"]) as reader:
                    counts[place] = reader.count
            except DataError as error:
                self.report.error("unreadable images", error, samples[place]["img_path"])
                broken.add(place)
        usual = Counter(counts.values()).most_common(1)[0][0] if counts else 0
        for place in (place for place, count in counts.items() if count != usual):
            path = samples[place]["img_path"]
            problem = DataError(
                f"{counts[place]} bands, and most images have {usual}",
                where=path,
                fix="choose bands that all have: image_loading=dict(bands=(1, 2, 3)) in the config",
            )
            self.report.error("images of another number of bands", problem, path)
            broken.add(place)
        return [sample for place, sample in enumerate(samples) if place not in broken]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


@DATASETS.register_module()
class UCMerced(SceneDataset):
    """UC Merced: 21 classes of 100 images of 256 px. Published splits: ``train_ratio`` 0.8 or 0.5."""

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *("agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral"),
            *("denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection"),
            *("mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway"),
            *("sparseresidential", "storagetanks", "tenniscourt"),
        )
    )


@DATASETS.register_module()
class AID(SceneDataset):
    """AID: 30 classes, 10 000 images of 600 px. Published splits: ``train_ratio`` 0.2 or 0.5."""

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *("Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center", "Church", "Commercial"),
            *("DenseResidential", "Desert", "Farmland", "Forest", "Industrial", "Meadow"),
            *("MediumResidential", "Mountain", "Park", "Parking", "Playground", "Pond", "Port"),
            *("RailwayStation", "Resort", "River", "School", "SparseResidential", "Square", "Stadium"),
            *("StorageTanks", "Viaduct"),
        )
    )


@DATASETS.register_module()
class RESISC45(SceneDataset):
    """NWPU-RESISC45: 45 classes of 700 images of 256 px. Published splits: ``train_ratio`` 0.1 or 0.2."""

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *("airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral"),
            *("church", "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert"),
            *("forest", "freeway", "golf_course", "ground_track_field", "harbor", "industrial_area"),
            *("intersection", "island", "lake", "meadow", "medium_residential", "mobile_home_park"),
            *("mountain", "overpass", "palace", "parking_lot", "railway", "railway_station"),
            *("rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg"),
            *("sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace"),
            *("thermal_power_station", "wetland"),
        )
    )


@DATASETS.register_module()
class EuroSAT(SceneDataset):
    """EuroSAT: 10 classes, 27 000 tiles of 64 px; the ``MS`` edition has all 13 bands of Sentinel-2."""

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture"),
            *("PermanentCrop", "Residential", "River", "SeaLake"),
        )
    )


@DATASETS.register_module()
class MillionAID(SceneDataset):
    """MillionAID: 51 classes in nested folders; the class is the innermost one.

    The classes are the folders that hold images, in alphabetical order, unless ``metainfo`` lists them.
    """


# Classes of the nomenclature of 19 -> those of CORINE's 43 that it joins; the others are dropped.
_BIG_EARTH_NET: Mapping[str, tuple[str, ...]] = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Permanent crops": (
        *("Vineyards", "Fruit trees and berry plantations", "Olive groves"),
        "Annual crops associated with permanent crops",
    ),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": ("Natural grassland", "Sparsely vegetated areas"),
    "Moors, heathland and sclerophyllous vegetation": ("Moors and heathland", "Sclerophyllous vegetation"),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}


@DATASETS.register_module()
class BigEarthNet(SceneDataset):
    """BigEarthNet-S2 as distributed: a folder per patch with one TIFF per band and a JSON file of labels.

    Several labels per image, in the nomenclature of 19 classes. The pipeline loads the bands by
    :class:`rsfoundation.datasets.transforms.recognition.LoadBandFiles`. With ``ann_file`` only the patches
    that its lines name are taken, as the published splits list them.

    Args:
        **kwargs: As for :class:`SceneDataset`.
    """

    METAINFO: ClassVar[dict] = dict(classes=tuple(_BIG_EARTH_NET))

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"multi_label": True, **kwargs})

    def list_images(self) -> Iterator[SceneEntry]:
        """Yield every patch folder with its classes.

        Raises:
            DataError: The folder or the list is missing.
        """
        joined = {old: new for new, names in _BIG_EARTH_NET.items() for old in names}
        for folder, place in self._patches():
            file = folder / f"{folder.name}_labels_metadata.json"
            try:
                labels = json.loads(file.read_text(encoding="utf-8"))["labels"]
            except (OSError, ValueError, KeyError) as error:
                problem = DataError(
                    f"the labels of the patch cannot be read: {error}",
                    where=f"{file}",
                    fix=f"unpack the patch again, or leave it out: {SKIPPING}",
                )
                self.report.error("patches without readable labels", problem, folder)
                continue
            names = tuple(dict.fromkeys(joined.get(label, label) for label in labels))
            dropped = [name for name in names if name not in _BIG_EARTH_NET]
            self.report.note("labels outside the nomenclature of 19", [folder.name] * len(dropped))
            yield SceneEntry(str(folder), tuple(name for name in names if name in _BIG_EARTH_NET), place)

    def _patches(self) -> Iterator[tuple[Path, str]]:
        if self._list is not None:
            for entry in self._listed(self._list):
                yield Path(entry.path), entry.where
            return
        if not self._root.is_dir():
            raise DataError("the data folder does not exist", where=self._root, fix="check data_root")
        for file in sorted(self._root.glob("*/*_labels_metadata.json")):
            yield file.parent, str(file)


_MASK_SIDE = 1024  # longest side at which the valid pixels of a scene are looked up


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Windows of images and GeoTIFF scenes of any size; pixels are read when they are needed.

    Images no larger than the window are taken whole. Of larger ones each window of a grid is an entry, and
    the loading step reads that window alone. Windows with too few valid pixels are left out and counted.

    Args:
        data_root: Folder of the images, at any depth.
        inputs: Files, folders or patterns below ``data_root``; everything there when not given.
        window: Side of a window in pixels; crops of the pipeline come from it.
        overlap: Pixels that neighbouring windows share.
        min_valid: Least share of pixels that hold data.
        on_error: ``fail`` stops at files that cannot be opened; ``skip`` leaves them out.
        **kwargs: As for mmengine's ``BaseDataset``.

    Attributes:
        report: What was left out.

    Raises:
        ConfigError: The overlap leaves no step.
        DataError: There are no images, or a file cannot be opened.
    """

    METAINFO: ClassVar[dict] = {}

    def __init__(
        self,
        data_root: str = "",
        inputs: Sequence[str] = (),
        window: int = 512,
        overlap: int = 0,
        min_valid: float = 0.5,
        on_error: Policy = "fail",
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(Policy), type(self).__name__)
        if not 0 <= overlap < window:
            raise ConfigError(
                f"windows of {window} with an overlap of {overlap} leave no step",
                where=type(self).__name__,
                fix="overlap=0",
            )
        self.inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        self.window, self.overlap, self.min_valid, self.on_error = window, overlap, min_valid, on_error
        self.report = DatasetReport()
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the windows of all images."""
        samples: list[dict[str, Any]] = []
        images = 0
        for path in self._files():
            try:
                samples += self._windows(path)
            except DataError as error:
                problem = DataError(error.what, where=path, fix=f"remove the file, or set {SKIPPING}")
                self.report.error("unreadable images", problem, path)
                continue
            images += 1
        self.report.enforce(self.on_error)
        where = self.data_root or ", ".join(self.inputs)
        if not samples:
            left_out = self.report.describe()
            raise DataError(
                "there are no images" + (f": left out {left_out}" if left_out else ""),
                where=where,
                fix=f"check data_root and inputs; known suffixes: {', '.join(SUFFIXES)}",
            )
        self.report.images = images
        self.report.log(f"{where}, {len(samples)} windows")
        return samples

    def _files(self) -> Iterator[Path]:
        root = Path(self.data_root)
        if not self.inputs:
            yield from _images_below(root)
        for entry in self.inputs:
            path = root / entry
            if path.is_dir():
                yield from _images_below(path)
            elif path.is_file():
                yield path
            else:
                found = sorted(root.glob(entry)) if not Path(entry).is_absolute() else []
                if not found:
                    raise DataError("there is no such file or folder", where=path, fix="check inputs")
                yield from (file for file in found if file.is_file())

    def _windows(self, path: Path) -> Iterator[dict[str, Any]]:
        with RasterReader(path) as reader:
            height, width = reader.height, reader.width
            if max(height, width) <= self.window:
                yield dict(img_path=str(path))
                return
            valid = _valid_overview(reader)
        side = min(self.window, height, width)
        empty = 0
        for window in window_grid(height, width, side, min(self.overlap, side - 1)):
            if valid is not None and _share(valid, window, height, width) < self.min_valid:
                empty += 1
                continue
            yield dict(img_path=str(path), window=(window.left, window.top, side))
        example = Example(str(path), f"{empty} windows with less than {self.min_valid:.0%} valid pixels")
        self.report.note("windows without enough data", [path.name] * empty, example)


def _images_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(files) if name.lower().endswith(SUFFIXES))


def _valid_overview(reader: RasterReader) -> np.ndarray | None:
    """Return which pixels of a small view of a scene hold data; ``None`` where all do."""
    if reader.nodata is None and reader.alpha_band is None:
        return None
    if reader.nodata is not None:  # from overviews, where the file has some
        valid = (reader.read_overview(_MASK_SIDE) != reader.nodata).any(axis=2)
    else:
        scale = min(1.0, _MASK_SIDE / max(reader.width, reader.height))
        size = (max(1, round(reader.width * scale)), max(1, round(reader.height * scale)))
        valid = reader.valid_mask(out_size=size)
    return None if valid.all() else valid


def _share(valid: np.ndarray, window: Window, height: int, width: int) -> float:
    """Return the share of valid pixels of a window, from the small view."""
    down, across = valid.shape[0] / height, valid.shape[1] / width
    top, left = int(window.top * down), int(window.left * across)
    bottom = max(top + 1, round((window.top + window.height) * down))
    right = max(left + 1, round((window.left + window.width) * across))
    return float(valid[top:bottom, left:right].mean())
