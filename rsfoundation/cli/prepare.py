"""``rsf prepare``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsfoundation.cli.console import say, table
from rsfoundation.cli.options import Overrides
from rsfoundation.core.choices import (
    FeatureFormat,
    GroupBy,
    InstanceSource,
    LabelFormat,
    PolygonSource,
    TilingPreset,
)
from rsfoundation.core.errors import ConfigError, RSFError
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
    for command in (toy, dota, fair1m, change, index, labels, instances, masks, split, features):
        group.command(command.__name__)(command)
    for kind, layout in MAP_KINDS.items():
        group.command(kind)(_maps_command(kind, layout))
    for kind, layout in BOX_LAYOUTS.items():
        group.command(kind)(_boxes_command(kind, layout))
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
    """Draw aerial scenes with labels for every task, in the layouts of the real data sets.

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
        from rsfoundation.prepare.toy.make import make_change_polygons, make_geotiffs

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
    from rsfoundation.prepare.tiling import tile_dota

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
    from rsfoundation.prepare.tiling import tile_fair1m

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
        str,
        typer.Argument(
            help="The data set: dota, dior, fair1m, hrsc, ssdd, hrsid or yolo (YOLO-OBB); or label files of "
            "any other: coco, voc (roLabelImg), label-studio, cvat, vector (GeoPackage, GeoJSON)."
        ),
    ],
    root: Annotated[Path, typer.Argument(help="Its folder, as distributed.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make: images/ (links) and the labels.")],
    form: Annotated[
        LabelFormat,
        typer.Option(
            "--to",
            help="dota: labelTxt/. coco: annotations.json. yolo: labels/ and data.yaml. fair1m: labelXml/. "
            "voc: Annotations/ of roLabelImg. label-studio: label_studio.json. cvat: annotations.xml. "
            "gpkg, geojson: labels/ in the CRS of each image.",
        ),
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
    class_column: Annotated[
        str | None,
        typer.Option("--class-column", help="Column of vector files with the class names; class."),
    ] = None,
    on_error: OnErrorOption = "fail",
) -> None:
    """Convert the oriented boxes of a data set or of a labelling tool to the files of another.

    Example: rsf prepare labels dior data/dior --split trainval --to coco -o data/dior_coco/trainval
    """
    from rsfoundation.prepare.labels import convert_labels

    with _fixes_of_the_console():
        result = convert_labels(
            kind, root, out, splits=split, form=form, version=version, classes=classes,
            class_column=class_column, on_error=on_error,
        )  # fmt: skip
    table("labels", ("", "count"), list(result.counts().items()))
    say(f"folder: {result.out}")


def instances(
    kind: Annotated[
        InstanceSource,
        typer.Argument(
            help="whu: WHU Building's masks. nwpu: NWPU VHR-10's text files. isaid: instance masks. "
            "masks: connected components of label maps in any known layout."
        ),
    ],
    root: Annotated[Path, typer.Argument(help="Its folder, as distributed.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The COCO json to write.")],
    split: Annotated[
        str | None, typer.Option("--split", "-s", help="train, val or test; NWPU has none.")
    ] = None,
    tiles: Annotated[
        Path | None, typer.Option("--tiles", help="iSAID: its tiles, such as data/isaid/img_dir/train.")
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
            kind, root, out, split=split, tiles=tiles, connectivity=connectivity, min_area=min_area,
            on_error=on_error, workers=workers,
        )  # fmt: skip
    totals = {"images": made.report.images, "objects": made.report.objects, **made.report.counts}
    table("instances", ("", "count"), list(totals.items()))
    say(f"written to {made.path}")


def masks(
    kind: Annotated[
        PolygonSource,
        typer.Argument(
            help="coco: a COCO json. vector: GeoPackage, GeoJSON and others over images or rasters."
        ),
    ],
    root: Annotated[
        Path, typer.Argument(help="Its folder; of vectors <split>/images with labels/<image>.gpkg.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make: img_dir/ (links) and ann_dir/.")],
    split: Annotated[
        list[str] | None, typer.Option("--split", "-s", help="Split, repeatable; of COCO all when not given.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="File with the classes, one a line, with a colour or without."),
    ] = None,
    class_column: Annotated[
        str, typer.Option("--class-column", help="Column of vector files with the class names.")
    ] = "class",
    background: Annotated[
        bool, typer.Option(help="Pixels of no polygon are class 0, background; else they are ignored.")
    ] = True,
    on_error: OnErrorOption = "fail",
    workers: Workers = 2,
) -> None:
    """Draw polygons as label maps, the smallest on top, for semantic segmentation.

    Example: rsf prepare masks vector data/harbour --split train -o data/harbour_masks
    """
    from rsfoundation.prepare.polygons import draw_label_maps

    with _fixes_of_the_console():
        made = draw_label_maps(
            kind, root, out, splits=split or (), classes=classes, class_column=class_column,
            background=background, on_error=on_error, workers=workers,
        )  # fmt: skip
    totals = {**made.tiles, "objects": made.report.objects or 0, **made.report.counts}
    table("label maps", ("", "count"), list(totals.items()))
    say(f"folder: {made.out}")


def split(
    folder: Annotated[Path, typer.Argument(help="Folder of the images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for train.txt, val.txt and test.txt.")],
    by: Annotated[
        GroupBy,
        typer.Option("--by", help="What stays together: scene (by name), grid or region (by extent)."),
    ] = "scene",
    shares: Annotated[str, typer.Option("--shares", help="Of two or three splits.")] = "0.8,0.2",
    block: Annotated[float, typer.Option("--block", help="Squares of a grid, in units of the CRS.")] = 1000.0,
    seed: Annotated[int, typer.Option("--seed", help="Another seed makes other splits.")] = 0,
) -> None:
    """Divide images into splits that share no scene and no ground, and write their lists.

    Example: rsf prepare split data/mine/images -o data/mine/lists --by grid --shares 0.8,0.1,0.1
    """
    from rsfoundation.prepare.split import split_images

    try:
        parts = [float(word) for word in shares.split(",")]
    except ValueError:
        raise ConfigError(f"shares is {shares!r}", where="--shares", fix="--shares 0.8,0.1,0.1") from None
    made = split_images(folder, out, by=by, shares=parts, block=block, seed=seed)
    rows = [(name, made.images[name], made.groups[name], path) for name, path in made.files.items()]
    table("splits", ("split", "images", "groups", "list"), rows)


def features(
    config: Annotated[str, typer.Argument(help="A config of a FeatureDistiller, such as those in distill.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the cache; an older one is continued.")],
    form: Annotated[
        FeatureFormat, typer.Option("--format", help="int8 has a scale per channel, and a quarter of fp32.")
    ] = "int8",
    max_gib: Annotated[float, typer.Option("--max-gib", help="Refuse to make a larger cache.")] = 100.0,
    part: Annotated[
        str, typer.Option("--part", help="i/n: the i-th of n processes that share the work, from 0.")
    ] = "0/1",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option("--batch", help="Images at once.", min=1)] = 4,
    workers: Annotated[int, typer.Option("--workers", help="Processes that load images.", min=0)] = 2,
    cfg_options: Overrides = None,
) -> None:
    """Compute the maps of a distillation's teacher once, for trainings that read them from disk.

    Example: rsf prepare features distill/toy_sam_rsmamba_cached -o data/features/toy
    """
    from rsfoundation.prepare.features import prepare_features

    place, _, count = part.partition("/")
    if not (place.isdigit() and count.isdigit() and int(place) < int(count)):
        raise ConfigError(f"the part is {part!r}", where="--part", fix="--part 0/4 to --part 3/4")
    made = prepare_features(
        config,
        out,
        form=form,
        max_gib=max_gib,
        part=(int(place), int(count)),
        device=device,
        batch=batch,
        workers=workers,
        overrides=tuple(cfg_options or ()),
    )
    counts = {"computed": made.computed, "kept": made.kept, "damaged": made.damaged, "stale": made.stale}
    table("features", ("", "count"), list(counts.items()))
    say(
        f"folder: {made.out}, {made.bytes_per_map} bytes each"
        if made.bytes_per_map
        else f"folder: {made.out}"
    )


MAP_KINDS = {
    "potsdam": "ISPRS Potsdam: folders or zips of ortho photos and labels; tiles of 512 px, step 256.",
    "vaihingen": "ISPRS Vaihingen: top/ and ground truth; tiles of 512 px, step 256.",
    "loveda": "LoveDA: {Train,Val}/{Rural,Urban}, or its zips; whole images.",
    "uavid": "UAVid: uavid_{train,val}/seq*/{Images,Labels}; tiles of 1024 px.",
    "isaid": "iSAID's semantic masks: <split>/{images,Semantic_masks}; tiles of 896 px, step 512.",
    "whu-building": "WHU buildings: <split>/{image,label}; whole images.",
    "levir-cd": "LEVIR-CD: <split>/{A,B,label}, or its zips; tiles of 256 px.",
    "s2looking": "S2Looking: <split>/{Image1,Image2,label}; whole images.",
    "whu-cd": "WHU-CD: {A,B,label} with lists, or <split>/{A,B,label}; tiles of 256 px.",
    "cdd": "CDD (SVCD): <split>/{A,B,OUT}; whole images.",
    "clcd": "CLCD: <split>/{time1,time2,label}; whole images.",
    "sysu-cd": "SYSU-CD: <split>/{time1,time2,label}; whole images.",
    "dsifn": "DSIFN: <split>/{t1,t2,mask}; whole images.",
    "second": "SECOND: <split>/{im1,im2,label1,label2}; the map of change is made; whole images.",
}
BOX_LAYOUTS = {
    "dior": "DIOR and DIOR-R: JPEGImages-*, Annotations and ImageSets/Main.",
    "hrsc": "HRSC2016: FullDataSet and ImageSets.",
    "ssdd": "SSDD in any of its layouts: COCO json, DOTA text or xml.",
    "hrsid": "HRSID: JPEGImages and annotations/{train,test}2017.json.",
    "nwpu-vhr10": "NWPU VHR-10: positive image set and ground truth (made annotations.json), or COCO json.",
}


def _boxes_command(kind: str, layout: str) -> Callable[..., None]:
    """Return the command of one data set that is trained on as distributed."""

    def command(
        source: Annotated[
            Path, typer.Argument(help="As distributed: a folder, an archive, or a folder of archives.")
        ],
        out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make, as configs read it.")],
        on_error: OnErrorOption = "fail",
    ) -> None:
        from rsfoundation.prepare.boxes import prepare_boxes

        with _fixes_of_the_console():
            made = prepare_boxes(kind, source, out, on_error=on_error)
        rows = [(split, made.images[split], made.objects[split]) for split in made.images]
        title = "already there" if made.reused else "prepared"
        table(title, ("split", "images", "objects"), rows)
        if made.report.counts:
            table("left out or repaired", ("", "count"), list(made.report.counts.items()))
        say(f"folder: {made.out}")

    command.__doc__ = f"Lay out {layout} Archives are unpacked, folders linked, and all labels read."
    return command


def _maps_command(kind: str, layout: str) -> Callable[..., None]:
    """Return the command of one data set of label maps or pairs."""

    def command(
        source: Annotated[
            Path, typer.Argument(help="As distributed: a folder, an archive, or a folder of archives.")
        ],
        out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make.")],
        window: Annotated[
            int | None, typer.Option("--window", help="Side of the tiles in pixels; 0: whole images.", min=0)
        ] = None,
        stride: Annotated[
            int | None, typer.Option("--stride", help="Step of the tiles; the side when not given.", min=1)
        ] = None,
        on_error: OnErrorOption = "fail",
        workers: Workers = 2,
    ) -> None:
        from rsfoundation.prepare.maps import prepare_maps

        with _fixes_of_the_console():
            result = prepare_maps(
                kind, source, out, window=window, stride=stride, on_error=on_error, workers=workers
            )
        rows = [*result.tiles.items(), *result.report.counts.items()]
        table("already there" if result.reused else "prepared", ("", "count"), rows)
        if result.resumed:
            say(f"{result.resumed} images were finished by an interrupted run")
        say(f"folder: {result.out}")

    command.__doc__ = f"Prepare {layout}"
    return command


def _tiling(
    presets: Mapping[TilingPreset, TilingSettings],
    preset: TilingPreset,
    window: int | None,
    gap: int | None,
    rates: list[float] | None,
) -> TilingSettings:
    """Return the preset's settings with those that were given in place of its own."""
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
