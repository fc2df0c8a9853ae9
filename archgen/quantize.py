"""Static quantisation of exported networks to 8 bits by onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor

from archgen.artifacts import write_atomic
from archgen.errors import ArchgenError, InvalidData
from archgen.export import open_onnx

BATCH = 32


def quantize(path: Path, out: Path, images: Float[Tensor, "b c h w"]) -> None:
    """Write an 8-bit version of an ONNX network: weights a channel, activations by the range that images give them.

    Operations are enclosed in `QuantizeLinear` and `DequantizeLinear` (QDQ), which runtimes fuse to integer kernels
    where they have them. Deterministic.

    Args:
        path: Network of `archgen.export.to_onnx`.
        out: Where to; replaced atomically.
        images: Training images, normalised as the network wants them; a few hundred settle the ranges.

    Raises:
        InvalidCheckpoint: There is no ONNX network in `path`.
        InvalidData: There are no images.
        ArchgenError: onnxruntime can not quantise the network.
    """
    if len(images) == 0:
        raise InvalidData("expected images to find the ranges of activations by, got none")
    name = open_onnx(path).get_inputs()[0].name
    try:
        with _quiet():
            write_atomic(
                out,
                lambda beside: quantize_static(
                    str(path),
                    str(beside),
                    _Images(name, images),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                ),
            )
    except OSError:
        raise
    except Exception as error:  # onnx and onnxruntime have no common base for errors
        reason = " ".join(str(error).split())[:160]
        raise ArchgenError(f"{path} can not be quantised to 8 bits: {reason}; use the network as it is") from None


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images in batches, as the calibration reads them."""

    def __init__(self, name: str, images: Tensor) -> None:
        self._batches: Iterator[dict[str, Any]] = iter({name: x.numpy()} for x in torch.split(images.float(), BATCH))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises on the root logger what is done here already."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def onnx_accuracy(path: Path, images: Float[Tensor, "b c h w"], labels: Tensor) -> float:
    """Top-1 accuracy of an ONNX network in percent."""
    session = open_onnx(path)
    name = session.get_inputs()[0].name
    logits = np.concatenate([session.run(None, {name: x.numpy()})[0] for x in torch.split(images.float(), BATCH)])
    return float(100.0 * (logits.argmax(-1) == labels.numpy()).mean())
