"""Class lists of DOTA, in mmrotate's label order, which official checkpoints follow."""

from typing import Literal

DotaVersion = Literal["1.0", "1.5", "2.0"]

DOTA_V1 = (
    "plane",
    "baseball-diamond",
    "bridge",
    "ground-track-field",
    "small-vehicle",
    "large-vehicle",
    "ship",
    "tennis-court",
    "basketball-court",
    "storage-tank",
    "soccer-ball-field",
    "roundabout",
    "harbor",
    "swimming-pool",
    "helicopter",
)
DOTA_CLASSES: dict[DotaVersion, tuple[str, ...]] = {
    "1.0": DOTA_V1,
    "1.5": (*DOTA_V1, "container-crane"),
    "2.0": (*DOTA_V1, "container-crane", "airport", "helipad"),
}
