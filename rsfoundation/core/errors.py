"""Errors that a user can act on: what was found, where, what was expected, and the fix."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class RSFError(Exception):
    """An error with a place and a fix; the console prints it without a traceback.

    Args:
        what: The value found and the value expected.
        where: File, file and line, or config key of the problem.
        fix: The command or the edit that repairs it.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, str(where) if where is not None else None, fix
        lines = [what]
        if where is not None:
            lines.append(f"  where: {where}")
        if fix is not None:
            lines.append(f"  fix:   {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple:
        """Survive the trip out of a dataloader worker, which pickles exceptions."""
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[RSFError], what: str, where: str | None, fix: str | None) -> RSFError:
    return kind(what, where=where, fix=fix)


class ConfigError(RSFError):
    """A config that does not exist, does not parse, or names something unknown."""


class DataError(RSFError):
    """A data set, image or label that is missing or malformed."""


class CheckpointError(RSFError):
    """A checkpoint that is missing, broken, unsafe, or made for another model."""


class MissingOperatorError(RSFError, NotImplementedError):
    """An mmcv operator that the stand-in does not implement."""


def check_choice(option: str, value: object, known: Iterable[str], owner: str) -> None:
    """Refuse an option's value that is none of the known ones; ``owner`` has the option.

    Args:
        option: Name of the option.
        value: Its value.
        known: The values that exist.
        owner: The class or command that has the option.

    Raises:
        ConfigError: It is none.
    """
    choices = list(known)
    if value not in choices:
        raise ConfigError(
            f"there is no {option} {value!r}",
            where=f"{option} of {owner}",
            fix=f"one of {', '.join(choices)}",
        )


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return the known names nearest to ``name``, for the end of an error message.

    Args:
        name: The unknown name.
        known: The known ones.
        count: Most names in the answer.

    Returns:
        ``"did you mean 'a', 'b'?"``, or an empty string when nothing comes near.
    """
    pool = list(known)
    lowered = {candidate.lower(): candidate for candidate in pool}
    hits = [lowered[hit] for hit in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.5)]
    hits += [c for c in pool if name.lower() in c.lower() and c not in hits][: count - len(hits)]
    return f"did you mean {', '.join(repr(hit) for hit in hits)}?" if hits else ""
