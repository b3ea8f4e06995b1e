"""Evaluation, merging and loading of boxes next to mmrotate, and COCO's metrics next to pycocotools.

    python benchmarks/detection.py [--only NAME ...] [--threads 2] [--repeats 3] [--json FILE]

Both sides get the same data, made here; results are compared before anything is timed. A peer that takes
longer than five seconds is timed once, ours is the median of the repeats. mmrotate's evaluation always starts
processes (two here, its best on two cores), which is part of the price of calling it; the row "in process"
lends it a pool that works on the spot. mmrotate runs on this package's operators unless mmcv is compiled:
only what is built on top of them is compared. "asked" is the goal: times faster than the peer, or seconds
where there is none.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = tuple(f"class-{label:02}" for label in range(15))
SLOW = 5.0  # seconds


@dataclass(frozen=True)
class Row:
    """One comparison, in seconds.

    Attributes:
        name: The work.
        size: Its amount.
        dtype: Of the boxes.
        peer: The call it is compared with; empty where there is none.
        peer_s: Seconds of the peer.
        ours_s: Seconds of ours.
        asked: Times faster, or seconds where there is no peer.
    """

    name: str
    size: str
    dtype: str
    ours_s: float
    asked: float
    peer: str = ""
    peer_s: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is."""
        return self.peer_s / self.ours_s if self.peer_s is not None else None

    @property
    def met(self) -> bool:
        """Whether the goal was reached."""
        return self.ratio >= self.asked if self.ratio is not None else self.ours_s <= self.asked


def clock(call: Callable[[], Any], repeats: int) -> float:
    """Return the median seconds of a call, after one that warms up; slow calls are timed once, cold."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
        if times[0] > SLOW:
            return times[0]
    return statistics.median(times[1:] or times)


def draw_boxes(rng: np.random.Generator, count: int, extent: float) -> np.ndarray:
    """Draw boxes of 8 to 60 pixels over a square."""
    sizes = rng.uniform(8, 60, (count, 2))
    boxes = [rng.uniform(0, extent, (count, 2)), sizes, rng.uniform(-1.5, 1.5, (count, 1))]
    return np.concatenate(boxes, axis=1).astype(np.float32)


def distinct_scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw scores without ties, which sorting may order either way."""
    return ((rng.permutation(count) + 0.5) / count).astype(np.float32)


def tested_images() -> list[Any]:
    """Return 200 images of 60 objects and 285 detections, 57 000 in all; two of three objects are found."""
    from rsfoundation.evaluation.oriented.image_results import ImageResult

    rng = np.random.default_rng(0)
    scores = distinct_scores(rng, 57000).reshape(200, 285)
    records = []
    for index in range(200):
        truth, labels = draw_boxes(rng, 60, 1024), rng.integers(0, 15, 60).astype(np.int16)
        near = [truth + rng.normal(0, noise, (60, 5)) * (1, 1, 1, 1, 0.02) for noise in (0.5, 1.5, 3)]
        found = np.concatenate([*near, draw_boxes(rng, 105, 1024)]).astype(np.float32)
        found_labels = np.concatenate([labels] * 3 + [rng.integers(0, 15, 105).astype(np.int16)])
        ignored = rng.random(60) < 0.1
        name = f"{index:04}"
        records.append(
            ImageResult(name, "", (1024, 1024), found, scores[index], found_labels, truth, labels, ignored)
        )
    return records


class OnTheSpot:
    """Replaces multiprocessing's context and pool, and works in this process."""

    def __init__(self, *_: Any) -> None:
        self.starmap = lambda work, jobs: [work(*job) for job in jobs]
        self.close = lambda: None

    def Pool(self, _: int) -> "OnTheSpot":
        """Return the pool."""
        return self


def bench_evaluation(repeats: int) -> list[Row]:
    """AP of 15 classes over 200 images; ours adds nine more thresholds and the confusion matrix."""
    from mmrotate.evaluation.functional import mean_ap

    from rsfoundation.evaluation.oriented.evaluate import evaluate
    from rsfoundation.evaluation.oriented.image_results import join_results

    records = tested_images()
    found = [
        [np.column_stack([r.boxes, r.scores])[r.labels == label] for label in range(15)] for r in records
    ]
    truth = [
        dict(
            bboxes=r.truth[~r.ignored],
            labels=r.truth_labels[~r.ignored],
            bboxes_ignore=r.truth[r.ignored],
            labels_ignore=r.truth_labels[r.ignored],
        )
        for r in records
    ]

    def theirs() -> tuple:
        return mean_ap.eval_rbbox_map(found, truth, iou_thr=0.5, logger="silent", nproc=2)

    def ours() -> Any:
        return evaluate(join_results(records), CLASSES)

    start, mean_ap.get_context = mean_ap.get_context, OnTheSpot
    mean, rows = theirs()
    in_process = clock(theirs, repeats)
    mean_ap.get_context = start
    aps = ours().aps()[:, 0]
    if not np.allclose([row["ap"] for row in rows], aps, atol=1e-6) or not 0.1 < mean < 0.95:
        raise SystemExit("APs differ")
    mine, size = clock(ours, repeats), "200 images, 15 classes, 57000 detections"
    called = clock(theirs, 0)
    return [
        Row("evaluation", size, "float32", mine, 20, "eval_rbbox_map(nproc=2)", called),
        Row(
            "evaluation, peer in process",
            size,
            "float32",
            mine,
            1,
            "eval_rbbox_map, no processes",
            in_process,
        ),
    ]


def tested_patches() -> list[Any]:
    """Return 500 patches of 200 detections: 20 images cut as DOTA is, windows of 1024 px that share 200."""
    from rsfoundation.evaluation.oriented.image_results import ImageResult

    rng = np.random.default_rng(1)
    scores = distinct_scores(rng, 100_000).reshape(500, 200)
    none = np.zeros((0, 5), np.float32), np.zeros(0, np.int16), np.zeros(0, bool)
    noise = np.array([0.5, 0.5, 0.5, 0.5, 0.01], np.float32)
    records = []
    for image in range(20):
        scene, kinds = draw_boxes(rng, 5200, 4320), rng.integers(0, 15, 5200).astype(np.int16)
        for place in range(25):
            x, y = 824 * (place % 5), 824 * (place // 5)
            local = scene - np.array([x, y, 0, 0, 0], np.float32)
            inside = np.flatnonzero(((local[:, :2] > 0) & (local[:, :2] < 1024)).all(axis=1))
            chosen = rng.choice(inside, 200, replace=False)
            boxes = local[chosen] + rng.normal(0, 1, (200, 5)).astype(np.float32) * noise
            found = scores[image * 25 + place], kinds[chosen]
            name = f"P{image:04}__1024__{x}___{y}"
            records.append(ImageResult(name, "", (1024, 1024), boxes, *found, *none))
    return records


def bench_merging(repeats: int) -> list[Row]:
    """Patches to the archive of Task1; ours with every digit of the scores."""
    from mmrotate.evaluation.metrics import DOTAMetric

    from rsfoundation.evaluation.oriented.patch_merging import merge_patches
    from rsfoundation.evaluation.submission.dota_results import write_dota

    records = tested_patches()
    results = [dict(img_id=r.name, labels=r.labels, bboxes=r.boxes, scores=r.scores) for r in records]
    metric = DOTAMetric(merge_patches=True, outfile_prefix="unused")
    metric.dataset_meta = dict(classes=CLASSES)
    folder = Path(tempfile.mkdtemp())
    numbers = iter(range(1000))

    def theirs() -> Path:
        return Path(metric.merge_results(results, str(folder / str(next(numbers)))))

    def ours() -> Path:
        return write_dota(folder / "ours", merge_patches(records), CLASSES, ("Task1",)).files[0]

    compare_archives(theirs(), ours())
    size = "500 patches of 20 images, 200 detections each"
    return [
        Row(
            "merging and writing",
            size,
            "float32",
            clock(ours, repeats),
            15,
            "DOTAMetric.merge_results",
            clock(theirs, repeats),
        )
    ]


def compare_archives(theirs: Path, ours: Path) -> None:
    """Stop where two archives hold other detections; theirs has scores of two digits."""
    from scipy.spatial import KDTree

    for name in CLASSES:
        (places, scores), (our_places, our_scores) = (read_archive(path, name) for path in (theirs, ours))
        gaps, partner = KDTree(places).query(our_places)
        if len(places) != len(our_places) or len(np.unique(partner)) != len(partner) or gaps.max() > 0.03:
            raise SystemExit(f"merged boxes differ: {name}")
        if np.abs(scores[partner] - our_scores).max() > 0.0051:
            raise SystemExit(f"scores differ: {name}")


def read_archive(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return image and upright bounds ``(n, 5)``, and scores, of one class file."""
    from zipfile import ZipFile

    lines = ZipFile(path).read(f"Task1_{name}.txt").decode().split("\n")[:-1]
    table = np.array([[float(value) for value in line[1:].split()] for line in lines])
    corners = table[:, 2:].reshape(-1, 4, 2)
    return np.column_stack([table[:, 0] * 1e5, corners.min(axis=1), corners.max(axis=1)]), table[:, 1]


def bench_dense(repeats: int) -> list[Row]:
    """One image with 32 000 detections of one class, and as many objects."""
    from rsfoundation.evaluation.oriented.evaluate import evaluate
    from rsfoundation.evaluation.oriented.image_results import ImageResult, join_results
    from rsfoundation.evaluation.oriented.patch_merging import suppress

    rng = np.random.default_rng(2)
    boxes, scores, labels = (
        draw_boxes(rng, 32000, 4096),
        distinct_scores(rng, 32000),
        np.zeros(32000, np.int16),
    )
    truth = boxes + rng.normal(0, 1, boxes.shape).astype(np.float32) * np.float32([1, 1, 1, 1, 0.02])
    record = ImageResult("dense", "", (4096, 4096), boxes, scores, labels, truth, labels, labels.astype(bool))
    size = "32000 boxes over 4096 px"
    return [
        Row(
            "merging, dense",
            size,
            "float32",
            clock(lambda: suppress(boxes, scores, labels, 0.1), repeats),
            1.0,
        ),
        Row(
            "evaluation, dense",
            size,
            "float32",
            clock(lambda: evaluate(join_results([record]), ("a",)), repeats),
            1.0,
        ),
    ]


def bench_loading(repeats: int) -> list[Row]:
    """A folder of 716 patches with 60 labels each: from its index, and from its label files."""
    from mmrotate.datasets import DOTADataset as Theirs

    from rsfoundation.datasets.oriented.classes import DOTA_V1
    from rsfoundation.datasets.oriented.dota import DOTADataset
    from rsfoundation.datasets.oriented.patch_index import write_index
    from rsfoundation.geometry.boxes import rbox_to_quad
    from rsfoundation.io.dota import LabelledBox, write_dota_txt
    from rsfoundation.prepare.tiling import index_of_folder

    rng, root = np.random.default_rng(3), Path(tempfile.mkdtemp())
    for folder in ("images", "annfiles"):
        (root / folder).mkdir()
    for patch in range(716):
        name = f"P{patch // 40:04}__1024__{824 * (patch % 8)}___{824 * (patch % 40 // 8)}"
        quads = rbox_to_quad(draw_boxes(rng, 60, 900) + np.float32([60, 60, 0, 0, 0])).reshape(60, 8).tolist()
        write_dota_txt(
            root / "annfiles" / f"{name}.txt",
            [LabelledBox(tuple(q), DOTA_V1[i % 15], i % 2) for i, q in enumerate(quads)],
        )
        (root / "images" / f"{name}.png").touch()

    def ours() -> list[dict]:
        return DOTADataset(
            data_root=str(root), split="", lazy_init=True, test_mode=True, pipeline=[]
        ).load_data_list()

    def theirs() -> list[dict]:
        settings = dict(data_root=str(root), ann_file="annfiles/", data_prefix=dict(img_path="images/"))
        return Theirs(**settings, lazy_init=True, test_mode=True, pipeline=[]).load_data_list()

    per_file = ours()
    files = clock(ours, repeats)
    write_index(root, index_of_folder(root))
    if ours() != per_file:
        raise SystemExit("the index gives other labels than the files")
    expected = {info["img_id"]: info["instances"] for info in theirs()}
    for info in ours():
        for mine, other in zip(info["instances"], expected[info["img_id"]], strict=True):
            if mine["bbox_label"] != other["bbox_label"] or not np.allclose(mine["bbox"], other["bbox"]):
                raise SystemExit(f"labels differ: {info['img_id']}")
    mine, size = clock(ours, repeats), "716 patches, 42960 labels"
    return [
        Row(
            "loading from the index",
            size,
            "float64",
            mine,
            10,
            "mmrotate's DOTADataset",
            clock(theirs, repeats),
        ),
        Row("loading from the index", size, "float64", mine, 10, "our reader, file by file", files),
    ]


def bench_tiling(repeats: int) -> list[Row]:
    """Virtual patches at three scales: an index is written, no pixel copied."""
    import cv2

    from rsfoundation.geometry.boxes import rbox_to_quad
    from rsfoundation.geometry.tiling import DOTA_TILINGS
    from rsfoundation.io.dota import LabelledBox, write_dota_txt
    from rsfoundation.prepare.tiling import tile_dota

    rng, root = np.random.default_rng(4), Path(tempfile.mkdtemp())
    for folder in ("images", "labelTxt"):
        (root / "scenes" / folder).mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(str(root / "scenes" / "images" / f"P{number}.png"), np.zeros((4000, 4000, 3), np.uint8))
        quads = (
            rbox_to_quad(draw_boxes(rng, 2000, 3800) + np.float32([100, 100, 0, 0, 0]))
            .reshape(-1, 8)
            .tolist()
        )
        objects = [LabelledBox(tuple(quad), "ship") for quad in quads]
        write_dota_txt(root / "scenes" / "labelTxt" / f"P{number}.txt", objects)
    numbers = iter(range(1000))

    def ours() -> Any:
        out = root / f"out{next(numbers)}"
        return tile_dota([root / "scenes"], out, tiling=DOTA_TILINGS["ms"], virtual=True, workers=2)

    report = ours()
    size = f"four images of 4000 px, 8000 labels, {report.patches} patches (ms)"
    return [Row("virtual tiling", size, "float64", clock(ours, repeats), 1.0)]


def coco_scene() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return 360 images of 20 annotations and 100 detections, boxes with masks, of ten categories."""
    from pycocotools import mask as coco_mask

    rng, side = np.random.default_rng(5), 512

    def ellipse(x: float, y: float, w: float, h: float) -> dict[str, Any]:
        left, top = max(0, int(x)), max(0, int(y))  # pixels around it are enough
        rows, columns = np.mgrid[top : max(top, int(y + h) + 2), left : max(left, int(x + w) + 2)]
        inside = np.zeros((side, side), bool)
        part = inside[top : top + rows.shape[0], left : left + rows.shape[1]]
        rows, columns = (axis[: part.shape[0], : part.shape[1]] for axis in (rows, columns))
        part[:] = ((columns - x - w / 2) * 2 / w) ** 2 + ((rows - y - h / 2) * 2 / h) ** 2 <= 1
        encoded = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
        return dict(encoded, counts=encoded["counts"].decode())

    images = [dict(id=number, width=side, height=side, file_name=f"{number}.png") for number in range(1, 361)]
    annotations, detections = [], []
    for image in images:
        for _ in range(20):
            (w, h), category = rng.uniform(8, 120, 2), int(rng.integers(1, 11))
            x, y = rng.uniform(0, side - w), rng.uniform(0, side - h)
            shape, crowd = ellipse(x, y, w, h), int(rng.random() < 0.03)
            common = dict(image_id=image["id"], category_id=category)
            area = float(coco_mask.area(shape))
            annotations.append(
                dict(
                    common,
                    id=len(annotations) + 1,
                    bbox=[x, y, w, h],
                    area=area,
                    iscrowd=crowd,
                    segmentation=shape,
                )
            )
            for _ in range(5):
                dx, dy, dw, dh = rng.normal(0, 0.12, 4)
                box = [x + dx * w, y + dy * h, w * np.exp(dw), h * np.exp(dh)]
                found = category if rng.random() < 0.8 else int(rng.integers(1, 11))
                detections.append(
                    dict(
                        image_id=image["id"],
                        category_id=found,
                        bbox=box,
                        score=round(rng.random(), 2),  # with ties
                        segmentation=ellipse(*box),
                    )
                )
    categories = [dict(id=number, name=str(number)) for number in range(1, 11)]
    return dict(info={}, images=images, annotations=annotations, categories=categories), detections


def bench_coco(repeats: int) -> list[Row]:
    """COCO's evaluation of 36 000 detections, from lists of rows to precision and recall."""
    import contextlib
    import copy
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from rsfoundation.evaluation.coco import CocoDetections, evaluate_coco

    truth, detections = coco_scene()
    table = CocoDetections(
        [row["image_id"] for row in detections],
        [row["category_id"] for row in detections],
        np.array([row["score"] for row in detections]),
        np.array([row["bbox"] for row in detections]),
        [row["segmentation"] for row in detections],
    )
    known, limits = COCO(), (1, 10, 100)
    known.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
    size, rows = "36000 detections, 7200 annotations, 360 images", []
    for kind, dropped in (("bbox", "segmentation"), ("segm", "bbox")):
        given = [{key: value for key, value in row.items() if key != dropped} for row in detections]
        copies = [copy.deepcopy(given) for _ in range(repeats + 2)]  # pycocotools writes into its rows

        def theirs(kind: str = kind, copies: list = copies) -> Any:
            with contextlib.redirect_stdout(io.StringIO()):
                evaluator = COCOeval(known, known.loadRes(copies.pop()), kind)
                evaluator.params.maxDets = list(limits)
                evaluator.evaluate()
                evaluator.accumulate()
            return evaluator.eval

        def ours(kind: Any = kind) -> Any:
            return evaluate_coco(truth, table, kind, range(1, 11), range(1, 361), limits=limits)

        expected, found = theirs(), ours()
        if not np.array_equal(found.precision, expected["precision"]):
            raise SystemExit(f"precisions differ: {kind}")
        mine, peer = clock(ours, repeats), clock(theirs, repeats)
        rows.append(Row(f"COCO {kind}", size, "float64", mine, 20, "pycocotools' COCOeval", peer))
    return rows


BENCHES = {
    "evaluation": bench_evaluation,
    "merging": bench_merging,
    "dense": bench_dense,
    "loading": bench_loading,
    "tiling": bench_tiling,
    "coco": bench_coco,
}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import mmcv
    import mmrotate
    import torch

    from rsfoundation import __version__
    from rsfoundation.ops.mmcv_ext import compiled_mmcv

    torch.set_num_threads(options.threads)
    conditions = dict(
        threads=options.threads,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        mmrotate=mmrotate.__version__,
        pycocotools=version("pycocotools"),
        hotcoco=version("hotcoco"),
        mmcv=mmcv.__version__,
        compiled_mmcv=compiled_mmcv() is not None,
        rsfoundation=__version__,
    )
    print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    print(f"{'what':29}{'peer s':>9}{'ours s':>9}{'ratio':>8}{'asked':>9}  met  dtype, size; peer")
    rows: list[Row] = []
    for name in options.only:
        for row in BENCHES[name](options.repeats):
            rows.append(row)
            peer = f"{row.peer_s:9.3f}" if row.peer_s is not None else " " * 9
            ratio = f"{row.ratio:8.1f}" if row.ratio is not None else " " * 8
            asked = f"{row.asked:g}x" if row.peer else f"{row.asked:g} s"
            note = f"{row.dtype}, {row.size}" + (f"; {row.peer}" if row.peer else "")
            numbers = f"{row.name:29}{peer}{row.ours_s:9.3f}{ratio}{asked:>9}"
            print(f"{numbers}  {'yes' if row.met else 'NO ':4} {note}", flush=True)
    if options.json:
        content = [dict(asdict(row), ratio=row.ratio, met=row.met) for row in rows]
        options.json.write_text(json.dumps(dict(conditions, rows=content), indent=2) + "\n")


if __name__ == "__main__":
    main()
