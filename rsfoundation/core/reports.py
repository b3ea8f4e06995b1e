"""What readers find wrong in a data set: counted by kind, with files, first examples and fixes.

Every reader of every task fills one :class:`DatasetReport`. A reader never stops at the first problem and
never decides what a problem means: it calls :meth:`DatasetReport.error` for what is broken,
:meth:`DatasetReport.note` for what a rule leaves out or repairs, :meth:`DatasetReport.warn` for what looks
wrong as a whole, and leaves the broken part out. The policy of the data set, ``fail`` or ``skip``, decides
once, at the end, in :meth:`DatasetReport.enforce`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import write_json

Policy = Literal["fail", "skip"]
ReadingPolicy = Literal["fail", "skip", "count"]  # count: leave out and count, decode no image
SKIPPING = "on_error='skip' in the data set's config"  # how a user asks for the second, in fixes
_NAMED = 3  # files, and places, that a message names of each kind
_EXAMPLES = 3  # examples that are kept of each kind


@dataclass(frozen=True)
class Example:
    """One case of a problem.

    Attributes:
        where: Its place: ``file:line``, or file and annotation id.
        what: What was found there, and what was expected.
        fix: The edit or command that repairs it.
    """

    where: str
    what: str
    fix: str | None = None


@dataclass
class _Kind:
    """All cases of one kind of problem; ``errors`` of them stop a reader whose policy is ``fail``."""

    count: int = 0
    errors: int = 0
    files: dict[str, None] = field(default_factory=dict)  # an ordered set
    examples: list[Example] = field(default_factory=list)


@dataclass
class DatasetReport:
    """What reading one data set found; pickles, merges, and writes itself as JSON.

    Attributes:
        images: Images (pairs, for change detection) that the data set has after reading.
        objects: Labelled objects; ``None`` for label maps.
        warnings: What looks wrong about the data set as a whole.
    """

    images: int = 0
    objects: int | None = None
    warnings: list[str] = field(default_factory=list)
    _kinds: dict[str, _Kind] = field(default_factory=dict, repr=False)

    def note(self, kind: str, files: Sequence[str], example: Example | None = None) -> None:
        """Count what a rule leaves out or repairs, whatever the policy.

        Args:
            kind: The problem in the plural, such as ``boxes without area``.
            files: The file of every case; a file with three cases is given three times. Nothing is
                counted where there is none.
            example: The place of one of the cases.
        """
        if files:
            entry = self._kinds.setdefault(kind, _Kind())
            entry.count += len(files)
            entry.files.update(dict.fromkeys(files))
            if example is not None and len(entry.examples) < _EXAMPLES:
                entry.examples.append(example)

    def error(self, kind: str, error: DataError, *files: str | Path) -> None:
        """Count broken files, lines or annotations, which the reader leaves out.

        Args:
            kind: The problem in the plural, such as ``malformed label lines``.
            error: What was found, where, and the fix; raised by :meth:`enforce` under ``fail``.
            files: The file of every case; its name is kept.
        """
        names = [Path(file).name for file in files]
        self.note(kind, names, Example(error.where or names[0], error.what, error.fix))
        self._kinds[kind].errors += len(names)

    def warn(self, warning: str) -> None:
        """Keep what looks wrong about the data set as a whole; each text once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def merge(self, other: DatasetReport) -> None:
        """Add what another report has: its totals, its cases and its warnings."""
        self.images += other.images
        if other.objects is not None:
            self.objects = (self.objects or 0) + other.objects
        for kind, theirs in other._kinds.items():
            entry = self._kinds.setdefault(kind, _Kind())
            entry.count += theirs.count
            entry.errors += theirs.errors
            entry.files.update(theirs.files)
            entry.examples = [*entry.examples, *theirs.examples][:_EXAMPLES]
        for warning in other.warnings:
            self.warn(warning)

    def enforce(self, policy: ReadingPolicy) -> None:
        """Apply the policy of a data set to the errors that were counted.

        Args:
            policy: ``skip`` and ``count`` accept them: they stay in the report. ``fail`` raises.

        Raises:
            DataError: Under ``fail``, there are errors. One error for all of them: the first, and where
                there are more, the counts by kind and the next places.
        """
        broken = {kind: entry for kind, entry in self._kinds.items() if entry.errors}
        if policy != "fail" or not broken:
            return
        examples = [example for entry in broken.values() for example in entry.examples]
        first, total = examples[0], sum(entry.errors for entry in broken.values())
        what = first.what
        if len(examples) > 1:
            counts = "; ".join(f"{entry.errors} {kind} ({_shown(entry)})" for kind, entry in broken.items())
            places = ", ".join(example.where for example in examples[1:_NAMED])
            what += f" (the first of {total} problems: {counts}{f'; next: {places}' if places else ''})"
        raise DataError(what, where=first.where, fix=first.fix)

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases of each kind."""
        return {kind: entry.count for kind, entry in self._kinds.items()}

    @property
    def errors(self) -> dict[str, int]:
        """Number of errors of each kind, 0 for kinds that rules leave out whatever the policy."""
        return {kind: entry.errors for kind, entry in self._kinds.items()}

    @property
    def files(self) -> dict[str, list[str]]:
        """Names of the files of each kind, in the order they were read, without repeats."""
        return {kind: list(entry.files) for kind, entry in self._kinds.items()}

    @property
    def examples(self) -> dict[str, list[Example]]:
        """First cases of each kind that has a place."""
        return {kind: list(entry.examples) for kind, entry in self._kinds.items() if entry.examples}

    def __bool__(self) -> bool:
        """Whether anything was counted; warnings and totals are no cases."""
        return bool(self._kinds)

    def describe(self) -> str:
        """Return all counts with the first files of each kind on one line; empty where there are none."""
        return "; ".join(
            f"{self._kinds[kind].count} {kind} ({_shown(self._kinds[kind])})" for kind in sorted(self._kinds)
        )

    def log(self, name: str) -> None:
        """Write totals, counts and warnings to the log.

        Args:
            name: What the log calls the data set.
        """
        from mmengine.logging import MMLogger  # imports torch; the command line reads Policy without it

        logger = MMLogger.get_current_instance()
        objects = "" if self.objects is None else f", {self.objects} objects"
        logger.info("%s: %d images%s", name, self.images, objects)
        if self:
            logger.warning("%s: left out or repaired: %s", name, self.describe())
        for warning in self.warnings:
            logger.warning("%s: %s", name, warning)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; the layout is described in ``docs/datasets.md``."""
        problems = [
            dict(
                kind=kind,
                count=entry.count,
                errors=entry.errors,
                files=list(entry.files),
                examples=[vars(example) for example in entry.examples],
            )
            for kind, entry in self._kinds.items()
        ]
        return dict(images=self.images, objects=self.objects, problems=problems, warnings=list(self.warnings))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DatasetReport:
        """Return the report that :meth:`to_json` wrote; what is absent is empty."""
        report = cls(content.get("images", 0), content.get("objects"), list(content.get("warnings", ())))
        for item in content.get("problems", ()):
            examples = [Example(**example) for example in item["examples"]]
            report._kinds[item["kind"]] = _Kind(
                item["count"], item["errors"], dict.fromkeys(item["files"]), examples
            )
        return report

    def write(self, path: Path) -> None:
        """Write :meth:`to_json` to a file."""
        write_json(path, self.to_json())


def _shown(entry: _Kind) -> str:
    files = list(entry.files)
    more = f" and {len(files) - _NAMED} more files" if len(files) > _NAMED else ""
    return ", ".join(files[:_NAMED]) + more
