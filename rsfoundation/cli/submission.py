"""``rsf submission``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rsfoundation.cli.console import metrics_table, say, table
from rsfoundation.cli.options import JsonFile, write_json

_SHOWN = 20  # problems of one archive


def register(app: typer.Typer) -> None:
    """Add the verb with its topics."""
    group = typer.Typer(no_args_is_help=True, help="Check result files for a server, or evaluate them.")
    group.command("check")(check)
    group.command("evaluate")(evaluate)
    app.add_typer(group, name="submission")


def check(
    archives: Annotated[
        list[Path], typer.Argument(help="Task1.zip, Task2.zip, FAIR1M's test.zip, label maps.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Folder of the full test images: unknown names are refused then.",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Class name, repeatable, for data of your own; those of DOTA or FAIR1M when not given.",
        ),
    ] = None,
) -> None:
    """Check archives against the rules of their server: DOTA, FAIR1M, LoveDA or UAVid.

    Looks at layout, class files, columns, scores, corners, repeated boxes and image names, and says the file,
    the line and the fix of what the server would refuse. Names of patches and names with the suffix of an
    image are refused with and without --images. Of label maps: names, kind and values, and with --images
    sizes, and that none is missing. Exit status 2 when something is wrong.

    Example: rsf submission check work_dirs/RUN/submission/Task1.zip --images data/DOTA/test/images
    """
    from rsfoundation.evaluation.submission.check import check_submission

    checked = [check_submission(path, images, classes or None) for path in archives]
    rows = [
        (
            *(one.kind, one.path, one.files, one.images),
            *("-" if one.detections is None else one.detections, one.problem_count),
        )
        for one in checked
    ]
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


def evaluate(
    results: Annotated[
        Path, typer.Argument(help="Task1.zip, Task2.zip, FAIR1M's test.zip, or a json file of COCO results.")
    ],
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            help="Folder of the full images' labels (DOTA's *.txt, FAIR1M's *.xml); for COCO results their "
            "annotation file.",
        ),
    ],
    rules: Annotated[
        Literal["devkit", "mmrotate", "coco"] | None,
        typer.Option("--rules", help="devkit for archives and coco for COCO results, when not given."),
    ] = None,
    ap: Annotated[
        Literal["voc07", "voc12"],
        typer.Option("--ap", help="Average precision by 11 points or by area; COCO's rules have their own."),
    ] = "voc07",
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class name in label order, repeatable, for data of your own."),
    ] = None,
    difficult: Annotated[
        Literal["count", "ignore"] | None,
        typer.Option(
            "--difficult",
            help="DOTA's objects of difficulty 1 or more; as the rules have it, when not given.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for curves, a table of classes and a confusion matrix."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Evaluate result files of any program against labels, by the rules of DOTA's devkit, mmrotate or COCO.

    Corners are compared as they are written under the devkit's rules: quadrilaterals of any shape are not
    turned into rectangles first. Which rule gives which number: docs/evaluation.md.

    Example: rsf submission evaluate Task1.zip --labels data/DOTA/val/labelTxt

    COCO: rsf submission evaluate found.segm.json --labels annotations/instances_val.json
    """
    from rsfoundation.evaluation.oriented.report import write_report
    from rsfoundation.evaluation.submission.evaluate import evaluate_results

    scored = evaluate_results(results, labels, rules, ap, classes or None, difficult)
    for number, one in enumerate(scored, start=1):
        rows = [
            tuple("-" if value != value or value == -1 else value for value in row) for row in one.classes
        ]
        columns = ("class", "objects", "detections", "AP50", "AP75", "AP")
        table(f"{one.kind}: {one.protocol}", columns, rows)
        means = {name: value for name, value in one.metrics.items() if "/" not in name}
        metrics_table(f"{one.kind}: {one.path}", means)
        for note in one.notes:
            say(f"note: {note}")
        if out is not None and one.evaluation is not None:
            folder = out if number == 1 else out / str(number)
            for file in write_report(one.evaluation, folder):
                say(f"written: {file}")
    write_json(json_file, dict(results=[one.to_json() for one in scored]))
