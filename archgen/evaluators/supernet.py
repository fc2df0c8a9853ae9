"""Accuracy by inherited weights: no training, only batch-norm statistics and one pass over the validation images."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from archgen.errors import InvalidData
from archgen.evaluators.base import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.proxies import Proxy
from archgen.supernets import Supernet, calibrated
from archgen.supernets.training import accuracy

PROXY_IMAGES = 32
"""Validation images that proxies are shown; a kernel of so many images is what the published ones are of."""


class SupernetEvaluator(Evaluator):
    """Top-1 accuracy and cross-entropy on held-out images with the supernet's weights.

    Args:
        supernet: Trained; it stays as it is.
        calibration: Training images for the batch-norm statistics, at least two.
        images, labels: Validation images.
        batch_size: Images a forward pass.
        proxies: Also measured, on the inherited weights, the first 32 validation images and the batch's statistics;
            the metric has the proxy's name. `archgen.proxies.az_nas` joins them with minus the loss to one score,
            which ranks better than either: they see size and shape, which a shared loss is nearly blind to.

    Raises:
        InvalidData: There are fewer than two images to calibrate, or none to validate on.
    """

    def __init__(
        self,
        supernet: Supernet,
        calibration: Float[Tensor, "m c h w"],
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"],
        batch_size: int = 256,
        proxies: Sequence[Proxy] = (),
    ) -> None:
        if len(calibration) < 2 or len(images) == 0:
            raise InvalidData(
                "expected at least two images to calibrate and one to validate on, "
                f"got {len(calibration)} and {len(images)}; check the splits"
            )
        self.supernet, self.labels, self.batch_size = supernet, labels, batch_size
        self.calibration, self.images, self.proxies = calibration, images, tuple(proxies)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("val_acc", "val_loss", *(proxy.name for proxy in self.proxies))

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        """`val_acc` in percent, `val_loss` in nats, and the proxies that exist; `seed` is of what these draw."""
        return [self._evaluate(arch, seed) for arch in archs]

    @torch.no_grad()
    def _evaluate(self, arch: Architecture, seed: int) -> Measurement:
        start = time.perf_counter()
        network = calibrated(self.supernet, arch, self.calibration, self.batch_size)
        val_acc, loss = accuracy(network, self.images, self.labels, self.batch_size)
        shown = self.images[:PROXY_IMAGES], self.labels[:PROXY_IMAGES]
        numbers = {
            proxy.name: proxy(network, *shown, generator=torch.Generator().manual_seed(seed)) for proxy in self.proxies
        }
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            return Measurement({}, seconds, f"the validation loss is {loss}")
        known = {name: value for name, value in numbers.items() if math.isfinite(value)}
        return Measurement({"val_acc": val_acc, "val_loss": loss, **known}, seconds)
