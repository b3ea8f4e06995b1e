"""Train a small SAM on boxes and points in toy scenes, and measure the masks that `rsf predict` would write.

python projects/toy_sam/train_sam.py data/toy/instance work_dirs/toy_sam.pth [--steps 700] [--minutes 5]
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from torch.nn import functional as F

from rsfoundation.inference.prompts import Prompt, PromptModel
from rsfoundation.models.prompt.sam import SAM

SIDE, PATCH, WIDTH = 128, 8, 64
IMAGES, PROMPTS = 4, 8  # of a step; prompts of each image
MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
Scene = tuple[torch.Tensor, np.ndarray]  # RGB (3, H, W) uint8, masks (n, H, W) uint8


def build_sam() -> SAM:
    """Return a SAM of one million weights for images of 128 px."""
    vision = dict(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        global_attn_indexes=[1, 3],
        mlp_dim=192,
        window_size=8,
        image_size=SIDE,
        patch_size=PATCH,
        output_channels=WIDTH,
        num_pos_feats=WIDTH // 2,
    )
    prompts = dict(hidden_size=WIDTH, image_size=SIDE, patch_size=PATCH)
    sam = SAM("base", vision, prompts, dict(hidden_size=WIDTH, mlp_dim=128, iou_head_hidden_dim=WIDTH))
    sam.vision_encoder.init_scratch()
    # Frequencies of the positional embedding are random and fixed. The published SAM draws them with a
    # deviation of 1; transformers' default of half the hidden size is noise from one cell to the next.
    sam.shared_image_embedding.positional_embedding.div_(96 // 2)
    return sam


def read_scenes(root: Path, split: str) -> list[Scene]:
    """Read the scenes that have objects."""
    coco, scenes = COCO(str(root / f"annotations/instances_{split}.json")), []
    for image in coco.loadImgs(coco.getImgIds()):
        objects = coco.loadAnns(coco.getAnnIds(image["id"], iscrowd=False))
        if objects:
            pixels = cv2.imread(str(root / split / image["file_name"]))[..., ::-1].copy()
            masks = np.array([coco.annToMask(one) for one in objects])
            scenes.append((torch.from_numpy(pixels).permute(2, 0, 1), masks))
    return scenes


def box_of(mask: np.ndarray) -> list[float]:
    """Return the corners around a mask, in pixels whose centres are whole numbers."""
    rows, columns = mask.nonzero()
    return [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]


def draw_sample(scene: Scene, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray] | None:
    """Return a crop, flipped at random, and the masks of objects that are mostly in it; None without any."""
    pixels, masks = scene
    top, left = (int(rng.integers(0, side - SIDE + 1)) for side in masks.shape[1:])
    crop = (slice(None), slice(top, top + SIDE), slice(left, left + SIDE))
    pixels, inside = pixels[crop], masks[crop]
    inside = inside[inside.sum((1, 2)) > 0.5 * masks.sum((1, 2))]
    if not len(inside):
        return None
    inside = inside[rng.integers(0, len(inside), PROMPTS)]
    for axis in (1, 2):
        if rng.random() < 0.5:
            pixels, inside = pixels.flip(axis), np.flip(inside, axis)
    return (pixels.float() - MEAN) / STD, inside.copy()


def mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return Dice plus cross entropy on the object, around it and elsewhere, which count alike."""
    near = F.max_pool2d(truth.flatten(0, 1), 9, 1, 4).reshape(truth.shape).gt(0).float()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    on = truth.gt(0).float()
    parts = [
        (entropy * part).sum((-2, -1)) / part.sum((-2, -1)).clamp(1) for part in (on, near - on, 1 - near)
    ]
    found = logits.sigmoid()
    dice = (2 * (found * truth).sum((-2, -1)) + 1) / (found.sum((-2, -1)) + truth.sum((-2, -1)) + 1)
    return sum(parts) + 1 - dice


def overlap(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU of masks."""
    found, wanted = logits > 0, truth > 0.5
    return (found & wanted).sum((-2, -1)) / (found | wanted).sum((-2, -1)).clamp(1)


def step_loss(sam: SAM, scenes: list[Scene], rng: np.random.Generator) -> torch.Tensor:
    """Return the loss of one step: boxes with some noise, or one point each, which has three masks."""
    drawn = [draw_sample(scenes[index], rng) for index in rng.integers(0, len(scenes), IMAGES)]
    samples = [sample for sample in drawn if sample is not None]
    if not samples:
        return sum(p.sum() for p in sam.parameters()) * 0
    embedding = sam.embed_image(torch.stack([pixels for pixels, _ in samples]))
    masks = np.stack([masks for _, masks in samples])
    small = F.interpolate(torch.from_numpy(masks).float(), (4 * SIDE // PATCH,) * 2, mode="area")
    if rng.random() < 0.6:
        boxes = np.array([[box_of(mask) for mask in of_image] for of_image in masks])
        sides = np.tile(boxes[..., 2:] - boxes[..., :2], 2)
        boxes += rng.normal(0, 0.04, boxes.shape) * sides
        given = dict(input_boxes=torch.from_numpy(boxes).float(), multimask_output=False)
    else:
        spots = [[mask.T.nonzero() for mask in of_image] for of_image in masks]
        points = np.array(
            [[rng.choice(np.stack(one, 1)) for one in of_image] for of_image in spots], np.float32
        )
        given = dict(input_points=torch.from_numpy(points)[:, :, None], multimask_output=True)
    logits, scores = sam(image_embeddings=embedding, **given)
    truth = small[:, :, None].expand_as(logits)
    losses = mask_loss(logits, truth)
    estimates = F.mse_loss(scores, overlap(logits, truth).detach())
    return losses.min(-1).values.mean() + estimates


def train(scenes: list[Scene], steps: int, minutes: float) -> SAM:
    """Return a SAM trained for a number of steps, or fewer where they take longer than ``minutes``."""
    torch.manual_seed(0)
    rng, sam = np.random.default_rng(0), build_sam().train()
    optimizer = torch.optim.AdamW(sam.parameters(), weight_decay=0.01)
    started = time.time()
    for number in range(1, steps + 1):
        done = max(number / steps, (time.time() - started) / (60 * minutes))
        if done > 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, number / 30, 1.25 * (1 - done) + 0.02)
        loss = step_loss(sam, scenes, rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimizer.step()
        if number % 50 == 0:
            print(f"{number:5} steps, {time.time() - started:5.0f} s, loss {loss.item():.3f}", flush=True)
    return sam.eval()


def measure(checkpoint: Path, scenes: list[Scene]) -> dict[str, float]:
    """Return the mean IoU of masks for the boxes, and for a point in the middle, of held-out objects."""
    model, found = PromptModel(str(checkpoint), "cpu"), dict(boxes=[], points=[])
    nothing = np.zeros((0, 2)), np.zeros(0, np.int64)
    for pixels, masks in scenes:
        image = pixels[:, :SIDE, :SIDE].permute(1, 2, 0).numpy()
        objects = [mask[:SIDE, :SIDE] for mask in masks if mask[:SIDE, :SIDE].sum() > 0.9 * mask.sum()]
        if not objects:
            continue
        middles = [np.stack(mask.T.nonzero(), 1).astype(float) for mask in objects]
        middles = [spots[[np.linalg.norm(spots - spots.mean(0), axis=1).argmin()]] for spots in middles]
        prompts = [Prompt(*nothing, tuple(map(float, box_of(mask)))) for mask in objects]
        prompts += [Prompt(spot, np.ones(1, np.int64)) for spot in middles]
        made = [mask for mask, _ in model.masks(image, prompts)]
        for kind, results in (("boxes", made[: len(objects)]), ("points", made[len(objects) :])):
            for result, truth in zip(results, objects, strict=True):
                common = (result & truth.astype(bool)).sum()
                found[kind].append(common / (result.sum() + truth.sum() - common))
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def main() -> None:
    """Parse, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    sam = train(read_scenes(options.data, "train"), options.steps, options.minutes)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(sam.state_dict(), options.output)
    for kind, value in measure(options.output, read_scenes(options.data, "val")).items():
        print(f"mean IoU with the truth, held-out objects by {kind}: {value:.3f}")


if __name__ == "__main__":
    main()
