"""Images per second of the pretraining pipeline next to torchvision's transforms, on one core.

    python benchmarks/pretraining_data.py [--side 512] [--size 192] [--images 48] [--repeats 5]
        [--suffix png|jpg|tif] [--json FILE]

The same images and steps: a random part resized, flip, tensor of bytes; once from files and once
from pixels in memory. torchvision decodes by Pillow and resizes bilinearly with antialiasing; ours decodes as
in training and shrinks by averaging. Before the timing both resize the same part, and the mean difference is
printed. Rates are medians of images per second of CPU time; all alternate in one run.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from torchvision.transforms import v2

from rsfoundation.datasets.transforms.recognition import resize
from rsfoundation.registry import TRANSFORMS

SCALE = (0.1, 1.0)


def write_images(folder: Path, count: int, side: int, suffix: str) -> list[Path]:
    """Write images with detail at several scales; JPEGs of quality 90, TIFFs with deflate."""
    options = dict(jpg=[cv2.IMWRITE_JPEG_QUALITY, 90], tif=[cv2.IMWRITE_TIFF_COMPRESSION, 8], png=[])[suffix]
    rng = np.random.default_rng(0)
    files = []
    for index in range(count):
        image = np.zeros((side, side, 3), np.float32)
        for cells in (4, 16, 64, side):
            noise = rng.normal(0, 40, (cells, cells, 3)).astype(np.float32)
            image += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        files.append(folder / f"{index}.{suffix}")
        cv2.imwrite(str(files[-1]), np.clip(image / 2 + 110, 0, 255).astype(np.uint8), options)
    return files


def main() -> None:
    """Time both pipelines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("side", 512), ("size", 192), ("images", 48), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--suffix", choices=("png", "jpg", "tif"), default="png")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    init_default_scope("mmengine")
    TRANSFORMS.import_from_location()
    steps = [
        dict(type="rsfoundation.RandomResizedCrop", size=options.size, scale=SCALE),
        dict(type="RandomFlip", prob=0.5, direction="horizontal"),
        dict(type="rsfoundation.PackSceneInputs"),
    ]
    loading, ours = Compose([dict(type="rsfoundation.LoadImageFromFile")]), Compose(steps)
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(options.size, scale=SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder), options.images, options.side, options.suffix)
        image = np.array(Image.open(files[0]).convert("RGB"))
        part = image[: options.side * 3 // 4, : options.side * 3 // 4]
        expected = v2.functional.resize(Image.fromarray(part), [options.size, options.size], antialias=True)
        size = (options.size, options.size)
        difference = np.abs(resize(part, size).astype(int) - np.array(expected).astype(int)).mean()
        arrays = [np.array(Image.open(file).convert("RGB")) for file in files]
        pictures = [Image.fromarray(array) for array in arrays]
        runs = {
            "files, rsfoundation": lambda index: ours(loading(dict(img_path=str(files[index])))),
            "files, torchvision": lambda index: theirs(Image.open(files[index]).convert("RGB")),
            "memory, rsfoundation": lambda index: ours(dict(img=arrays[index])),
            "memory, torchvision": lambda index: theirs(pictures[index]),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(options.repeats + 1):
            for name, run in runs.items():
                started = time.process_time()  # other programs on the cores do not count
                for index in range(len(files)):
                    run(index)
                if repeat:  # the first one warms up
                    rates[name].append(len(files) / (time.process_time() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    versions = dict(
        torchvision=torchvision.__version__, opencv=cv2.__version__, python=platform.python_version()
    )
    kind = f"{options.suffix} images of {options.side} px"
    print(f"{options.images} {kind}, parts resized to {options.size} px; {versions}")
    print(f"mean difference of one resized part: {difference:.2f} of 255")
    ratios = {}
    for place in ("files", "memory"):
        found, peer = (medians[f"{place}, {name}"] for name in ("rsfoundation", "torchvision"))
        ratios[place] = found / peer
        print(f"from {place:7} {found:9.1f} / s, torchvision {peer:9.1f} / s, ratio {ratios[place]:.2f}")
    if options.json:
        sizes = {name: getattr(options, name) for name in ("side", "size", "images", "repeats", "suffix")}
        content = dict(sizes, difference=difference, rates=medians, ratios=ratios, versions=versions)
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
