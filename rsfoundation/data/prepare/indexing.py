"""Making the index of a folder of patches, from its files or from plans."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsfoundation.data.prepare.patches import Plan
from rsfoundation.data.prepare.sources import Source
from rsfoundation.detection.datasets.reading import read_labels
from rsfoundation.detection.dota_files import find_split
from rsfoundation.detection.label_table import LabelTable
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.detection.patch_index import PatchIndex, Witnesses, relative
from rsfoundation.detection.pixels import image_size
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import read_dota_txt


def index_of_folder(folder: Path) -> PatchIndex:
    """Read ``images/`` and ``annfiles/`` (or ``labelTxt/``) of a folder into an index.

    Raises:
        DataError: A label is malformed or missing, or belongs to no image.
    """
    files = find_split(folder, "")
    odd = [image for image, label in zip(files.images, files.labels, strict=True) if label is None]
    if files.labelled and (odd or files.orphans):
        raise DataError(
            f"{len(odd)} images without a label file, {len(files.orphans)} label files without an image",
            where=[*odd, *files.orphans][0],
            cure="add or remove files until images and labels pair up",
        )
    scan = read_labels(zip(files.images, files.labels, strict=True), read_dota_txt, "fail", LeftOut())
    labels = [label for label in files.labels if label is not None]
    return PatchIndex(
        names=tuple(picture.name for picture in scan.pictures),
        images=tuple(f"images/{image.name}" for image in files.images),
        labels=tuple(f"{label.parent.name}/{label.name}" for label in labels),
        sizes=np.array([p.size or image_size(Path(p.path)) for p in scan.pictures], dtype=np.int32).reshape(
            -1, 2
        ),
        windows=np.zeros((0, 3), dtype=np.int32),
        table=scan.table,
        witnesses=Witnesses.of(folder, labels),
    )


@dataclass(frozen=True)
class Part:
    """The patches of one image as a virtual folder has them.

    Attributes:
        source: The image.
        names: Of its patches.
        windows: ``x y side`` of each ``(P, 3)``.
        table: Their objects.
    """

    source: Source
    names: list[str]
    windows: NDArray[np.int32]
    table: LabelTable


def part_of(plan: Plan) -> Part:
    """Turn a plan into columns, which take far less memory."""
    windows = np.array([(tile.x, tile.y, tile.size) for tile in plan.tiles], dtype=np.int32)
    return Part(plan.source, plan.names, windows, plan.table)


def index_of_parts(folder: Path, parts: Sequence[Part]) -> PatchIndex:
    """Make the index of a virtual folder of one part or more, in the order that patch files would have."""
    names = [name for part in parts for name in part.names]
    order = np.array(sorted(range(len(names)), key=lambda row: f"{names[row]}.png"))
    owners = np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])[order]
    images = [relative(part.source.image, folder) for part in parts]
    labels = [part.source.label for part in parts if part.source.label is not None]
    label_names = [relative(label, folder) for label in labels]
    windows = np.concatenate([part.windows for part in parts])[order]
    return PatchIndex(
        names=tuple(names[row] for row in order),
        images=tuple(images[owner] for owner in owners),
        labels=tuple(label_names[owner] for owner in owners) if labels else (),
        sizes=windows[:, [2, 2]],
        windows=windows,
        table=LabelTable.joined([part.table for part in parts]).take(order),
        witnesses=Witnesses.of(folder, labels, [part.source.image for part in parts]),
    )
