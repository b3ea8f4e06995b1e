"""``rsf submission``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say, table

_SHOWN = 20  # problems of one archive


def register(app: typer.Typer) -> None:
    """Add the verb with its topics."""
    group = typer.Typer(no_args_is_help=True, help="Check result files for a server.")
    group.command("check")(check)
    app.add_typer(group, name="submission")


def check(
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
    the line and the fix of what the server would refuse. Names of patches and names with the suffix of an
    image are refused with and without --images. Exit status 2 when something is wrong.

    Example: rsf submission check work_dirs/RUN/submission/Task1.zip --images data/DOTA/test/images
    """
    from rsfoundation.evaluation.submission.check import check_submission
    from rsfoundation.evaluation.submission.metric import list_images

    known = list_images(images) if images is not None else None
    checked = [check_submission(path, known, classes or None) for path in archives]
    rows = [(one.kind, one.path, one.files, one.images, one.detections, one.problem_count) for one in checked]
    table("submissions", ("for", "archive", "files", "images", "detections", "problems"), rows)
    for one in checked:
        if len(one.problems) > 1:
            shown = [
                (problem.where.removeprefix(f"{one.path}/"), problem.what, problem.fix)
                for problem in one.problems[:_SHOWN]
            ]
            title = f"{one.path}: the first {len(shown)} of {one.problem_count} problems"
            table(title, ("where", "what", "fix"), shown)
    for one in checked:
        one.raise_problem()
    say("accepted: nothing that the servers are known to refuse was found")
