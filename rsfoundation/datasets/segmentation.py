"""Segmentation data sets: folders of images and masks, ISPRS, LoveDA, UAVid, iSAID."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from mmseg.datasets import BaseSegDataset

from rsfoundation.core.errors import ConfigError, DataError, check_choice, nearest
from rsfoundation.core.reports import DatasetReport, ReadingPolicy
from rsfoundation.datasets.label_check import CheckSettings, check_samples
from rsfoundation.datasets.transforms.mixing import prepare_mixed
from rsfoundation.geometry.windows import window_starts
from rsfoundation.io.rasters import image_size
from rsfoundation.registry import DATASETS

Sample = dict[str, Any]
_THREADS = 4
_BOUNDARY = (0, 0, 0)  # colour of boundaries in eroded masks of ISPRS
_COLOUR = r"#(?P<hex>[0-9a-fA-F]{6})|(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)"
_CLASS_LINE = re.compile(rf"(?P<name>.+?)(?:[\s,;]+(?:{_COLOUR}))?[\s,;]*")


def read_class_file(path: str | Path) -> dict[str, list]:
    """Read classes and their colours: one class a line, ``road``, ``road #ff0000`` or ``road 255 0 0``.

    Empty lines and those that start with ``//`` are left out; commas may stand between the columns.

    Returns:
        ``classes``, and where lines have colours, ``palette``.

    Raises:
        DataError: The file is missing or empty, a colour has a number above 255, a class or colour occurs
            twice, or only some classes have a colour.
    """
    file = Path(path)
    fix = "write one class a line: `road #ff0000` or `road 255 0 0`"
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the class list cannot be read: {error}", where=file, fix=fix) from error
    classes: list[str] = []
    palette: list[list[int]] = []
    for number, line in enumerate(lines, 1):
        match = _CLASS_LINE.fullmatch(line.strip())
        if match is None or line.strip().startswith("//"):
            continue
        where = f"{file}:{number}"
        colour = _colour(match)
        if colour is not None and max(colour) > 255:
            raise DataError(f"the colour {colour} has a number above 255", where=where, fix=fix)
        if match["name"] in classes or colour in palette:
            twice = repr(match["name"]) if match["name"] in classes else f"the colour {colour}"
            raise DataError(f"{twice} occurs twice", where=where, fix=fix)
        classes.append(match["name"])
        palette += [colour] if colour is not None else []
    if not classes or len(palette) not in (0, len(classes)):
        found = f"{len(classes)} classes, {len(palette)} of them with a colour"
        raise DataError(f"the class list has {found}; expected all or none", where=file, fix=fix)
    return dict(classes=classes, palette=palette) if palette else dict(classes=classes)


def _colour(match: re.Match[str]) -> list[int] | None:
    if match["hex"]:
        return list(bytes.fromhex(match["hex"]))
    return [int(match[name]) for name in ("red", "green", "blue")] if match["red"] else None


@DATASETS.register_module()
class MaskDataset(BaseSegDataset):
    """A folder of images and a folder of masks, for :class:`LoadSegmentationMask`.

    Each sample carries the palette by which a colour-coded mask is read. ``metainfo`` gives classes and
    palette where the class has none of its own: ``dict(classes=(...), palette=[...])``, or
    ``dict(classes='classes.txt')``, a file as :func:`read_class_file` reads it, looked for in ``data_root``
    first. Subfolders of the image folder are read too; a mask has the place and name of its image.

    Args:
        label_map: Class of numbers of the mask files, number -> class index: ``{255: 1}`` for masks of 0 and
            255. Numbers it does not name stay as they are.
        on_error: ``fail`` stops at missing and broken files and at labels of no class; ``skip`` looks at
            every file before the start and leaves such images out.
        patch: Side of the squares that are read out of each image in place of the whole, in pixels: no patch
            is written to disk. Without it an image is one sample.
        stride: Step from one patch to the next; ``patch`` when not given. The last patch of a row or column
            is moved back inside the image; at test (``test_mode``) without a stride it reaches beyond, is
            padded and ignored there, so that each pixel counts once. With a stride pixels count several
            times at test, and the report says so.
        exclude: Names of images, without suffix, that are left out.
        **kwargs: As for mmseg's ``BaseSegDataset``.

    Attributes:
        report: Problems found in images and masks.

    Raises:
        ConfigError: An option has a value that it does not know.
        DataError: The image folder or the list of images is missing, or holds nothing; or, under ``fail``,
            :func:`~rsfoundation.datasets.label_check.check_samples` finds a problem.
    """

    def __init__(
        self,
        label_map: Mapping[int, int] | None = None,
        on_error: ReadingPolicy = "fail",
        patch: int | None = None,
        stride: int | None = None,
        exclude: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(ReadingPolicy), type(self).__name__)
        self.number_map = {int(number): int(index) for number, index in (label_map or {}).items()}
        self.on_error = on_error
        self.patch, self.stride = patch, stride or patch
        self.exclude = tuple(exclude)
        self.report = DatasetReport()
        self._check_patches()
        metainfo = copy.deepcopy(kwargs.get("metainfo") or {})
        if isinstance(metainfo.get("classes"), str):
            metainfo.update(read_class_file(_in_root(metainfo["classes"], kwargs.get("data_root"))))
        super().__init__(**{**kwargs, "metainfo": metainfo or None})

    def _check_patches(self) -> None:
        if self.stride is not None and (self.patch is None or not 0 < self.stride <= self.patch):
            raise ConfigError(
                f"patches of {self.patch} px every {self.stride} px leave pixels out",
                where=f"{type(self).__name__}.stride",
                fix="patch=1024, stride=512",
            )

    def find_samples(self) -> list[Sample]:
        """Return ``img_path``, and ``seg_map_path`` where there are masks, of every image."""
        return super().load_data_list()

    def load_data_list(self) -> list[Sample]:
        """List images and masks, sorted by path; patches of one image follow each other."""
        palette = (self.METAINFO if self.label_map else self.metainfo)["palette"]
        where = self.ann_file or self.data_prefix.get("img_path") or self.data_root
        try:
            samples = self.find_samples()
        except (OSError, AssertionError) as error:
            raise DataError(
                "the images cannot be listed", where=where, fix="check data_root and data_prefix"
            ) from error
        if not samples:
            raise DataError(
                f"no image ends in '{self.img_suffix}'", where=where, fix="check data_prefix and img_suffix"
            )
        shared = dict(
            palette=palette,
            number_map=self.number_map,
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )
        samples = [{**shared, **sample} for sample in self._without_excluded(samples)]
        checks = CheckSettings(
            self.metainfo["classes"],
            "if 255 marks '{name}': label_map={{255: {index}}} in the data set",
            self.on_error,
            not self.test_mode,
        )
        self.report = DatasetReport()
        samples = check_samples(samples, self.pipeline.transforms, checks, self.report)
        if self.test_mode and self.stride != self.patch:
            self.report.warn(
                f"patches of {self.patch} px every {self.stride} px overlap: pixels count several times "
                "at test; leave stride out to count each once"
            )
        self.report.log(str(where))
        return list(self._patches(samples)) if self.patch else samples

    def prepare_data(self, idx: int) -> Any:
        """Return a sample after the pipeline; a mosaic gets three further samples to mix with.

        Args:
            idx: Of the sample.
        """
        return prepare_mixed(self, super().prepare_data, idx)

    def _without_excluded(self, samples: list[Sample]) -> list[Sample]:
        names = [Path(sample["img_path"]).stem for sample in samples]
        for name in self.exclude:
            if name not in names:
                raise ConfigError(
                    f"there is no image '{name}' to leave out",
                    where=f"{type(self).__name__}.exclude",
                    fix=nearest(name, names) or "name images without folder and suffix",
                )
        return [one for one, name in zip(samples, names, strict=True) if name not in self.exclude]

    def _patches(self, samples: Sequence[Sample]) -> Iterator[Sample]:
        with ThreadPoolExecutor(_THREADS) as pool:
            sizes = pool.map(image_size, [sample["img_path"] for sample in samples])
            for sample, (width, height) in zip(samples, sizes, strict=True):
                for top in self._starts(height):
                    for left in self._starts(width):
                        yield {**sample, "window": (left, top, self.patch)}

    def _starts(self, length: int) -> list[int]:
        assert self.patch is not None and self.stride is not None
        if self.test_mode and self.stride == self.patch:
            return list(range(0, length, self.patch))
        return window_starts(length, self.patch, self.stride)


def _in_root(name: str, root: str | None) -> Path:
    inside = Path(root or "", name)
    return Path(name) if Path(name).is_file() and not inside.is_file() else inside


@DATASETS.register_module()
class ISPRSColourDataset(MaskDataset):
    """ISPRS Potsdam and Vaihingen with the masks as distributed (RGB colours) or as indices 0..5.

    Potsdam: images ``*_RGB.tif``, masks ``*_label.tif``; Vaihingen: one name in both folders. Colours are
    those of the ISPRS benchmark. In eroded masks (``noBoundary``) boundaries are black: read them with
    ``off_palette='ignore'``, or use :class:`PotsdamDataset` and :class:`VaihingenDataset`.

    Args:
        img_suffix: End of the image names.
        seg_map_suffix: End of the mask names.
        **kwargs: As for :class:`MaskDataset`.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=("impervious_surface", "building", "low_vegetation", "tree", "car", "clutter"),
        palette=[[255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0], [255, 0, 0]],
    )

    def __init__(self, img_suffix: str = ".tif", seg_map_suffix: str = ".tif", **kwargs: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


def _pairs(images: Sequence[Path], mask_of: Any, labelled: bool) -> list[Sample]:
    """Return samples of images, sorted by path.

    Args:
        images: Files.
        mask_of: Returns the mask of an image.
        labelled: Whether there are masks.
    """
    masks = [dict(seg_map_path=str(mask_of(image))) if labelled else {} for image in sorted(images)]
    return [dict(img_path=str(image), **mask) for image, mask in zip(sorted(images), masks, strict=True)]


class _TileDataset(ISPRSColourDataset):
    """ISPRS tiles in the folders of the distribution, chosen by their numbers.

    Args:
        split: ``train``, ``test`` (as the benchmark divides them), or the numbers of tiles.
        eroded: Read masks without boundaries, as most papers evaluate: their black pixels are ignored.
        images: Folder of the images.
        labels: Folder of the masks.
        **kwargs: As for :class:`MaskDataset`.

    Raises:
        ConfigError: The split is unknown.
        DataError: A tile is missing.
    """

    splits: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(
        self, split: str | Sequence[str | int], eroded: bool, images: str, labels: str, **kwargs: Any
    ) -> None:
        if isinstance(split, str):
            check_choice("split", split, tuple(self.splits), type(self).__name__)
            split = self.splits[split]
        self.tiles, self.eroded = [str(tile) for tile in split], eroded
        self.images, self.labels = images, labels
        super().__init__(**kwargs)

    def image_file(self, tile: str) -> Path:
        """Return the image of a tile."""
        raise NotImplementedError

    def mask_file(self, tile: str) -> Path:
        """Return the mask of a tile."""
        raise NotImplementedError

    def find_samples(self) -> list[Sample]:
        """Return image and mask of every tile of the split.

        Raises:
            DataError: An image is missing.
        """
        found: list[Sample] = [dict(img_path=str(self.image_file(tile))) for tile in self.tiles]
        absent = [one["img_path"] for one in found if not Path(one["img_path"]).is_file()]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(found)} tiles are missing, first: {Path(absent[0]).name}",
                where=Path(absent[0]).parent,
                fix="put the tiles of the distribution there, or name those that you have: split=[...]",
            )
        for one, tile in zip(found, self.tiles, strict=True):
            one["seg_map_path"] = str(self.mask_file(tile))
            one["ignored_colours"] = (_BOUNDARY,) if self.eroded else ()
        return found


@DATASETS.register_module()
class PotsdamDataset(_TileDataset):
    """ISPRS Potsdam as distributed: ``2_Ortho_RGB`` and ``5_Labels_all``, 38 tiles of 6000 px.

    Tile 7_10 is known to be annotated wrongly: ``exclude=['top_potsdam_7_10_RGB']`` leaves it out. Some
    releases have a mask of tile 4_12 with colours off by a few values: ``off_palette='nearest'``.

    Args:
        split: ``train`` (24 tiles), ``test`` (14), or numbers such as ``'2_10'``.
        eroded: Read the masks of ``5_Labels_all_noBoundary``.
        bands: ``RGB``, ``IRRG`` or ``RGBIR``: which of the three image folders is read.
        images: Folder of the images; that of ``bands`` when not given.
        labels: Folder of the masks; that of ``eroded`` when not given.
        **kwargs: As for :class:`MaskDataset`.
    """

    splits: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": (
            *(f"{row}_{column}" for row in (2, 3, 4, 5) for column in (10, 11, 12)),
            *(f"{row}_{column}" for row in (6, 7) for column in (7, 8, 9, 10, 11, 12)),
        ),
        "test": (
            *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15"),
            *("6_13", "6_14", "6_15", "7_13"),
        ),
    }
    folders: ClassVar[Mapping[str, str]] = {
        "RGB": "2_Ortho_RGB",
        "IRRG": "3_Ortho_IRRG",
        "RGBIR": "4_Ortho_RGBIR",
    }

    def __init__(
        self,
        split: str | Sequence[str] = "train",
        eroded: bool = False,
        bands: Literal["RGB", "IRRG", "RGBIR"] = "RGB",
        images: str | None = None,
        labels: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_choice("bands", bands, tuple(self.folders), type(self).__name__)
        self.bands = bands
        labels = labels or ("5_Labels_all_noBoundary" if eroded else "5_Labels_all")
        super().__init__(split, eroded, images or self.folders[bands], labels, **kwargs)

    def image_file(self, tile: str) -> Path:
        """Return the image of a tile."""
        return Path(self.data_root or "", self.images, f"top_potsdam_{tile}_{self.bands}.tif")

    def mask_file(self, tile: str) -> Path:
        """Return the mask of a tile."""
        end = "label_noBoundary" if self.eroded else "label"
        return Path(self.data_root or "", self.labels, f"top_potsdam_{tile}_{end}.tif")


@DATASETS.register_module()
class VaihingenDataset(_TileDataset):
    """ISPRS Vaihingen as distributed: ``top`` and the complete masks, 33 tiles of about 2500 x 2000 px, IRRG.

    Args:
        split: ``train`` (16 tiles), ``test`` (17), or numbers of areas.
        eroded: Read masks without boundaries, ``..._noBoundary.tif``.
        images: Folder of the images.
        labels: Folder of the masks; that of ``eroded`` in the distribution when not given.
        **kwargs: As for :class:`MaskDataset`.
    """

    splits: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": tuple(map(str, (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37))),
        "test": tuple(map(str, (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38))),
    }

    def __init__(
        self,
        split: str | Sequence[str | int] = "train",
        eroded: bool = False,
        images: str = "top",
        labels: str | None = None,
        **kwargs: Any,
    ) -> None:
        middle = "_eroded" if eroded else ""
        labels = labels or f"ISPRS_semantic_labeling_Vaihingen_ground_truth{middle}_COMPLETE"
        super().__init__(split, eroded, images, labels, **kwargs)

    def image_file(self, tile: str) -> Path:
        """Return the image of a tile."""
        return Path(self.data_root or "", self.images, f"top_mosaic_09cm_area{tile}.tif")

    def mask_file(self, tile: str) -> Path:
        """Return the mask of a tile."""
        end = "_noBoundary" if self.eroded else ""
        return Path(self.data_root or "", self.labels, f"top_mosaic_09cm_area{tile}{end}.tif")


class _SplitDataset(MaskDataset):
    """A data set whose splits are folders that hold images and masks in folders of their own.

    Args:
        split: Folder of the split, or several that are read as one.
        **kwargs: As for :class:`MaskDataset`.

    Raises:
        DataError: A split has no images, or some of its images have no mask folder.
    """

    pattern: ClassVar[str]  # of the images, below the folder of the split
    masks: ClassVar[str]  # name of the folder of masks, next to that of the images

    def __init__(self, split: str | Sequence[str], **kwargs: Any) -> None:
        self.split_names = [split] if isinstance(split, str) else list(split)
        super().__init__(**kwargs)

    def mask_file(self, image: Path) -> Path:
        """Return the mask of an image."""
        return image.parent.parent / self.masks / image.name

    def find_samples(self) -> list[Sample]:
        """Return image and mask of every split; a split without any mask folder has none.

        Raises:
            DataError: A split has no images.
        """
        found: list[Sample] = []
        for name in self.split_names:
            folder = Path(self.data_root or "", name)
            images = sorted(folder.glob(self.pattern))
            if not images:
                raise DataError(
                    f"there is no image {self.pattern}",
                    where=folder,
                    fix=f"check data_root and split; folders there: {_folders(folder.parent)}",
                )
            labelled = any(self.mask_file(image).parent.is_dir() for image in images)
            found += _pairs(images, self.mask_file, labelled)
        return found


def _folders(folder: Path) -> str:
    names = sorted(one.name for one in folder.glob("*") if one.is_dir())
    return ", ".join(names[:8]) or "none"


@DATASETS.register_module()
class LoveDADataset(_SplitDataset):
    """LoveDA as distributed: ``<split>/{Rural,Urban}/{images_png,masks_png}``, 1024 px.

    Numbers of the masks are 0 (no data, ignored) and 1..7; ``reduce_zero_label`` makes them 255 and 0..6.

    Args:
        split: ``Train``, ``Val``, ``Test`` (without masks), or several.
        reduce_zero_label: False for masks that another tool has rewritten as 0..6 already.
        **kwargs: As for :class:`MaskDataset`.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=("background", "building", "road", "water", "barren", "forest", "agriculture"),
        palette=[
            *([255, 255, 255], [255, 0, 0], [255, 255, 0], [0, 0, 255]),
            *([159, 129, 183], [0, 255, 0], [255, 195, 128]),
        ],
    )
    pattern: ClassVar[str] = "*/images_png/*.png"
    masks: ClassVar[str] = "masks_png"

    def __init__(
        self, split: str | Sequence[str] = "Train", reduce_zero_label: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(split, reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class UAVidDataset(_SplitDataset):
    """UAVid as distributed: ``<split>/seq*/{Images,Labels}/000000.png``, 4096 x 2160 or 3840 x 2160 px.

    Args:
        split: ``uavid_train``, ``uavid_val``, ``uavid_test`` (without masks), or several.
        **kwargs: As for :class:`MaskDataset`.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *("building", "road", "tree", "low_vegetation"),
            *("moving_car", "static_car", "human", "clutter"),
        ),
        palette=[
            *([128, 0, 0], [128, 64, 128], [0, 128, 0], [128, 128, 0]),
            *([64, 0, 128], [192, 0, 192], [64, 64, 0], [0, 0, 0]),
        ],
    )
    pattern: ClassVar[str] = "seq*/Images/*.png"
    masks: ClassVar[str] = "Labels"

    def __init__(self, split: str | Sequence[str] = "uavid_train", **kwargs: Any) -> None:
        super().__init__(split, **kwargs)


@DATASETS.register_module()
class ISAIDDataset(_SplitDataset):
    """iSAID as distributed: ``<split>/images/P0000.png``, ``Semantic_masks/P0000_instance_color_RGB.png``.

    The images are DOTA's. RSP leaves P1527 and P1530 out: ``exclude=['P1527', 'P1530']``.

    Args:
        split: ``train``, ``val``, ``test`` (without masks), or several.
        **kwargs: As for :class:`MaskDataset`.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=(
            *("background", "ship", "storage_tank", "baseball_diamond", "tennis_court", "basketball_court"),
            *("ground_track_field", "bridge", "large_vehicle", "small_vehicle", "helicopter"),
            *("swimming_pool", "roundabout", "soccer_ball_field", "plane", "harbor"),
        ),
        palette=[
            *([0, 0, 0], [0, 0, 63], [0, 63, 63], [0, 63, 0], [0, 63, 127], [0, 63, 191]),
            *([0, 63, 255], [0, 127, 63], [0, 127, 127], [0, 0, 127], [0, 0, 191]),
            *([0, 0, 255], [0, 191, 127], [0, 127, 191], [0, 127, 255], [0, 100, 155]),
        ],
    )
    pattern: ClassVar[str] = "images/*.png"
    masks: ClassVar[str] = "Semantic_masks"

    def __init__(self, split: str | Sequence[str] = "train", **kwargs: Any) -> None:
        super().__init__(split, **kwargs)

    def mask_file(self, image: Path) -> Path:
        """Return the mask of an image."""
        return image.parent.parent / self.masks / f"{image.stem}_instance_color_RGB.png"
