"""Looking at what there is: config headers, registered backbones and tasks, published weights, figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsfoundation.backbones.complexity import Complexity, measure_complexity
from rsfoundation.backbones.weights import WEIGHTS
from rsfoundation.engine.networks import bands_of, build_network, network_config, run_parts
from rsfoundation.registry import MODELS, TASKS


def config_headline(file: Path) -> str:
    """Return the first comment line of a config: what it is and which number it stands for."""
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return ""


def backbone_names() -> dict[str, str]:
    """Return every registered backbone with the first line of its docstring."""
    MODELS.import_from_location()
    return {
        name: _headline(kind)
        for name, kind in sorted(MODELS.module_dict.items())
        if kind.__module__.startswith("rsfoundation.backbones")
    }


def task_names() -> dict[str, str]:
    """Return every registered task with the first line of its docstring."""
    TASKS.import_from_location()
    return {name: _headline(kind) for name, kind in sorted(TASKS.module_dict.items())}


def weight_rows() -> list[tuple[str, ...]]:
    """Return one row per published checkpoint: name, network, training, figures, licence, link and hash."""
    return [
        (
            weights.name,
            " ".join(str(value) for value in weights.backbone.values()),
            weights.trained_on,
            "\n".join(f"{metric}: {value}" for metric, value in weights.metrics.items()),
            weights.licence,
            "direct" if weights.url else "by hand, from the authors' page",
            f"{weights.sha256}..." if weights.sha256 else "not published",
        )
        for weights in WEIGHTS.values()
    ]


def count(name: str, size: tuple[int, int], overrides: Sequence[str] = ()) -> Complexity:
    """Count a config's model, or a shipped backbone, for one image of ``size`` (height, width).

    Raises:
        ConfigError: The name is unknown, or the config names something that is.
    """
    network = build_network(network_config(name, overrides))
    return measure_complexity(network, (1, bands_of(network), *size), run_parts)


def _headline(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n")[0]
