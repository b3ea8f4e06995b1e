"""Writing zip archives whose files are deflated while they grow, several side by side.

``zipfile`` deflates one file after the other, when all of it is there: half of the time of a submission, on
one core, after all other work. Here a file is deflated as its lines come, and only its result is kept.
"""

import shutil
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal results give equal bytes
_LEVEL = 1  # a tenth larger than at the usual level, and five times faster
_IN_MEMORY = 4 << 20  # bytes of each file that stay in memory


class DeflatedFile(AbstractContextManager):
    """A file to be put into an archive; what it holds goes when its context ends.

    Args:
        name: In the archive.
    """

    def __init__(self, name: str) -> None:
        self._info = zipfile.ZipInfo(name, _NO_TIME)
        self._info.compress_type = zipfile.ZIP_DEFLATED
        self._info.external_attr = 0o644 << 16
        self._info.CRC = self._info.file_size = 0
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._packed: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed at the end)

    def __exit__(self, *_: Any) -> None:
        self._packed.close()

    def write(self, content: bytes) -> None:
        """Append to the file."""
        self._info.CRC = zlib.crc32(content, self._info.CRC)
        self._info.file_size += len(content)
        self._packed.write(self._packer.compress(content))

    def put_into(self, archive: zipfile.ZipFile) -> None:
        """End the file and make it the next one of an archive, as ``ZipFile.writestr`` does with a text."""
        self._packed.write(self._packer.flush())
        self._info.compress_size = self._packed.tell()
        self._packed.seek(0)
        assert archive.fp is not None  # it is open
        self._info.header_offset = archive.fp.tell()
        archive.fp.write(self._info.FileHeader())
        shutil.copyfileobj(self._packed, archive.fp)
        archive.filelist.append(self._info)
        archive.NameToInfo[self._info.filename] = self._info
        archive.start_dir = archive.fp.tell()  # where the directory of the archive goes when it is closed
        archive.comment = b""  # marks it as changed


def write_zip(path: Path, files: Iterable[DeflatedFile]) -> None:
    """Write an archive, whole or not at all.

    Args:
        path: The archive.
        files: In the order they get there; each may be closed when the next is asked for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    with zipfile.ZipFile(aside, "w") as archive:
        for file in files:
            file.put_into(archive)
    aside.replace(path)
