"""What cutting made and what it left out: the figures, and the sentences of the log."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from rsfoundation.data.prepare.sources import Sources
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.errors import DataError

_LEFT_OUT = {
    "lost": "objects in no patch",
    "outside": "objects beyond their image",
    "degenerate": "objects without area",
    "malformed": "malformed labels",
    "broken": "images that cannot be read or have no label file",
}
_ORPHANS = "label files without an image"


@dataclass(frozen=True)
class CutReport:
    """What was cut.

    Attributes:
        out: Folder with ``images`` and, where the source is labelled, ``annfiles``; with ``index.npz``
            alone for a virtual one.
        images: Images cut.
        patches: Patches written, or laid out.
        empty_patches: Those without an object.
        objects: Objects in the source.
        placed: Labels written; an object may lie in several patches.
        cut: Those of them that a border cuts (difficulty 2).
        lost: Objects in no patch: no window holds enough of them.
        outside: Objects wholly beyond their image, in no patch either.
        degenerate: Objects without area, in no patch either.
        malformed: Label lines left out under ``on_error='skip'``.
        broken: Images left out under ``on_error='skip'``: unreadable, or without a label file.
        orphans: Label files without an image.
        reused: The folder was there already, made of the same files in the same way.
    """

    out: Path
    images: int = 0
    patches: int = 0
    empty_patches: int = 0
    objects: int = 0
    placed: int = 0
    cut: int = 0
    lost: int = 0
    outside: int = 0
    degenerate: int = 0
    malformed: int = 0
    broken: int = 0
    orphans: int = 0
    reused: bool = False


def add_up(sources: Sources, counts: Sequence[Mapping[str, int]], out: Path) -> dict[str, Any]:
    """Add up the figures of all images; log them, and which files something was left out of.

    Args:
        sources: What was cut.
        counts: What each image adds to the figures of :class:`CutReport`.
        out: What the log calls the folder.

    Returns:
        The figures of the report.

    Raises:
        DataError: Every image was left out.
    """
    total = Counter({"orphans": len(sources.orphans)})
    left_out = LeftOut()
    left_out.note(_ORPHANS, [path.name for path in sources.orphans])
    for source, count in zip(sources.images, counts, strict=True):
        total.update(count)
        for key, kind in _LEFT_OUT.items():
            file = source.image if key == "broken" else source.label or source.image
            left_out.note(kind, [file.name] * count.get(key, 0))
    if not total["images"]:
        raise DataError(
            f"no image is left to cut: left out {left_out.sentence()}",
            where=out,
            cure="mend the files; --on-error fail (on_error='fail' in Python) says what the first one has",
        )
    _log(sources, total, left_out, out)
    return dict(total)


def _log(sources: Sources, total: Mapping[str, int], left_out: LeftOut, out: Path) -> None:
    logger = MMLogger.get_current_instance()
    logger.info(
        "%s: %d images, %d patches, %d labels", out, total["images"], total["patches"], total["placed"]
    )
    if not sources.labelled:
        logger.warning("%s: no label folder was found: the patches are those of a test split", out)
    if left_out:
        logger.warning("%s: left out %s", out, left_out.sentence())
