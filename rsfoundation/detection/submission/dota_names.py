"""Files of a DOTA archive: one for each class of one task, at the top."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from shlex import quote

from rsfoundation.detection.classes import DOTA_CLASSES
from rsfoundation.detection.submission.faults import Faults, Finding
from rsfoundation.detection.submission.layout import base_name, files_lie, take_out
from rsfoundation.errors import nearest

TASKS = ("Task1", "Task2")


def is_of(task: str, name: str) -> bool:
    """Whether a file is meant for a task, by its name in any folder and case."""
    return base_name(name).lower().startswith(f"{task.lower()}_")


def task_of(names: Sequence[str]) -> str:
    """Tell by most of its files which task an archive is for."""
    return max(TASKS, key=lambda task: sum(is_of(task, name) for name in names))


def expected_files(names: Sequence[str], task: str, classes: Sequence[str] | None) -> list[str]:
    """Return the names of the files that must be there.

    Args:
        names: Of the files that are there.
        task: ``Task1`` or ``Task2``.
        classes: Class names; ``None`` takes those of the DOTA version that fits best.
    """
    versions = [tuple(classes)] if classes is not None else list(DOTA_CLASSES.values())
    found = {base_name(name) for name in names}
    choices = [[f"{task}_{name}.txt" for name in version] for version in versions]
    return min(choices, key=lambda files: len(found.symmetric_difference(files)))


def check_names(path: str, names: Sequence[str], expected: Sequence[str], task: str, faults: Faults) -> None:
    """Note files that lie in a folder or are unexpected.

    Args:
        path: The archive.
        names: Of the files in it that belong into an archive.
        expected: Names of the files that must be there.
        task: ``Task1`` or ``Task2``.
        faults: Receives what is wrong.
    """
    top = {name for name in names if "/" not in name}
    nested = [name for name in names if "/" in name]
    for first, finding in _in_folders(path, nested, top, task):
        faults.add(f"{path}/{first}", finding)
    for name in names:
        if name in top and name not in expected:
            faults.add(f"{path}/{name}", _unexpected(name, expected, task))


def check_missing(path: str, names: Sequence[str], expected: Sequence[str], faults: Faults) -> None:
    """Note class files that stand nowhere in an archive, not even in a wrong place."""
    there = {base_name(name) for name in names}
    for name in expected:
        if name not in there:
            what = f"the file {name!r} is missing; all {len(expected)} classes need one"
            faults.add(path, Finding("missing file", what, "add it, empty where nothing was found"))


def _in_folders(
    path: str, nested: Sequence[str], top: Collection[str], task: str
) -> Iterator[tuple[str, Finding]]:
    """Yield the first file of each wrong folder and what is wrong; class files the top lacks are ours."""
    homes = {_folder(name) for name in nested if is_of(task, name) and base_name(name) not in top}
    ours = [name for name in nested if _folder(name) in homes]
    if ours:
        yield ours[0], _class_files(len(ours), sorted(homes), task)
    strangers: dict[str, list[str]] = {}
    for name in nested:
        if _folder(name) not in homes:
            strangers.setdefault(_folder(name), []).append(name)
    for folder, files in strangers.items():
        what = f"{files_lie(len(files))} in the folder {folder!r}; expected class files of {task} only"
        yield files[0], Finding("unexpected folder", what, take_out(path, f"{folder}/*"))


def _class_files(count: int, folders: Sequence[str], task: str) -> Finding:
    if len(folders) == 1:
        place = f"the folder {folders[0]!r}"
        cure = f"cd {quote(folders[0])} && zip ../{task}.zip {task}_*.txt"
    else:
        place = f"the folders {', '.join(map(repr, folders))}"
        cure = f"zip -j {task}.zip {' '.join(f'{quote(folder)}/{task}_*.txt' for folder in folders)}"
    what = f"{files_lie(count)} in {place}; expected them at the top of the archive"
    return Finding("file in a folder", what, cure)


def _unexpected(name: str, expected: Sequence[str], task: str) -> Finding:
    if any(is_of(other, name) for other in TASKS if other != task):
        what = f"unexpected file {name!r} among those of {task}"
        return Finding("unexpected file", what, "take it out: each task has an archive of its own")
    hint = nearest(name, expected, 1)
    what = f"unexpected file {name!r}{f'; {hint}' if hint else ''}"
    return Finding("unexpected file", what, f"take it out, or rename it {task}_<class>.txt")


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)
