"""The sources of a folder of patches: images with their label files."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.annotations import LabelReader
from rsfoundation.io.dota import SplitFiles, read_dota_txt


@dataclass(frozen=True)
class Source:
    """An image and its label file.

    Attributes:
        name: First part of the names of its patches.
        image: Image file.
        label: Label file, if it has one.
        labelled: Whether its split has labels: distinguishes a missing file from a split without.
        read: Reads the label file.
    """

    name: str
    image: Path
    label: Path | None
    labelled: bool
    read: LabelReader = read_dota_txt


@dataclass(frozen=True)
class Sources:
    """The images of some splits.

    Attributes:
        images: Each with its label file.
        orphans: Label files without an image.
    """

    images: tuple[Source, ...]
    orphans: tuple[Path, ...]

    @classmethod
    def of(
        cls, splits: Sequence[SplitFiles], name: Callable[[Path], str], read: LabelReader = read_dota_txt
    ) -> "Sources":
        """Put splits together.

        Args:
            splits: Their files.
            name: Returns the first part of the names of an image's patches.
            read: Reads the label files.
        """
        images = tuple(
            Source(name(image), image, label, files.labelled, read)
            for files in splits
            for image, label in zip(files.images, files.labels, strict=True)
        )
        return cls(images, tuple(label for files in splits for label in files.orphans))

    @property
    def labelled(self) -> bool:
        """Whether there is a label folder."""
        return any(source.labelled for source in self.images)

    def check(self) -> None:
        """Check that the images can share a folder.

        Raises:
            DataError: Two have one name, or some splits have labels and some have none.
        """
        found: dict[str, Source] = {}
        for source in self.images:
            earlier = found.setdefault(source.name, source)
            if earlier is not source:
                raise DataError(
                    f"two images are called {source.name}: {earlier.image} and {source.image}",
                    where=source.image.parent,
                    fix="name each folder once"
                    if earlier.image == source.image
                    else "tile them into different folders",
                )
        if self.labelled and not all(source.labelled for source in self.images):
            raise DataError(
                "some of the folders have labels and some have none",
                where=", ".join(sorted({str(source.image.parent.parent) for source in self.images})),
                fix="tile labelled and unlabelled splits into different folders",
            )

    def fingerprint(self) -> str:
        """Return a digest of the names, sizes and dates of all files; it changes with any of them."""
        digest = hashlib.sha256()
        pairs = ((source.image, source.label) for source in self.images)
        for path in (*(path for pair in pairs for path in pair if path is not None), *self.orphans):
            state = path.stat()
            digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
        return digest.hexdigest()
