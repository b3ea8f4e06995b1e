"""Shell and Python blocks of README and docs: all of them parse, and what needs only the toy scenes runs.

A page is run from top to bottom in one folder, its trainings shortened (``shorter``). Lines that are not run
match a pattern of ``NOT_RUN``, which says why.
"""

import ast
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import find_config, load_config

PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = {
    r"git clone|make (demo|test)|pip install": "makes an environment: .ci/run and .ci/install do",
    r"\bCONFIG\b|\bRUN\b|^RUN|\bimages/|check\.json\b": "a placeholder of the reader's",
    r"archive/|scenes/\*": "a placeholder of the reader's",
    r"rio rasterize": "another program",
    r"--device cuda": "needs a GPU",
    r"data/(DOTA|dota-full|dota|FAIR1M|potsdam|levir|whu|dior|mine_dota|harbour)": "reads a data set",
    r"data/mine --split|Train\.zip|_ucm\b|lsknet_s_oriented_rcnn_1x_dota_ss|simmim_": "reads a data set",
    r"Task[12]\.zip|test\.zip|found\.segm\.json": "result files of the reader's",
    r"rsf convert config|my_own_old_file|my_run": "files of the reader's",
    r"pretrained=True|sam_vit_base-sa1b": "downloads weights",
    r"work_dirs/student|checkpoint=student\.pth": "the student of the reader's images",
    r"^report\.|dataset\.report|check_data": "a fragment",
    r"my_parts|_base_ = \[\"configs": "tests/docs/test_new_parts.py runs it",
    r"^(backbone|lora|model|task|optim_wrapper|train_dataloader) = |_base_ = \[\"\.\./": "part of a config",
    r"^# in a config|^distill = ": "part of a config",
}
FEW = "train_dataloader.dataset.indices=16 val_dataloader.dataset.indices=4 test_dataloader.dataset.indices=4"


def blocks(page):
    """Yield language, line number and text of every block of a page that has a language."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        content = re.sub(r"\\\n\s*", "", match[2]) if match[1] == "bash" else match[2]
        yield match[1], text.count("\n", 0, match.start()) + 2, content


def commands(page):
    """Yield line number and words of every command of the bash blocks."""
    for language, line, text in blocks(page):
        if language == "bash":
            for number, command in enumerate(text.splitlines(), line):
                if words := shlex.split(command, comments=True):
                    yield number, words


def reason(text):
    """Return why a command or a Python block is not run, if it is not."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, text, re.MULTILINE)), None)


def test_every_reason_is_used():
    texts = [" ".join(words) for page in PAGES for _, words in commands(page)]
    texts += [text for page in PAGES for language, _, text in blocks(page) if language == "python"]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, text, re.MULTILINE) for text in texts), pattern
    assert sum(reason(text) is None for text in texts) >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_these_options_and_configs(page):
    from typer.main import get_command

    from rsfoundation.cli.app import app, complete_resume, expand_overrides

    wrong = []
    for number, words in commands(page):
        if words[0] != "rsf":
            continue
        try:
            command, given = get_command(app), complete_resume(expand_overrides(words[1:]))
            while hasattr(command, "commands"):
                command, given = command.commands[given[0]], given[1:]
            values = command.make_context(words[1], given).params
            config = values.get("config") or ""
            if config and not config.endswith(".py") and not reason(" ".join(words)):
                find_config(config)
        except (KeyError, ConfigError) as error:
            wrong.append(f"line {number}: {error}")
        except Exception as error:  # click's errors are of several kinds
            wrong.append(f"line {number}: {getattr(error, 'message', error)}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_name_what_exists(page):
    for language, line, text in blocks(page):
        if language != "python":
            continue
        tree = ast.parse(re.sub(r"\{\{.*?\}\}", "None", text))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("rsfoundation"):
                module = importlib.import_module(node.module)
                missing = [one.name for one in node.names if not hasattr(module, one.name)]
                assert not missing, f"line {line}: {node.module} has no {missing}"


def shorter(words):
    """Return a command on few scenes and with few steps, from this checkout's programs."""
    if words[0] == "torchrun":
        words = [f"{ROOT}/{word}" if word.startswith("tools/") else word for word in words]
        words = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    if words[0] == "python":
        words = [sys.executable, str(ROOT / words[1]), *words[2:]]
    if words[0] == "rsf":
        words = [str(Path(sys.executable).with_name("rsf")), *words[1:]]
    text = " ".join(words)
    if "prepare toy" in text:
        words = [word for word in words if word not in ("--train", "400")]
        return [*words, "--train", "8", "--val", "4", "--test", "5"]
    if "benchmarks/step.py" in text:
        return [*words, "--steps", "2", "--warm-up", "1"]
    if found := re.search(r"rsf train (\S+)|tools/train.py (\S+)|rsf demo (\S+)", text):
        name = found[1] or found[2]
        options = [FEW] if found[3] else []
        iterations = name and "max_iters" in load_config(name).train_cfg
        length = "max_iters=4" if iterations else "max_epochs=1"
        options += [f"train_cfg.{length}", f"train_cfg.val_interval={4 if iterations else 1}"]
        options += ["default_hooks.checkpoint.interval=4"] if iterations else []
        options += ["model.backbone.init_cfg=None"] if name == "own.py" else []
        options += ["train_dataloader.batch_size=4"] if "distill/toy_sam" in text else []
        given = ["--cfg-options"] if "--cfg-options" not in words else []
        device = ["--device", "cpu"] if "--device" not in words else []
        return [*words, *given, *" ".join(options).split(), *device]
    return words


def shorter_python(text):
    """Return a Python block with a shortened training."""
    few = 'device="cpu", overrides=["train_cfg.max_epochs=1", "train_cfg.val_interval=1"])'
    return re.sub(r"(run = train\(.*)\)", rf"\1, {few}", text)


def own_images(folder):
    """A large image with COCO json of other classes, for own_data.md."""
    names = {"ship": "boat", "small-vehicle": "car", "large-vehicle": "truck"}
    own = folder / "data/photos/train"
    shutil.copytree("data/toy/instance/large", own / "images")
    labels = json.loads(Path("data/toy/instance/annotations/instances_large.json").read_text())
    known = [one for one in labels["categories"] if one["name"] in names]
    numbers = {one["id"] for one in known}
    labels["categories"] = [{**one, "name": names[one["name"]]} for one in known]
    labels["annotations"] = [one for one in labels["annotations"] if one["category_id"] in numbers]
    (own / "labels.json").write_text(json.dumps(labels))
    write_config("own_data.md", folder)


def own_pairs(folder):
    """Pairs with labels of 0 and 255, for change.md."""
    for split in ("train", "val"):
        for kind, name in (("A", "before"), ("B", "after"), ("label", "mask")):
            shutil.copytree(f"data/toy/change/{split}/{kind}", folder / "data/own" / split / name)
    write_config("change.md", folder)
    options = "train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=2"
    rsf = Path(sys.executable).with_name("rsf")
    run([rsf, "train", "own.py", "--device", "cpu", "--cfg-options", *options.split()])


def own_rasters(folder):
    """GeoTIFFs with masks, and the config as it is printed, for segmentation.md."""
    import numpy as np
    import rasterio
    from PIL import Image
    from rasterio.windows import Window

    own = folder / "data/own"
    label = np.asarray(Image.open("data/toy/segmentation/label_dir/large/P0001.png").convert("RGB"))
    with rasterio.open("data/toy/geotiff/large_1_1.tif") as scene:
        height = scene.height // 2
        for split, name, row in (("train", "north", 0), ("val", "south", height)):
            half = Window(0, row, scene.width, height)
            profile = {**scene.profile, "height": height, "transform": scene.window_transform(half)}
            for kind in ("images", "masks"):
                (own / split / kind).mkdir(parents=True)
            with rasterio.open(own / split / "images" / f"{name}.tif", "w", **profile) as image:
                image.write(scene.read(window=half))
            profile = {**profile, "photometric": "rgb", "count": 3, "nodata": None}
            with rasterio.open(own / split / "masks" / f"{name}.tif", "w", **profile) as mask:
                mask.write(label[row : row + height].transpose(2, 0, 1))
    shutil.copy("data/toy/geotiff/large_1_1.tif", "scene.tif")
    colours = {
        "impervious_surface": "#ffffff", "building": "0 0 255", "low_vegetation": "#00ffff",
        "tree": "0 255 0", "car": "255 255 0", "other": "255 0 0",
    }  # fmt: skip
    (own / "classes.txt").write_text("".join(f"{name} {colour}\n" for name, colour in colours.items()))
    write_config("segmentation.md", folder)


def write_config(page, folder):
    """Write the config of one's own as it is printed."""
    (config,) = (
        text
        for language, _, text in blocks(ROOT / "docs" / page)
        if language == "python" and text.startswith("# own.py")
    )
    (folder / "own.py").write_text(config)
    (folder / "configs").symlink_to(ROOT / "configs")


def own_instances(folder):
    """Images with COCO json, for instance.md."""
    own = folder / "data/own"
    for split in ("train", "val"):
        shutil.copytree(f"data/toy/instance/{split}", own / split)
        shutil.copy(f"data/toy/instance/annotations/instances_{split}.json", own / f"{split}.json")
    shutil.copy("data/toy/geotiff/large_1_1.tif", "scene.tif")
    write_config("instance.md", folder)


def own_coco(folder):
    """A folder of images with COCO json, for datasets.md."""
    shutil.copytree("data/toy/instance", folder / "data/mine_coco")


def own_folders(folder):
    """A folder of images for each class, no two of the same pixels, for recognition.md."""
    from PIL import Image

    drawn = sorted(Path("data/toy/recognition/train").glob("*/*.png"))
    for path, name in zip(drawn[:3], ("orchard", "quarry", "village"), strict=True):
        (folder / "data/own" / name).mkdir(parents=True)
        with Image.open(path) as image:
            views = [image, *(image.transpose(turn) for turn in Image.Transpose)]
            for number, view in enumerate(views):
                view.save(folder / "data/own" / name / f"{number}.png")
    shutil.copy("data/toy/geotiff/large_1_1.tif", "scene.tif")
    write_config("recognition.md", folder)


def trained(*tasks):
    """Models that a page takes as given."""

    def train(folder):
        for task in tasks:
            run(shorter(["rsf", "train", f"quickstart/{task}_toy_lsknet_t"]))
        tile = folder / "data/toy/segmentation/img_dir/val"
        shutil.copy(next(tile.iterdir()), folder / "tile.png")

    return train


SETUP = {
    "own_data.md": own_images,
    "datasets.md": own_coco,
    "segmentation.md": own_rasters,
    "instance.md": own_instances,
    "change.md": own_pairs,
    "recognition.md": own_folders,
    "scenes.md": trained("detection", "segmentation", "change"),
    "export.md": trained("detection", "segmentation", "change"),
}
RUN = [
    page
    for page in PAGES
    if any(reason(" ".join(words)) is None for _, words in commands(page))
    or any(reason(text) is None for language, _, text in blocks(page) if language == "python")
]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert not done.returncode, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    for extra in ("rasterio", "onnxruntime", "openvino"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if page.name in SETUP:
        run(shorter(["rsf", "prepare", "toy", "--geotiff"]))
        SETUP[page.name](Path(tmp_path))
    for language, _line, text in blocks(page):
        if language == "python" and reason(text) is None:
            if text.startswith("# own.py"):
                continue  # its setup wrote it
            run([sys.executable, "-c", shorter_python(text)])
        for command in text.splitlines() if language == "bash" else ():
            words = shlex.split(command, comments=True)
            if words and reason(" ".join(words)) is None:
                run(shorter(words))
