"""PA&DA: paths and images are drawn by how large their gradients are (arXiv 2302.14772)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, TrainingStrategy, ranged
from archgen.supernets.training.paths import nearest_architecture


@TRAINING_STRATEGIES.register("pa_da")
class PathAndData(TrainingStrategy):
    r"""Importance sampling of the path *and* of the images, which lessens the variance of the gradient.

    The variance is least where a path, and an image, is drawn as often as its gradient is large. After each epoch both
    distributions follow what was seen in it,

    .. math:: p = \tau \frac{g}{\sum g} + (1 - \tau) \, u, \qquad \tau = \text{epoch} / \text{epochs},

    `u` uniform. For the value of a variable, `g` is the mean norm of the gradient of the weights that it owns
    (`Supernet.owned`), for an image the norm of the gradient of its loss with respect to the logits,
    :math:`\lVert \text{softmax} - \text{onehot} \rVert`, which bounds the whole gradient's. Losses are not weighed by
    `1 / p`, as in the published code.

    Against that code: each variable has a distribution of its own, where there all edges share one; a value without
    weights gets the mean `g` of the variable's other values, where there it gets 0, so that pooling and skips die out;
    and images that an epoch did not show keep the norm that they had.

    Args:
        label_smoothing: Of the cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        super().prepare(supernet, plan)
        sizes = [len(values) for values in supernet.space.variables.values()]
        shape = (len(sizes), max(sizes))
        self._exists = torch.arange(shape[1]) < torch.tensor(sizes)[:, None]
        self._steps, self._shown = torch.zeros((), dtype=torch.long), torch.zeros((), dtype=torch.long)
        self._path_sum, self._path_count = torch.zeros(shape).double(), torch.zeros(shape).double()
        self._image_sum, self._image_count = torch.zeros(plan.images).double(), torch.zeros(plan.images).double()
        self._image_norm = torch.ones(plan.images).double()
        self.path_probabilities = self._exists / self._exists.sum(1, keepdim=True).double()
        """Of each value of each variable, a row a variable; 0 beyond its values."""
        self.image_probabilities = torch.full((plan.images,), 1 / plan.images, dtype=torch.float64)
        self._order = torch.arange(plan.images)

    def order(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """As many images as there are, drawn with replacement."""
        self._order = torch.multinomial(self.image_probabilities, self.plan.images, True, generator=generator)
        return self._order

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        x, y = batch
        arch = self._draw(supernet.space, rng)
        logits = supernet(x, arch)
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        self.gradients.backward(loss)
        self._see_images(logits.detach(), y)
        self._see_path(supernet, arch)
        self._steps += 1
        if int(self._steps) % self.plan.steps == 0:
            self._update()
        return {"loss": float(loss.detach())}

    def _draw(self, space: SearchSpace, rng: np.random.Generator) -> Architecture:
        wanted = {}
        for i, (name, values) in enumerate(space.variables.items()):
            wanted[name] = int(rng.choice(len(values), p=self.path_probabilities[i, : len(values)].numpy()))
        return nearest_architecture(space, wanted, rng)

    @torch.no_grad()
    def _see_images(self, logits: Float[Tensor, "b k"], y: Int[Tensor, " b"]) -> None:
        gradient = logits.softmax(-1) - F.one_hot(y, logits.shape[-1])
        norms = self.gradients.gather(gradient.norm(dim=-1).double()).cpu()
        positions = self._order[int(self._shown) :][: len(norms)]
        self._image_sum.index_add_(0, positions, norms)
        self._image_count.index_add_(0, positions, torch.ones(len(norms)).double())
        self._shown += len(norms)

    def _see_path(self, supernet: Supernet, arch: Architecture) -> None:
        choices, names = supernet.space.to_choices(arch), list(supernet.space.variables)
        for name, parameters in supernet.owned(arch).items():
            gradients = self.gradients.of(parameters)
            if not gradients or name not in names:
                continue
            norm = float(torch.stack(torch._foreach_norm(gradients)).norm())
            if math.isfinite(norm):  # in fp16 it may overflow, and that step is left out
                at = names.index(name), choices[name]
                self._path_sum[at] += norm
                self._path_count[at] += 1

    def _update(self) -> None:
        """Both distributions, from what the epoch showed."""
        tau = min(int(self._steps) / (self.plan.steps * self.plan.epochs), 1.0)
        seen = self._path_count > 0
        norm = torch.where(seen, self._path_sum / self._path_count.clamp(min=1), 0.0)
        mean = norm.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        norm = torch.where(seen, norm, mean) * self._exists
        total = norm.sum(1, keepdim=True)
        uniform = self._exists / self._exists.sum(1, keepdim=True).double()
        self.path_probabilities = tau * torch.where(total > 0, norm / total.clamp(min=1e-300), uniform)
        self.path_probabilities += (1 - tau) * uniform
        shown = self._image_count > 0
        self._image_norm = torch.where(shown, self._image_sum / self._image_count.clamp(min=1), self._image_norm)
        share = self._image_norm / self._image_norm.sum().clamp(min=1e-300)
        self.image_probabilities = tau * share + (1 - tau) / self.plan.images
        for sums in (self._path_sum, self._path_count, self._image_sum, self._image_count, self._shown):
            sums.zero_()

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _STATE}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name in _STATE:
            setattr(self, name, state[name].clone())


_STATE = (
    "_steps",
    "_shown",
    "_path_sum",
    "_path_count",
    "_image_sum",
    "_image_count",
    "_image_norm",
    "path_probabilities",
    "image_probabilities",
)
