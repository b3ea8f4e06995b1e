"""Errors of the operating system that a user can mend, as sentences."""

from __future__ import annotations

import errno

from rsfoundation.errors import RSFError

_ROOM = "free some space or choose another folder; what was complete before is kept"
_RIGHTS = "choose a folder that you may write to, or change its owner"
_FILE = "choose another path: a file stands where a folder is needed, or the other way round"
_CURES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of file sizes: ulimit -f unlimited",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EEXIST: _FILE,
    errno.ENOTDIR: _FILE,
    errno.EISDIR: _FILE,
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}


def as_known(error: BaseException) -> RSFError | None:
    """Return the sentence for an error of the system; ``None`` for others."""
    if not isinstance(error, OSError) or error.errno not in _CURES:
        return None
    what = (error.strerror or "the system refused").lower()
    return RSFError(what, where=error.filename, cure=_CURES[error.errno])
