"""Checkpoints of Segment Anything in their published formats, under Hugging Face's names.

| format       | files                                                   | a name that identifies it |
| ------------ | ------------------------------------------------------- | ------------------------- |
| Hugging Face | ``model.safetensors``, ``pytorch_model.bin``            | ``layers.0.layer_norm1``  |
| original     | ``sam_vit_b_01ec64.pth``, ``_l_0b3195``, ``_h_4b8939``  | ``blocks.0.norm1``        |
| mmpretrain   | ``vit-base-p16_sam-pre_3rdparty_...pth`` (encoder only) | ``layers.0.ln1``          |
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from rsfoundation.core.errors import CheckpointError

State = dict[str, torch.Tensor]
Names = Sequence[tuple[str, str]]

ENCODER = "vision_encoder"
_SHARED = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
_SIZES = {(768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}

_FROM_ORIGINAL: Names = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"(^|\.)blocks\.", r"\1layers."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _SHARED[0]),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
)
_FROM_MMPRETRAIN: Names = (
    (r"\.ln(\d)\.", r".layer_norm\1."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.lin1."),
    (r"\.ffn\.layers\.1\.", ".mlp.lin2."),
    (r"(^|\.)channel_reduction\.0\.", r"\1neck.conv1."),
    (r"(^|\.)channel_reduction\.1\.", r"\1neck.layer_norm1."),
    (r"(^|\.)channel_reduction\.2\.", r"\1neck.conv2."),
    (r"(^|\.)channel_reduction\.3\.", r"\1neck.layer_norm2."),
)


@dataclass(frozen=True)
class _Format:
    title: str
    clue: str
    names: Names


_FORMATS = (
    _Format("Hugging Face", r"(layers\.0\.layer_norm1\.|mask_embed\.conv|shared_(image_)?embedding)", ()),
    _Format("original", r"(blocks\.0\.norm1\.|pe_layer\.|mask_downscaling\.)", _FROM_ORIGINAL),
    _Format("mmpretrain", r"layers\.0\.ln1\.", _FROM_MMPRETRAIN),
)
# Networks that are called SAM and are not this one, by a name that identifies them.
_OTHERS = (
    ("SAM 2", r"(image_encoder\.trunk\.|sam_mask_decoder\.|vision_encoder\.backbone\.)"),
    ("HQ-SAM", r"mask_decoder\.(hf_token|hq_token)"),
    ("MobileSAM", r"patch_embed\.seq\."),
    ("EfficientSAM", r"image_encoder\.blocks\.0\.mlp\.fc1\."),
)


def to_mmpretrain(name: str) -> str:
    """Return the name that mmpretrain's ``ViTSAM`` gives to a tensor of Hugging Face's encoder."""
    name = re.sub(r"\.layer_norm(\d)\.", r".ln\1.", name) if "neck." not in name else name
    name = name.replace(".mlp.lin1.", ".ffn.layers.0.0.").replace(".mlp.lin2.", ".ffn.layers.1.")
    for index, part in enumerate(("conv1", "layer_norm1", "conv2", "layer_norm2")):
        name = name.replace(f"neck.{part}.", f"channel_reduction.{index}.")
    return name


def sam_format(state: Mapping[str, torch.Tensor]) -> str | None:
    """Return the format of a checkpoint's names: a title of the module's table; None for no SAM."""
    found = _find_format(state)
    return None if found is None else found.title


def _find_format(state: Mapping[str, torch.Tensor]) -> _Format | None:
    return next((fmt for fmt in _FORMATS if any(re.search(fmt.clue, key) for key in state)), None)


def to_hugging_face(state: State) -> State:
    """Return a SAM checkpoint under Hugging Face's names.

    Names without a part in front of them, as in a checkpoint of the encoder alone, get
    ``vision_encoder.``.

    Raises:
        CheckpointError: The checkpoint is of another network.
    """
    for title, clue in _OTHERS:
        if any(re.search(clue, key) for key in state):
            raise CheckpointError(
                f"the checkpoint holds {title}, expected Segment Anything (ViT-B, ViT-L or ViT-H)",
                fix="use sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth or the files of "
                "facebook/sam-vit-base, -large, -huge",
            )
    names = getattr(_find_format(state), "names", ())
    out = {}
    for key, value in state.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        if re.match(r"(patch_embed|layers|neck)\.|pos_embed$", key):
            key = f"{ENCODER}.{key}"
        out[key] = value
    for one, other in (_SHARED, _SHARED[::-1]):  # files hold this tensor once or twice
        if one in out:
            out.setdefault(other, out[one])
    return out


def select_part(state: State, part: str) -> State:
    """Return one part of a SAM checkpoint of any format, without its prefix; all of it if it has no prefix.

    Args:
        state: The checkpoint.
        part: ``vision_encoder``, ``prompt_encoder``, ``mask_decoder`` or ``shared_image_embedding``.

    Raises:
        CheckpointError: The checkpoint is of another network.
    """
    state = to_hugging_face(state)
    prefix = f"{part}."
    selected = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return selected or state


def check_encoder_size(state: State, width: int, depth: int, title: str | None) -> None:
    """Compare the size of an encoder's checkpoint with that of a network.

    Args:
        state: The encoder's part under Hugging Face's names.
        width: Channels of the network's tokens.
        depth: Blocks of the network.
        title: Format of the checkpoint, for the error.

    Raises:
        CheckpointError: They differ.
    """
    patches = state.get("patch_embed.projection.weight")
    blocks = {match.group(1) for key in state if (match := re.match(r"layers\.(\d+)\.", key))}
    if patches is None or not blocks or (len(patches), len(blocks)) == (width, depth):
        return
    size = (len(patches), len(blocks))
    name = f"SAM ViT-{_SIZES[size][0].upper()}" if size in _SIZES else "a SAM encoder"
    raise CheckpointError(
        f"the checkpoint holds {name} ({size[0]} channels, {size[1]} blocks, {title} format), "
        f"the network has {width} channels and {depth} blocks",
        fix=f"arch='{_SIZES[size]}'"
        if size in _SIZES
        else f"hidden_size={size[0]}, num_hidden_layers={size[1]}",
    )
