#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0, Python 3.11: the positional embedding of Segment Anything in a SamModel made
# from a config.
#
# SAM encodes positions by random frequencies that stay as drawn. The original code draws them with a deviation
# of 1 and keeps them in a buffer. transformers draws them with half the encoder's width (384 for ViT-B) and makes
# them a parameter: an optimiser over model.parameters() changes them, and the embeddings of neighbouring cells
# of the 64 x 64 map are unrelated, so that a decoder trained from random weights has no sense of place. Published
# checkpoints are not affected: they bring their own frequencies.
#
#   deviation 400, trained True
#   cosine of neighbouring cells: below 0.2 as built, above 0.9 with deviation 1
#
# (384, rounded to hundreds.)
#
# Divide the frequencies by config.vision_config.scale after building, and freeze them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" torch==2.13.0 transformers==5.23.0 numpy
cat > "$folder/positions.py" <<'PYTHON'
import torch
from transformers import SamConfig, SamModel
from transformers.models.sam.configuration_sam import SamVisionConfig

torch.manual_seed(0)
vision = SamVisionConfig(num_hidden_layers=1, global_attn_indexes=[0])
model = SamModel(SamConfig(vision_config=vision))
table = model.shared_image_embedding.positional_embedding


def neighbours():
    cells = model.get_image_wide_positional_embeddings()[0]
    return torch.cosine_similarity(cells[:, :, 1:], cells[:, :, :-1], dim=0).mean().item()


built = neighbours()
print(f"deviation {round(table.std().item(), -2):.0f}, trained {table.requires_grad}")
with torch.no_grad():
    table.div_(vision.scale)
scaled = neighbours()
print(
    f"cosine of neighbouring cells: {'below 0.2' if abs(built) < 0.2 else built} as built, "
    f"{'above 0.9' if scaled > 0.9 else scaled} with deviation 1"
)
PYTHON
"$folder/venv/bin/python" "$folder/positions.py" 2>/dev/null | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
deviation 400, trained True
cosine of neighbouring cells: below 0.2 as built, above 0.9 with deviation 1
EXPECTED
