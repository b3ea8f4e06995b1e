"""Names of images in a submission: those of the full test images, without suffix."""

from dataclasses import dataclass, field

from rsfoundation.detection.dota_files import IMAGE_SUFFIXES
from rsfoundation.detection.evaluation.merging import place_of
from rsfoundation.detection.submission.faults import Finding
from rsfoundation.errors import DataError, nearest

_LONGEST = 255  # what file systems hold
_HINTS = 20  # a name is compared with thousands, which takes a hundredth of a second; nobody reads more
_NAMES = "names are those of the full test images, without folder and suffix"
_MERGE = f"{_NAMES}, and so are the pixels: `rsf test --format-only` merges patches"


@dataclass
class ImageNames:
    """Which names of images a server takes.

    Attributes:
        known: Names of the test images, without suffix; ``None`` where they are not known.
    """

    known: frozenset[str] | None
    _hints: dict[str, str] = field(default_factory=dict)

    def fault(self, name: str) -> Finding | None:
        """Say what is wrong with a name, if anything is."""
        if not name.isprintable() or len(name) > _LONGEST or "/" in name or "\\" in name:
            what = f"no image is named {name[:100]!r}"
            return Finding("bad image name", what, _NAMES)
        stem = _without_suffix(name)
        if _is_patch(stem):
            return Finding("patch name", f"{name!r} is the name of a patch", _MERGE)
        if stem != name:
            what = f"the image name {name!r} has a suffix; did you mean {stem!r}?"
            return Finding("name with suffix", what, _NAMES)
        return None if self.known is None or name in self.known else self._unknown(name, self.known)

    def _unknown(self, name: str, known: frozenset[str]) -> Finding:
        if name not in self._hints and len(self._hints) < _HINTS:
            self._hints[name] = nearest(name, sorted(known), 1)
        hint = self._hints.get(name)
        what = f"unknown image {name!r}{f'; {hint}' if hint else ''}"
        return Finding("unknown image", what, _NAMES)


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _is_patch(name: str) -> bool:
    try:
        return place_of(name).image != name
    except DataError:  # cut from a resized image
        return True
