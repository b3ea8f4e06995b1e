"""The layouts of public data sets on disk: which folders are a data set, and the config that reads them.

Facts of each layout: ``data/README.md``. Each function below returns the data sets of a folder by split, and
nothing where the folder has another layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.core.files import read_manifest
from rsfoundation.datasets.oriented.annotations import DIOR_LISTS, HRSC_LISTS
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.datasets.segmentation import ISAIDDataset, LoveDADataset, UAVidDataset
from rsfoundation.io.dota import IMAGE_SUFFIXES, LABEL_FOLDERS
from rsfoundation.io.label_images import read_label_image
from rsfoundation.io.xml_labels import LABEL_FOLDERS as XML_FOLDERS
from rsfoundation.visualization import palette

Datasets = dict[str, dict[str, Any]]
_SPLIT_NAMES = ("train", "val", "validation", "test", "trainval", "valid", "Train", "Val", "Test")
_ONE = [dict(type="rsfoundation.LoadImageFromFile"), dict(type="rsfoundation.LoadSegmentationMask")]
_ERODED = [
    dict(type="rsfoundation.LoadImageFromFile"),
    dict(type="rsfoundation.LoadSegmentationMask", off_palette="ignore"),
]
_TWO = [
    dict(type="rsfoundation.MultiImgLoadImageFromFile"),
    dict(type="rsfoundation.MultiImgLoadAnnotations"),
]
_LOAD = [dict(type="rsfoundation.LoadImageFromFile")]
_GUESSED = 64  # label maps that classes are guessed from where nothing names them

_BUILDINGS = dict(classes=("background", "building"), palette=[(0, 0, 0), (255, 255, 255)])


def folder_datasets(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Return a config with a dataloader for each split of a folder in any known layout.

    Args:
        folder: The data set.
        kind: Its layout, one of :data:`LAYOUTS`; found when not given.

    Raises:
        DataError: No layout fits.
    """
    if kind is not None:
        return _as_config(datasets_of(kind, folder))
    for find in LAYOUTS.values():
        found = find(folder)
        if found:
            return _as_config(found)
    raise DataError(
        f"no known layout of a data set; known are those of {', '.join(LAYOUTS)}",
        where=folder,
        fix="point at the folder that holds the splits (data/README.md shows each layout), or name a config",
    )


def datasets_of(kind: str, folder: Path) -> Datasets:
    """Return the data sets of a folder in the layout of one data set, by split.

    Args:
        kind: One of :data:`LAYOUTS`.
        folder: The data set as distributed.

    Raises:
        DataError: There is no such layout, or the folder has another one.
    """
    if kind not in LAYOUTS:
        hint = nearest(kind, LAYOUTS)
        known = ", ".join(LAYOUTS)
        raise DataError(
            f"no data set is called {kind!r}{f'; {hint}' if hint else ''}",
            where="kind",
            fix=f"one of {known}",
        )
    found = LAYOUTS[kind](folder)
    if not found:
        expected = " ".join((LAYOUTS[kind].__doc__ or "").split())
        raise DataError(
            f"the folder has another layout; expected {expected}", where=folder, fix="see data/README.md"
        )
    return found


def _as_config(found: Datasets) -> dict[str, Any]:
    loaders = {f"{split}_dataloader": dict(dataset=dataset) for split, dataset in found.items()}
    return dict(default_scope="mmengine", **loaders)


def _split_name(folder: str) -> str:
    """Return the usual name of a split folder: ``Train`` is ``train``, ``valid`` is ``val``."""
    lower = folder.lower()
    return {"validation": "val", "valid": "val"}.get(lower, lower)


def _splits(folder: Path, *needed: str) -> Iterator[tuple[str, Path]]:
    """Yield the folders below one that hold all of some folders, by split."""
    for part in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if all((part / name).is_dir() for name in needed):
            yield (_split_name(part.name) if part != folder else "all"), part


def _suffix(folder: Path) -> str | None:
    """Return the suffix of the images of a folder; ``None`` where there is none."""
    names = sorted(
        path.suffix for path in islice(folder.rglob("*"), 200) if path.suffix.lower() in IMAGE_SUFFIXES
    )
    return max(set(names), key=names.count) if names else None


def _dota(folder: Path) -> Datasets:
    """``<split>/images`` with ``labelTxt`` or ``annfiles``, or ``annotations/version1.0``."""
    parts: dict[str, tuple[Path, str]] = {}
    classes: dict[str, None] = {}
    for split, part in _splits(folder, "images"):
        versions = [v for v in reversed(DOTA_CLASSES) if (part / "annotations" / f"version{v}").is_dir()]
        texts = [part / name for name in LABEL_FOLDERS if (part / name).is_dir()]
        texts += [part / "annotations" / f"version{version}" for version in versions]
        if texts:
            parts[split] = part, next(iter(versions), "")
            classes.update(dict.fromkeys(_names_in(texts[0])))
    if len(parts) > 1:
        parts.pop("all", None)
    known = DOTA_CLASSES["2.0"]
    names = [name for name in known if name in classes] + sorted(set(classes) - set(known))
    meta = dict(metainfo=dict(classes=tuple(names))) if names else {}
    return {
        split: _oriented("DOTADataset", folder, "" if part == folder else part.name)
        | dict(version=version or "2.0", **meta)
        for split, (part, version) in parts.items()
    }


def _oriented(kind: str, folder: Path, split: str) -> dict[str, Any]:
    kind = f"rsfoundation.{kind}"
    return dict(type=kind, data_root=str(folder), split=split, pipeline=_LOAD, test_mode=True)


def _names_in(folder: Path) -> tuple[str, ...]:
    """Return the class names of DOTA's label files, by a look at the ninth field alone."""
    names: dict[str, None] = {}
    for file in folder.glob("*.txt"):
        try:
            for line in file.read_text(encoding="utf-8-sig").splitlines():
                fields = line.split()
                if len(fields) in (9, 10) and not fields[8].replace(".", "").isdigit():
                    names[fields[8]] = None
        except (OSError, UnicodeDecodeError):
            continue  # reported when it is read
    return tuple(sorted(names))


def _fair1m(folder: Path) -> Datasets:
    """``<split>/[part1|part2/]images`` with ``labelXml`` or ``labelXmls``."""
    found: Datasets = {}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        places = [part, *sorted(path for path in part.iterdir() if path.is_dir())]
        if any((p / "images").is_dir() and any((p / name).is_dir() for name in XML_FOLDERS) for p in places):
            found[_split_name(part.name)] = _oriented("FAIR1MDataset", folder, part.name)
    return found


def _yolo(folder: Path) -> Datasets:
    """``images/<split>`` with ``labels/<split>``, or ``<split>/{images,labels}``, and a ``*.yaml``."""
    if not [*folder.glob("*.yaml"), *folder.glob("*.yml")]:
        return {}
    names = [path.name for path in (folder / "images").glob("*") if (folder / "labels" / path.name).is_dir()]
    names += [part.name for _, part in _splits(folder, "images", "labels") if part != folder]
    return {_split_name(name): _oriented("YOLOOBBDataset", folder, name) for name in sorted(names)}


def _dior(folder: Path) -> Datasets:
    """``JPEGImages-*``, ``Annotations/* Bounding Boxes`` and ``ImageSets/Main``; or ``Images/<split>``."""
    labels = folder / "Annotations"
    if not labels.is_dir():
        return {}
    oriented, named = labels / "Oriented Bounding Boxes", [*labels.glob("* Bounding Boxes")]
    lists = _lists(folder, DIOR_LISTS if named else DIOR_LISTS[:1])
    kind = dict(boxes="oriented" if oriented.is_dir() else "horizontal")
    found = {name: _oriented("DIORDataset", folder, name) | kind for name in lists}
    for part in sorted((folder / "Images").glob("*")):
        if (labels / part.name).is_dir():
            settings = _oriented("DIORDataset", folder, part.name)
            found[_split_name(part.name)] = settings | dict(boxes="horizontal")
    return found


def _lists(folder: Path, places: Sequence[str]) -> list[str]:
    """Return the lists of names of the first place that has some: those of splits, else all."""
    found = next((files for place in places if (files := sorted((folder / place).glob("*.txt")))), [])
    names = [path.stem for path in found]
    return [name for name in names if name in _SPLIT_NAMES] or names


def _hrsc(folder: Path) -> Datasets:
    """``FullDataSet/{AllImages,Annotations}`` and ``ImageSets/<split>.txt``."""
    plain = (folder / "AllImages").is_dir() and (folder / "Annotations").is_dir()
    if not plain and not (folder / "FullDataSet").is_dir():
        return {}
    return {name: _oriented("HRSCDataset", folder, name) for name in _lists(folder, HRSC_LISTS)}


def _coco(folder: Path) -> Datasets:
    """A COCO json in the folder, in ``annotations/`` or next to each split's images."""
    found: Datasets = {}
    files = [*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*/*.json")]
    for file in sorted({path for path in files if path.name != "manifest.json"}):
        content = _coco_head(file)
        if content is None:
            continue
        first, classes = content
        places = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
        images = [place for place in places if (place / first).is_file()]
        split = next((_split_name(name) for name in _SPLIT_NAMES if name in file.stem), file.stem)
        images.sort(key=lambda place: split not in place.relative_to(folder).parts)
        if images:
            found[split] = dict(
                type="rsfoundation.CocoInstanceDataset", ann_file=str(file), test_mode=True, pipeline=_LOAD,
                metainfo=dict(classes=classes, palette=list(palette(len(classes)))),
                data_prefix=dict(img=str(images[0])),
            )  # fmt: skip
    return found


def _coco_head(file: Path) -> tuple[str, tuple[str, ...]] | None:
    """Return the first image and the categories of a COCO json; ``None`` for another file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        categories = dict.fromkeys(str(category["name"]) for category in content["categories"])
        return str(content["images"][0]["file_name"]), tuple(categories)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _masks(
    images: Path, masks: Path, *, image: str | None = None, mask: str | None = None, **options: Any
) -> dict[str, Any]:
    """Return a data set of masks; suffixes are those found where none are given."""
    return dict(
        type="rsfoundation.MaskDataset", data_prefix=dict(img_path=str(images), seg_map_path=str(masks)),
        img_suffix=image or _suffix(images) or ".png", seg_map_suffix=mask or _suffix(masks) or ".png",
        test_mode=True, **{"pipeline": _ONE, "reduce_zero_label": False, **options},
    )  # fmt: skip


def _prepared(folder: Path) -> Datasets:
    """``img_dir/<split>`` with ``ann_dir/<split>``, as mmsegmentation and `rsf prepare` write them."""
    found: Datasets = {}
    manifest = read_manifest(folder)
    meta = manifest.content if manifest is not None else {}
    for images in sorted(path for path in (folder / "img_dir").glob("*") if path.is_dir()):
        masks = folder / "ann_dir" / images.name
        if masks.is_dir() and _suffix(images):
            named = (
                dict(classes=tuple(meta["classes"]), palette=meta["palette"]) if "classes" in meta else None
            )
            found[_split_name(images.name)] = _masks(
                images, masks, **(dict(metainfo=named) if named else _guessed(masks))
            )
    flat = (folder / "img_dir", folder / "ann_dir")
    if not found and all(path.is_dir() for path in flat) and _suffix(flat[0]):
        found["all"] = _masks(*flat, **_guessed(flat[1]))
    return found


def _guessed(masks: Path) -> dict[str, Any]:
    """Return classes for label maps that nothing names: one for each number, or colour, of the first maps."""
    numbers, colours = set[int](), dict[tuple[int, ...], None]()
    for file in islice(
        sorted(path for path in masks.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES), _GUESSED
    ):
        try:
            image = read_label_image(file)
        except DataError:
            continue  # reported when it is read
        if image.coloured:
            colours.update(dict.fromkeys(map(tuple, np.unique(image.values.reshape(-1, 3), axis=0).tolist())))
        else:
            numbers.update(number for number in image.used() if 0 <= number < 255)
    if colours:
        named = list(colours)[:255]
        names = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in named)
        return dict(metainfo=dict(classes=names, palette=named))
    first = 1 if numbers and min(numbers) >= 1 else 0
    names = tuple(f"class {number}" for number in range(first, max(numbers | {first + 1}) + 1))
    return dict(
        metainfo=dict(classes=names, palette=list(palette(len(names)))), reduce_zero_label=bool(first)
    )


def _potsdam(folder: Path) -> Datasets:
    """``2_Ortho_RGB/*_RGB.tif`` (or IRRG, RGBIR) with ``5_Labels_all/*_label.tif``."""
    ortho = sorted(path for path in folder.rglob("*") if path.is_dir() and "Ortho" in path.name)
    labels = sorted(path for path in folder.rglob("*") if path.is_dir() and path.name.startswith("5_Labels"))
    tiles = [
        path
        for path in (*ortho, folder)
        if list(path.glob("top_potsdam_*_RGB*.tif")) or list(path.glob("top_potsdam_*_IRRG.tif"))
    ]
    maps = [path for path in (*labels, folder) if list(path.glob("top_potsdam_*_label*.tif"))]
    if not tiles or not maps:
        return {}
    kind = next(kind for kind in ("RGB", "IRRG", "RGBIR") if list(tiles[0].glob(f"*_{kind}.tif")))
    whole = bool(list(maps[0].glob("*_label.tif")))
    return {
        "all": _masks(
            tiles[0], maps[0], image=f"_{kind}.tif", mask="_label.tif" if whole else "_label_noBoundary.tif",
            pipeline=_ONE if whole else _ERODED,
        ) | dict(type="rsfoundation.ISPRSColourDataset")
    }  # fmt: skip


def _vaihingen(folder: Path) -> Datasets:
    """``top/top_mosaic_09cm_area1.tif`` with a folder of equally named ground truth."""
    tops = [
        path
        for path in (folder, *sorted(folder.rglob("*")))
        if path.is_dir() and list(path.glob("top_mosaic_*.tif"))
    ]
    images = next((path for path in tops if path.name == "top"), None)
    maps = next((path for path in tops if path != images), None)
    if images is None or maps is None:
        return {}
    eroded = bool(list(maps.glob("*_noBoundary.tif")))
    suffix = "_noBoundary.tif" if eroded else ".tif"
    return {
        "all": _masks(images, maps, image=".tif", mask=suffix, pipeline=_ERODED if eroded else _ONE)
        | dict(type="rsfoundation.ISPRSColourDataset")
    }


def _loveda(folder: Path) -> Datasets:
    """``{Train,Val,Test}/{Rural,Urban}/{images_png,masks_png}``."""
    found: Datasets = {}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        areas = [
            area
            for area in sorted(part.iterdir())
            if (area / "images_png").is_dir() and (area / "masks_png").is_dir()
        ]
        meta = LoveDADataset.METAINFO
        sets = [
            _masks(area / "images_png", area / "masks_png", metainfo=meta, reduce_zero_label=True)
            for area in areas
        ]
        if sets:
            found[_split_name(part.name)] = _joined(sets)
    return found


def _uavid(folder: Path) -> Datasets:
    """``uavid_{train,val}/seq*/{Images,Labels}``."""
    found: Datasets = {}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        sequences = [
            seq for seq in sorted(part.iterdir()) if (seq / "Images").is_dir() and (seq / "Labels").is_dir()
        ]
        meta = UAVidDataset.METAINFO
        sets = [_masks(seq / "Images", seq / "Labels", metainfo=meta) for seq in sequences]
        if sets:
            found[_split_name(part.name.removeprefix("uavid_"))] = _joined(sets)
    return found


def _isaid(folder: Path) -> Datasets:
    """``<split>/images`` with ``<split>/Semantic_masks/*_instance_color_RGB.png``."""
    meta = ISAIDDataset.METAINFO
    return {
        split: _masks(part / "images", part / "Semantic_masks", mask="_instance_color_RGB.png", metainfo=meta)
        for split, part in _splits(folder, "images", "Semantic_masks")
    }


def _whu_building(folder: Path) -> Datasets:
    """``<split>/{image,label}`` with labels of 0 and 255."""
    return {
        split: _masks(part / "image", part / "label", metainfo=_BUILDINGS, label_map={255: 1})
        for split, part in _splits(folder, "image", "label")
    }


def _hrsid_masks(folder: Path) -> Datasets:
    """``images`` with ``masks/*_instance_color_RGB.png``: HRSID's label maps of ships."""
    masks, end = folder / "masks", "_instance_color_RGB.png"
    if not (folder / "images").is_dir() or not [*masks.glob(f"*{end}")]:
        return {}
    meta = dict(classes=("background", "ship"), palette=[(0, 0, 0), (128, 0, 0)])
    return {"all": _masks(folder / "images", masks, mask=end, metainfo=meta)}


def _images(folder: Path) -> Datasets:
    """Images without labels."""
    suffixes = {path.suffix for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    parts = [_masks(folder, folder, image=suffix, pipeline=_LOAD) for suffix in sorted(suffixes)]
    for part in parts:
        part.update(data_prefix=dict(img_path=str(folder)), metainfo=dict(classes=(), palette=[]))
    return {"all": _joined(parts)} if parts else {}


def _joined(sets: list[dict[str, Any]]) -> dict[str, Any]:
    return sets[0] if len(sets) == 1 else dict(type="ConcatDataset", datasets=sets)


def _pairs(first: str, second: str, label: str, text: str, **options: Any) -> Callable[[Path], Datasets]:
    """Return the layout of pairs in three folders, below each split or in the folder itself."""

    def find(folder: Path) -> Datasets:
        found: Datasets = {}
        for split, part in _splits(folder, first, second):
            suffix = _suffix(part / first)
            if suffix is None:
                continue
            maps = part / label
            prefix = dict(img_path_from=str(part / first), img_path_to=str(part / second))
            prefix |= dict(seg_map_path=str(maps)) if maps.is_dir() else {}
            settings = dict(
                format_seg_map="to_binary",
                img_suffix=suffix,
                seg_map_suffix=_suffix(maps) or suffix if maps.is_dir() else suffix,
            )
            base = dict(
                type="rsfoundation._BaseCDDataset",
                data_prefix=prefix,
                pipeline=_TWO if maps.is_dir() else _TWO[:1],
                test_mode=True,
            )
            lists = sorted((part / "list").glob("*.txt")) if part == folder else []
            named = [path for path in lists if path.stem in _SPLIT_NAMES]
            for path in named:
                lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
                ends = bool(lines) and lines[0].endswith(suffix)
                plain = dict(img_suffix="", seg_map_suffix="") if ends else {}
                found[_split_name(path.stem)] = {
                    **base,
                    **settings,
                    **plain,
                    "ann_file": str(path),
                    **options,
                }
            if not named:
                found[split] = {**base, **settings, **options}
        return found

    find.__doc__ = text
    return find


LAYOUTS: Mapping[str, Callable[[Path], Datasets]] = {
    "fair1m": _fair1m,
    "isaid": _isaid,
    "yolo": _yolo,
    "dota": _dota,
    "dior": _dior,
    "hrsc": _hrsc,
    "prepared": _prepared,
    "loveda": _loveda,
    "uavid": _uavid,
    "potsdam": _potsdam,
    "vaihingen": _vaihingen,
    "levir-cd": _pairs("A", "B", "label", "``<split>/{A,B,label}``"),
    "whu-cd": _pairs(
        "A", "B", "label", "``{A,B,label}`` with ``list/<split>.txt``, or ``<split>/{A,B,label}``"
    ),
    "cdd": _pairs("A", "B", "OUT", "``<split>/{A,B,OUT}``"),
    "s2looking": _pairs("Image1", "Image2", "label", "``<split>/{Image1,Image2,label}``"),
    "second": _pairs("im1", "im2", "label", "``<split>/{im1,im2,label}``"),
    "sysu-cd": _pairs("time1", "time2", "label", "``<split>/{time1,time2,label}``"),
    "clcd": _pairs("time1", "time2", "label", "``<split>/{time1,time2,label}``"),
    "dsifn": _pairs("t1", "t2", "mask", "``<split>/{t1,t2,mask}``"),
    "whu-building": _whu_building,
    "hrsid-masks": _hrsid_masks,
    "coco": _coco,
    "images": _images,
}
