"""Small data sets in known layouts whose pixels and labels a test chooses."""

from pathlib import Path

import cv2
import numpy as np

from rsfoundation.geometry.boxes import normalise, rbox_to_quad

SIDE = 96


def texture(seed, side=SIDE):
    """Return an RGB image of soft random shapes, unlike those of other seeds."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(picture + rng.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)


def save(path, picture):
    """Write an RGB image or a grey one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)
    return path


def boxes(seed, version="le90", count=8):
    """Return corners (N, 8), written from an angle convention; half of them steep, so that it shows."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(30, SIDE - 30, (count, 2))
    theta = np.deg2rad(
        np.where(np.arange(count) % 2, rng.uniform(-85, -50, count), rng.uniform(-40, 80, count))
    )
    rboxes = np.column_stack([centres, np.full(count, 20.0), np.full(count, 8.0), theta])
    return rbox_to_quad(normalise(rboxes, version)).reshape(-1, 8)


def label_lines(quads, name="ship"):
    """Return DOTA's lines."""
    return "".join(" ".join(f"{value:.2f}" for value in quad) + f" {name} 0\n" for quad in quads)


def make_dota(root, train=6, val=3):
    """Write two splits of unlike images with le90 boxes."""
    for split, count, start in (("train", train, 0), ("val", val, 100)):
        for number in range(count):
            save(root / split / "images" / f"{split}{number}.png", texture(start + number))
            label = root / split / "labelTxt" / f"{split}{number}.txt"
            label.parent.mkdir(exist_ok=True)
            label.write_text(label_lines(boxes(start + number)))
    return root


def make_pairs(root, train=16, val=4):
    """Write two splits of pairs whose second date is brighter and has a white square, which is the change."""
    for split, count, start in (("train", train, 0), ("val", val, 100)):
        for number in range(count):
            first = texture(start + number)
            second = np.clip(first * 0.8 + 45, 0, 255).astype(np.uint8)
            label = np.zeros((SIDE, SIDE), np.uint8)
            x, y = np.random.default_rng(start + number).integers(10, SIDE - 30, 2)
            second[y : y + 16, x : x + 16], label[y : y + 16, x : x + 16] = 255, 255
            for folder, picture in (("A", first), ("B", second), ("label", label)):
                save(root / split / folder / f"{split}_{number}.png", picture)
    return root


PALETTE = ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))


def make_potsdam(root, count=6):
    """Write tiles with ISPRS's colours: much low vegetation and building, hardly a car or clutter."""
    for number in range(count):
        rng = np.random.default_rng(number)
        labels = rng.choice(6, (12, 12), p=(0.3, 0.3, 0.2, 0.18, 0.01, 0.01))
        labels = np.kron(labels, np.ones((8, 8), int))
        save(root / "2_Ortho_RGB" / f"top_potsdam_2_{number}_RGB.tif", texture(number))
        save(root / "5_Labels_all" / f"top_potsdam_2_{number}_label.tif", np.array(PALETTE, np.uint8)[labels])
    return root
