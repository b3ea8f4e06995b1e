"""The image loading of a config: one decoder, one choice of bands and one value range in every pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from rsfoundation.core.errors import ConfigError
from rsfoundation.datasets.transforms.loading import image_loading
from rsfoundation.engine.config import dicts_of
from rsfoundation.io.loading import ImageLoading

_LOADER = "rsfoundation.LoadImageFromFile"
_PAIRS = ("MultiImgLoadImageFromFile", "MultiImgLoadInferencerLoader")
_LOADERS = (_LOADER, *(f"{scope}{name}" for name in _PAIRS for scope in ("", "rsfoundation.", "opencd.")))
_SCOPES = ("", "mmcv.", "mmengine.", "mmseg.", "mmdet.", "mmrotate.")
_SETTINGS = ("bands", "pixel_range", "to_float32")
_PREPROCESSORS = {
    "SegDataPreProcessor": "rsfoundation.SegDataPreProcessor",
    "DetDataPreprocessor": "rsfoundation.DetDataPreprocessor",
}


def use_image_loading(cfg: Config) -> list[str]:
    """Set ``image_loading`` of a config in each of its loading steps, in place.

    mmcv's ``LoadImageFromFile`` becomes ours, which takes the same arguments: mmcv decides by a tag how many
    bands a TIFF has, and multiplies colours by a fourth band. Where bands are chosen, the data preprocessor
    becomes one that takes any number of them.

    Args:
        cfg: The config.

    Returns:
        Changes that the user did not ask for.

    Raises:
        ConfigError: ``image_loading`` has a key that it does not know.
    """
    declared = cfg.get("image_loading") or {}
    unknown = sorted(set(declared) - set(_SETTINGS))
    if unknown:
        raise ConfigError(
            f"image_loading has no '{unknown[0]}'",
            where="image_loading",
            fix=f"one of {', '.join(_SETTINGS)}",
        )
    replaced = 0
    for step in _steps(cfg._cfg_dict):
        if step["type"] not in _LOADERS:
            step["type"] = _LOADER
            step.pop("file_client_args", None)
            replaced += 1
        step.update({key: value for key, value in declared.items() if value is not None})
    _use_any_bands(cfg)
    return [f"{replaced} steps LoadImageFromFile read through rsfoundation's decoder"] if replaced else []


def loading_of(cfg: Config, bands: str | None = None, pixel_range: str | None = None) -> ImageLoading:
    """Return how the test pipeline of a config loads its images, with a user's own bands and range.

    Args:
        cfg: A resolved config.
        bands: Numbers or names between commas, or ``all``.
        pixel_range: ``low,high``, or ``native``.

    Raises:
        ConfigError: The bands or the range cannot be understood.
    """
    step = dict(next(_steps(cfg.get("test_dataloader") or {}), {}))
    known = {key: step[key] for key in (*_SETTINGS, "color_type", "imdecode_backend") if key in step}
    given = {"bands": bands, "pixel_range": pixel_range}
    return image_loading(**{**known, **{key: value for key, value in given.items() if value is not None}})


def _steps(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every step below a node of a config that loads an image."""
    for _, step in dicts_of(node):
        kind = step.get("type")
        if kind in _LOADERS or (isinstance(kind, str) and kind in _MMCV):
            yield step


_MMCV = frozenset(f"{scope}LoadImageFromFile" for scope in _SCOPES)


def _use_any_bands(cfg: Config) -> None:
    chosen = any(
        step.get("bands") is not None or step.get("color_type", "color") != "color"
        for step in _steps(cfg._cfg_dict)
    )
    for owner in (cfg.get("model") or {}, cfg):
        made = owner.get("data_preprocessor")
        if made and (chosen or len(made.get("mean") or ()) not in (0, 1, 3)):
            short = str(made.get("type")).rsplit(".", 1)[-1]
            made["type"] = _PREPROCESSORS.get(short, made.get("type"))
