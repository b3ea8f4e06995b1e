"""``rsf prepare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsfoundation.cli.console import say, table
from rsfoundation.core.choices import InstanceSource, LabelFormat, TilingPreset
from rsfoundation.core.errors import RSFError
from rsfoundation.core.reports import SKIPPING, Policy
from rsfoundation.datasets.oriented.classes import DotaVersion

if TYPE_CHECKING:
    from rsfoundation.geometry.tiling import TilingSettings
    from rsfoundation.io.loading import ImageLoading
    from rsfoundation.prepare.tiling import TilingResult


Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to make: images/ and annfiles/.")]
Window = Annotated[
    int | None, typer.Option("--window", help="Side of the windows in pixels; the preset's when not given.")
]
Gap = Annotated[
    int | None, typer.Option("--gap", help="Overlap of neighbouring windows; the preset's when not given.")
]
Rates = Annotated[
    list[float] | None, typer.Option("--rate", help="Scale, repeatable; the preset's when not given.")
]
Virtual = Annotated[
    bool,
    typer.Option(
        "--virtual",
        help="Write an index only: training reads the windows when it needs them. "
        "Broken images are found then, unless --on-error skip looks for them.",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands", help="Bands of the patches, by number or name, red first: 4,3,2.", metavar="BANDS"
    ),
]
PixelRangeOption = Annotated[
    str | None,
    typer.Option(
        "--pixel-range",
        help="Values that become 0 and 255, of every image: 0,2047; or native, which keeps 16 bit.",
        metavar="LOW,HIGH",
    ),
]
OnErrorOption = Annotated[
    Policy,
    typer.Option(
        "--on-error",
        help="skip: leave broken images and labels out and count them; every image is decoded to find them.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", help="Threads.", min=1)]


@contextmanager
def _fixes_of_the_console() -> Iterator[None]:
    """Let fixes name the option of these verbs; other verbs have no such option."""
    try:
        yield
    except RSFError as error:
        if SKIPPING not in (error.fix or ""):
            raise
        fix = str(error.fix).replace(SKIPPING, "--on-error skip (on_error='skip' in Python)")
        raise type(error)(error.what, where=error.where, fix=fix) from error


def register(app: typer.Typer) -> None:
    """Add the verb with one sub-command per kind of data."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Prepare data sets: draw toy scenes, tile large images into patches, convert labels.",
    )
    for command in (toy, dota, fair1m, change, index, labels, instances):
        group.command(command.__name__)(command)
    app.add_typer(group, name="prepare")


def toy(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("data/toy"),
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Only this task, repeatable; all when not given.")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the scenes in pixels.", min=64)] = 256,
    train: Annotated[int, typer.Option("--train", help="Training scenes.", min=0)] = 160,
    val: Annotated[int, typer.Option("--val", help="Validation scenes.", min=0)] = 40,
    test: Annotated[int, typer.Option("--test", help="Test scenes.", min=0)] = 8,
    large: Annotated[
        int, typer.Option("--large", help="Large scenes, for prediction by windows.", min=0)
    ] = 1,
    geotiff: Annotated[
        bool,
        typer.Option(
            "--geotiff",
            help="The large scenes as GeoTIFFs too: CRS, 5 bands, no data at a border, polygons of change.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other scenes.", min=0)] = 0,
) -> None:
    """Draw aerial scenes with labels for all four tasks, in the layouts of the real data sets.

    Example: rsf prepare toy data/toy --size 512 --train 400
    """
    from rsfoundation.prepare.toy.make import TASKS, make_toy_scenes

    counts = {"train": train, "val": val, "test": test}
    report = make_toy_scenes(
        out, size=size, counts=counts, large=large, seed=seed, tasks=tuple(task or TASKS)
    )
    rows = [
        (name, "already there" if name in report.reused else "drawn", folder)
        for name, folder in report.folders.items()
    ]
    table("toy scenes", ("task", "", "folder"), rows)
    say(", ".join(f"{count} {split}" for split, count in report.scenes.items()))
    if geotiff:
        from rsfoundation.prepare.toy.geotiff import make_change_polygons, make_geotiffs

        for file in (*make_geotiffs(out, large, seed=seed), *make_change_polygons(out, large, seed=seed)):
            say(f"written to {file}")


def dota(
    sources: Annotated[
        list[Path], typer.Argument(help="Split folders with images/ and labelTxt/ (none for a test split).")
    ],
    out: Out,
    preset: Annotated[
        TilingPreset,
        typer.Option("--preset", help="ss: 1024 px, gap 200. ms: gap 500 at rates 0.5, 1 and 1.5."),
    ] = "ss",
    window: Window = None,
    gap: Gap = None,
    rates: Rates = None,
    version: Annotated[
        DotaVersion | None,
        typer.Option(
            "--version", help="Take labels from a folder that names it, as labelTxt-v1.5, if there."
        ),
    ] = None,
    virtual: Virtual = False,
    bands: Bands = None,
    pixel_range: PixelRangeOption = None,
    on_error: OnErrorOption = "fail",
    workers: Workers = 2,
) -> None:
    """Tile large images with DOTA labels into patches for training.

    Example: rsf prepare dota data/DOTA/train data/DOTA/val -o data/dota/ms/trainval --preset ms
    """
    from rsfoundation.geometry.tiling import DOTA_TILINGS
    from rsfoundation.prepare.dota import tile_dota

    with _fixes_of_the_console():
        report = tile_dota(
            sources,
            out,
            tiling=_tiling(DOTA_TILINGS, preset, window, gap, rates),
            version=version,
            on_error=on_error,
            workers=workers,
            virtual=virtual,
            loading=_loading(bands, pixel_range, virtual),
        )
    _show(report)


def fair1m(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="train (with part1/ and part2/), validation or test, with images/ and labelXml/."
        ),
    ],
    out: Out,
    preset: Annotated[
        TilingPreset,
        typer.Option("--preset", help="ms: gap 500 at rates 0.5, 1 and 1.5. ss: 1024 px, gap 256."),
    ] = "ms",
    window: Window = None,
    gap: Gap = None,
    rates: Rates = None,
    virtual: Virtual = False,
    bands: Bands = None,
    pixel_range: PixelRangeOption = None,
    on_error: OnErrorOption = "fail",
    workers: Workers = 2,
) -> None:
    """Tile FAIR1M's images into patches with DOTA label files; blanks in class names become _.

    Example: rsf prepare fair1m data/FAIR1M/train -o data/fair1m/ms/train
    """
    from rsfoundation.geometry.tiling import FAIR1M_TILINGS
    from rsfoundation.prepare.dota import tile_fair1m

    with _fixes_of_the_console():
        report = tile_fair1m(
            sources,
            out,
            tiling=_tiling(FAIR1M_TILINGS, preset, window, gap, rates),
            on_error=on_error,
            workers=workers,
            virtual=virtual,
            loading=_loading(bands, pixel_range, virtual),
        )
    _show(report)


def change(
    before: Annotated[Path, typer.Argument(help="First date: a raster with a CRS.")],
    after: Annotated[Path, typer.Argument(help="Second date, on the same pixel grid.")],
    polygons: Annotated[Path, typer.Argument(help="Vector file of what changed, in any CRS.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to make: train/ and val/ with A, B and label.")
    ],
    window: Annotated[int, typer.Option("--window", help="Side of the pairs in pixels.")] = 256,
    val: Annotated[float, typer.Option("--val", help="Share of the pairs to validate on.")] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other pairs for validation.")] = 0,
) -> None:
    """Cut two dates of an area, and polygons of what changed, into pairs for training.

    Example: rsf prepare change 2018.tif 2024.tif changes.gpkg -o data/change_pairs
    """
    from rsfoundation.prepare.change import make_change_pairs

    result = make_change_pairs(before, after, polygons, out, window=window, val=val, seed=seed)
    table("pairs", ("", "count"), list(result.counts().items()))
    say(f"folder: {result.out}")


def index(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of patches: images/ with annfiles/ or labelTxt/.")
    ],
) -> None:
    """Write the index of patches of another tool, or with edited labels: they load faster.

    Example: rsf prepare index data/dota/ss/trainval
    """
    from rsfoundation.datasets.oriented.patch_index import write_index
    from rsfoundation.prepare.tiling import index_of_folder

    for folder in folders:
        made = index_of_folder(folder)
        write_index(folder, made)
        say(f"{folder}: {len(made.table)} patches, {len(made.table.quads)} objects")


def labels(
    kind: Annotated[
        str, typer.Argument(help="The data set: dota, dior, fair1m, hrsc, ssdd, hrsid or yolo (YOLO-OBB).")
    ],
    root: Annotated[Path, typer.Argument(help="Its folder, as distributed.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make: images/ (links) and the labels.")],
    form: Annotated[
        LabelFormat,
        typer.Option("--to", help="dota: labelTxt/ and classes.txt. coco: annotations.json with polygons."),
    ],
    split: Annotated[list[str], typer.Option("--split", "-s", help="Split, repeatable, such as trainval.")],
    version: Annotated[
        DotaVersion | None,
        typer.Option("--version", help="Of DOTA: its classes, and labels from a folder that names it."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="File with your own classes, one a line; looked for in ROOT first."),
    ] = None,
    on_error: OnErrorOption = "fail",
) -> None:
    """Write the oriented boxes of a data set as DOTA text files or as one COCO json, for other tools.

    Example: rsf prepare labels dior data/dior --split trainval --to coco -o data/dior_coco/trainval
    """
    from rsfoundation.prepare.labels import convert_labels

    with _fixes_of_the_console():
        result = convert_labels(
            kind,
            root,
            out,
            splits=split,
            form=form,
            version=version,
            classes=classes,
            on_error=on_error,
        )
    table("labels", ("", "count"), list(result.counts().items()))
    say(f"folder: {result.out}")


def instances(
    kind: Annotated[
        InstanceSource, typer.Argument(help="whu: WHU Building's masks. nwpu: NWPU VHR-10's text files.")
    ],
    root: Annotated[Path, typer.Argument(help="Its folder, as distributed.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The COCO json to write.")],
    split: Annotated[
        str | None, typer.Option("--split", "-s", help="train, val or test of WHU Building.")
    ] = None,
    connectivity: Annotated[
        int, typer.Option("--connectivity", help="4: buildings that touch at a corner are two. 8: one.")
    ] = 4,
    min_area: Annotated[
        int, typer.Option("--min-area", help="Leave out, and count, components of fewer pixels.", min=1)
    ] = 1,
    on_error: OnErrorOption = "fail",
    workers: Workers = 2,
) -> None:
    """Write the objects of a data set that has no COCO json as one, with masks.

    Example: rsf prepare instances whu data/whu_building --split train
    -o data/whu_building/annotations/WHU_building_train.json
    """
    from rsfoundation.prepare.instances import convert_instances

    with _fixes_of_the_console():
        made = convert_instances(
            kind,
            root,
            out,
            split=split,
            connectivity=connectivity,
            min_area=min_area,
            on_error=on_error,
            workers=workers,
        )
    totals = {"images": made.report.images, "objects": made.report.objects, **made.report.counts}
    table("instances", ("", "count"), list(totals.items()))
    say(f"written to {made.path}")


def _tiling(
    presets: Mapping[TilingPreset, TilingSettings],
    preset: TilingPreset,
    window: int | None,
    gap: int | None,
    rates: list[float] | None,
) -> TilingSettings:
    """Return the preset's settings with those that were given in place of its own."""
    from dataclasses import replace

    chosen = presets[preset]
    return replace(
        chosen,
        window=chosen.window if window is None else window,
        gap=chosen.gap if gap is None else gap,
        rates=tuple(rates) if rates else chosen.rates,
    )


def _loading(bands: str | None, pixel_range: str | None, virtual: bool) -> ImageLoading:
    """Return how the images of patches are loaded.

    Raises:
        ConfigError: An option cannot be understood, or patches are not written.
    """
    from rsfoundation.core.errors import ConfigError
    from rsfoundation.datasets.transforms.images import image_loading

    if virtual and (bands or pixel_range):
        raise ConfigError(
            "virtual patches have the pixels of their images",
            where="--bands" if bands else "--pixel-range",
            fix="leave it out, and set image_loading=dict(bands=..., pixel_range=...) in the config",
        )
    return image_loading(bands, pixel_range)


def _show(result: TilingResult) -> None:
    table("patches", ("", "count"), list(result.counts().items()))
    say(f"folder: {result.out}")
