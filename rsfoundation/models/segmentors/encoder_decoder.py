"""mmseg's segmentor with sliding windows that neither repeat work nor hold the logits of a large image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from rsfoundation.core.errors import ConfigError
from rsfoundation.geometry.windows import window_starts
from rsfoundation.registry import MODELS

_WINDOWS_ON_GPU = 4  # per forward pass; on a CPU one, for more take more memory and no less time


def _times_covered(starts: list[int], window: int, length: int, like: Tensor) -> Tensor:
    covered = like.new_zeros(length)
    for start in starts:
        covered[start : start + window] += 1
    return covered


@MODELS.register_module()
class EncoderDecoder(MMSegEncoderDecoder):
    """mmseg's ``EncoderDecoder``; weights, losses and results are equal.

    Windows of ``test_cfg=dict(mode='slide', crop_size=..., stride=...)`` are those of mmseg, and so is the
    mean of their logits. mmseg adds a map of the whole image for every window; here a window is added where
    it is, to a strip as high as a window, whose rows are finished when no later window reaches them.

    ``test_cfg`` may have two more keys. ``keep_logits=False``: samples get ``pred_sem_seg`` alone, decided
    strip by strip, so that memory is that of a strip and of the class map (``rsf train`` and ``rsf test`` set
    it). ``window_batch``: windows per forward pass; when not given 1 on a CPU and 4 elsewhere.
    """

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the mean of the logits of all windows, ``(N, C, H, W)``.

        Args:
            inputs: Images ``(N, bands, H, W)``.
            batch_img_metas: Image info of the batch.
        """
        logits = inputs.new_empty((len(inputs), self.out_channels, *inputs.shape[2:]))
        for rows, part in self._strips(inputs, batch_img_metas):
            logits[:, :, rows] = part
        return logits

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Return the samples with their predictions.

        Args:
            inputs: Images ``(N, bands, H, W)``.
            data_samples: The samples; new ones when not given.
        """
        regions = [_image_region(sample, inputs) for sample in data_samples or ()]
        streams = self.test_cfg.get("mode") == "slide" and not self.test_cfg.get("keep_logits", True)
        if not streams or not regions or None in regions:
            return super().predict(inputs, data_samples)
        assert data_samples is not None
        labels = torch.empty((len(inputs), 1, *inputs.shape[2:]), dtype=torch.uint8, device=inputs.device)
        for rows, logits in self._strips(inputs, [dict(sample.metainfo) for sample in data_samples]):
            labels[:, :, rows] = self._decide(logits)
        for sample, one, region in zip(data_samples, labels, regions, strict=True):
            rows, columns = region  # type: ignore[misc]
            sample.set_data({"pred_sem_seg": PixelData(data=one[:, rows, columns])})
        return data_samples

    def _decide(self, logits: Tensor) -> Tensor:
        if self.out_channels == 1:
            return (logits.sigmoid() > self.decode_head.threshold).to(torch.uint8)
        return logits.argmax(dim=1, keepdim=True).to(torch.uint8)

    def _strips(self, inputs: Tensor, metas: list[dict]) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows of the image, top down, with their logits ``(N, C, rows, W)``: valid until the next."""
        (height, width), crop = inputs.shape[2:], self.test_cfg.crop_size
        if any(step > side for step, side in zip(self.test_cfg.stride, crop, strict=True)):
            raise ConfigError(
                f"windows of {tuple(crop)} every {tuple(self.test_cfg.stride)} pixels leave gaps",
                where="model.test_cfg.stride",
                fix="choose strides that are not larger than crop_size",
            )
        window = min(crop[0], height), min(crop[1], width)
        tops = window_starts(height, crop[0], self.test_cfg.stride[0])
        lefts = window_starts(width, crop[1], self.test_cfg.stride[1])
        down = _times_covered(tops, window[0], height, inputs)[:, None]
        across = _times_covered(lefts, window[1], width, inputs)
        together = self.test_cfg.get("window_batch") or (
            1 if inputs.device.type == "cpu" else _WINDOWS_ON_GPU
        )
        strip = inputs.new_zeros((len(inputs), self.out_channels, window[0], width))
        for top, following in zip(tops, [*tops[1:], height], strict=True):
            for first in range(0, len(lefts), together):
                self._add(strip, inputs[:, :, top : top + window[0]], lefts[first : first + together], metas)
            done = following - top
            yield slice(top, following), strip[:, :, :done].div_(down[top:following] * across)
            kept = window[0] - done
            strip[:, :, :kept] = strip[:, :, done:].clone() if kept > done else strip[:, :, done:]
            strip[:, :, kept:] = 0

    def _add(self, strip: Tensor, band: Tensor, lefts: list[int], metas: list[dict]) -> None:
        """Add the logits of the windows of ``band`` that start at columns ``lefts`` to a strip."""
        width = min(self.test_cfg.crop_size[1], band.shape[3])
        windows = torch.cat([band[..., left : left + width] for left in lefts])
        infos = [dict(meta, img_shape=windows.shape[2:]) for _ in lefts for meta in metas]  # a torch.Size
        for left, logits in zip(lefts, self.encode_decode(windows, infos).split(len(band)), strict=True):
            strip[..., left : left + width] += logits


def _image_region(sample: SegDataSample, inputs: Tensor) -> tuple[slice, slice] | None:
    """Return the rows and columns of a batch that hold a sample's image in the size of its file.

    ``None`` where the image was resized or flipped: its logits have to be brought back.
    """
    meta: dict[str, Any] = sample.metainfo
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
    rows, columns = slice(top, inputs.shape[2] - bottom), slice(left, inputs.shape[3] - right)
    size = (rows.stop - rows.start, columns.stop - columns.start)
    return None if meta.get("flip") or size != tuple(meta.get("ori_shape", size)) else (rows, columns)
