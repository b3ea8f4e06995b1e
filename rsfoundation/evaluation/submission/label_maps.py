"""Result archives of segmentation servers, LoveDA and UAVid: writing and checking them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from PIL import Image

from rsfoundation.core.errors import ConfigError, DataError, check_choice
from rsfoundation.datasets.segmentation import LoveDADataset, UAVidDataset
from rsfoundation.evaluation.submission.archive import file_names, open_zip, write_zip
from rsfoundation.io.png import write_png
from rsfoundation.io.rasters import image_size
from rsfoundation.registry import METRICS

Server = Literal["loveda", "uavid"]
_NAMES = {"loveda": re.compile(r"(?:[^/]+/)?\d+\.png"), "uavid": re.compile(r"seq\d+/Labels/\d+\.png")}
_EXPECTED = {"loveda": "1.png, all in one folder", "uavid": "seq21/Labels/000000.png"}
_CLASSES = {"loveda": len(LoveDADataset.METAINFO["classes"]), "uavid": len(UAVidDataset.METAINFO["classes"])}
_UAVID_COLOURS = tuple(map(tuple, UAVidDataset.METAINFO["palette"]))


@dataclass(frozen=True)
class LabelMapArchive:
    """Content of an archive that nothing was found wrong with.

    Attributes:
        path: The archive.
        server: ``loveda`` or ``uavid``.
        files: Number of label maps.
    """

    path: Path
    server: Server
    files: int


def check_label_maps(
    path: str | Path, server: Server, sizes: Mapping[str, tuple[int, int]] | None = None
) -> LabelMapArchive:
    """Check an archive of label maps: names, kind of image, values, sizes, and that none is missing.

    Args:
        path: The archive.
        server: Whose rules hold. LoveDA: PNGs of one band with the numbers 0..6. UAVid: RGB PNGs in the
            colours of the data set, in the tree of the test frames.
        sizes: Width and height of every test image by its name in the archive; not compared when not given.

    Raises:
        DataError: The server would refuse the archive, or count a pixel as wrong for its value.
    """
    check_choice("server", server, get_args(Server), "check_label_maps")
    path = Path(path)
    with open_zip(path) as archive:
        names = file_names(archive)
        if not names:
            raise DataError("the archive holds no file", where=path, fix="zip the label maps")
        for name in names:
            if not _NAMES[server].fullmatch(name):
                raise DataError(
                    f"the file is not named as the server expects: {_EXPECTED[server]}",
                    where=f"{path}/{name}",
                    fix="keep the names of the test images, and leave other files out",
                )
        folders = {PurePosixPath(name).parent for name in names}
        if server == "loveda" and len(folders) > 1:
            raise DataError(
                f"label maps are in {len(folders)} folders, expected one",
                where=path,
                fix="put all in one folder",
            )
        known = {_key(name, server): name for name in names}
        if sizes is not None:
            _require_names(path, known, sizes)
        for key, name in known.items():
            size = None if sizes is None else sizes[key]
            _check_map(archive, f"{path}/{name}", name, server, size)
    return LabelMapArchive(path, server, len(names))


def server_of(names: Sequence[str]) -> Server:
    """Return whose rules hold for an archive with these files: UAVid's maps are in folders ``Labels``."""
    return "uavid" if any("Labels" in PurePosixPath(name).parts for name in names) else "loveda"


def image_sizes(folder: Path, server: Server) -> dict[str, tuple[int, int]]:
    """Return width and height of the test images in a folder, by the names of their label maps in an archive.

    Args:
        folder: Holds the images at any depth, as distributed.
        server: Whose images they are.

    Raises:
        DataError: There is no image, two have one name, or one cannot be read.
    """
    pattern = "*.png" if server == "loveda" else "seq*/Images/*.png"
    sizes: dict[str, tuple[int, int]] = {}
    for file in sorted(folder.rglob(pattern)):
        name = label_map_name(file, server)
        if name in sizes:
            raise DataError(f"two images are called {name}", where=file, fix="name the folder of one split")
        sizes[name] = image_size(file)
    if not sizes:
        raise DataError(f"no {pattern} in the folder", where=folder, fix="name the folder of the test images")
    return sizes


def label_map_name(image: Path, server: Server) -> str:
    """Return the name of an image's label map in an archive.

    Args:
        image: Its path, as distributed.
        server: Whose image it is.
    """
    return image.name if server == "loveda" else f"{image.parent.parent.name}/Labels/{image.name}"


def _key(name: str, server: Server) -> str:
    """Return the name of an image as ``sizes`` has it: without LoveDA's folder."""
    return PurePosixPath(name).name if server == "loveda" else name


def _require_names(path: Path, known: Collection[str], sizes: Mapping[str, Any]) -> None:
    missing, unknown = sorted(set(sizes) - set(known)), sorted(set(known) - set(sizes))
    if missing or unknown:
        counts = f"{len(missing)} of {len(sizes)} label maps are missing" if missing else ""
        extra = f"{len(unknown)} belong to no test image" if unknown else ""
        first = (missing or unknown)[0]
        raise DataError(
            f"{' and '.join(filter(None, (counts, extra)))}, first: {first}",
            where=path,
            fix="test the whole test split, and no other",
        )


def _check_map(
    archive: zipfile.ZipFile, where: str, name: str, server: Server, size: tuple[int, int] | None
) -> None:
    try:
        with Image.open(io.BytesIO(archive.read(name))) as picture:
            pixels, mode, kind = np.asarray(picture), picture.mode, picture.format
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"the label map cannot be read: {error}", where=where, fix="write it again"
        ) from error
    expected = "L" if server == "loveda" else "RGB"
    if kind != "PNG" or mode != expected:
        raise DataError(
            f"the label map is {kind} of kind {mode}, expected PNG of kind {expected}",
            where=where,
            fix="convert it",
        )
    if size is not None and (pixels.shape[1], pixels.shape[0]) != size:
        raise DataError(
            f"the label map is {pixels.shape[1]}x{pixels.shape[0]}, its image {size[0]}x{size[1]} pixels",
            where=where,
            fix="predict at the size of the image",
        )
    if server == "loveda":
        if pixels.max() >= _CLASSES[server]:
            raise DataError(
                f"the label map holds {int(pixels.max())}; expected 0 (background) to 6 (agriculture)",
                where=where,
                fix="subtract 1 from the numbers of the training masks",
            )
        return
    found = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    unknown = sorted(found - set(_UAVID_COLOURS))
    if unknown:
        raise DataError(
            f"the colour {unknown[0]} is of no class", where=where, fix="write the data set's colours"
        )


@METRICS.register_module()
class LabelMapSubmission(BaseMetric):
    """Writes the predicted class maps, and the archive for the server of LoveDA or UAVid; checks it.

    Args:
        out: Folder for the label maps and the archive.
        server: ``loveda`` or ``uavid``; by the number of classes when ``auto``.
        collect_device: Where results of ranks are gathered.
        prefix: Put before every name.

    Attributes:
        archive: The archive that was written last, on the first rank.
    """

    default_prefix = "submission"

    def __init__(
        self,
        out: str,
        server: Literal["auto", "loveda", "uavid"] = "auto",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_choice("server", server, ("auto", *get_args(Server)), "LabelMapSubmission")
        self.out, self._server = Path(out), server
        self.out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to shows before the test
        self.archive: LabelMapArchive | None = None

    @property
    def server(self) -> Server:
        """Whose rules hold.

        Raises:
            ConfigError: The classes are those of no known server.
        """
        if self._server != "auto":
            return self._server
        count = len(self.dataset_meta["classes"])
        for server in get_args(Server):
            if _CLASSES[server] == count:
                return server
        raise ConfigError(
            f"no server is known for {count} classes",
            where="--format-only",
            fix="predict label maps with `rsf predict`, or test a config of LoveDA or UAVid",
        )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the class map of each sample.

        Args:
            data_batch: Not used.
            data_samples: With ``pred_sem_seg`` and ``img_path``.
        """
        for sample in data_samples:
            labels = sample["pred_sem_seg"]["data"][0].cpu().numpy().astype(np.uint8)
            name = label_map_name(Path(sample["img_path"]), self.server)
            file = self.out / "label_maps" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if self.server == "uavid":
                colours = np.array(_UAVID_COLOURS, np.uint8)[labels]
                Image.fromarray(colours).save(file)
            else:
                write_png(labels, file)
            self.results.append((name, labels.shape[::-1]))

    def compute_metrics(self, results: list[tuple[str, tuple[int, int]]]) -> dict[str, float]:
        """Write and check the archive; the metrics are counts."""
        sizes = dict(sorted(results))
        path = self.out / f"{self.server}.zip"
        folder = self.out / "label_maps"
        write_zip(path, ((name, io.BytesIO((folder / name).read_bytes())) for name in sizes))
        self.archive = check_label_maps(path, self.server, sizes)
        MMLogger.get_current_instance().info("%d label maps, checked: %s", len(sizes), path)
        return {"images": float(len(sizes))}
