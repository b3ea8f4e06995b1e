"""``rsf info submission``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say, table

_SHOWN = 20


def submission(
    archives: Annotated[list[Path], typer.Argument(help="Task1.zip, Task2.zip or FAIR1M's test.zip.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of the full test images: unknown names are refused then."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Class name, repeatable, for data of your own; those of DOTA or FAIR1M when not given.",
        ),
    ] = None,
) -> None:
    """Check archives against the rules of the DOTA and FAIR1M servers before they are uploaded.

    Looks at layout, class files, columns, scores, corners, repeated boxes and image names, and says the file,
    the line and the cure of what the server would refuse. Names of patches and names with the suffix of an
    image are refused with and without --images. Exit status 2 when something is wrong.

    Example: rsf info submission work_dirs/RUN/submission/Task1.zip --images data/DOTA/test/images
    """
    from rsfoundation.detection.submission import check_submission
    from rsfoundation.detection.submission.metric import list_images

    known = list_images(images) if images is not None else None
    checked = [check_submission(path, known, classes or None) for path in archives]
    rows = [(one.kind, one.path, one.files, one.images, one.detections, one.fault_count) for one in checked]
    table("submissions", ("for", "archive", "files", "images", "detections", "faults"), rows)
    for one in checked:
        if len(one.faults) > 1:
            shown = [
                (fault.where.removeprefix(f"{one.path}/"), fault.what, fault.cure) for fault in one.faults
            ]
            title = f"{one.path}: the first {min(_SHOWN, len(shown))} of {one.fault_count} faults"
            table(title, ("where", "what", "cure"), shown[:_SHOWN])
    for one in checked:
        one.refuse()
    say("accepted: nothing that the servers are known to refuse was found")
