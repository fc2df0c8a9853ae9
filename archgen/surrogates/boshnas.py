"""BOSHNAS's surrogate: a heteroscedastic network with a teacher and a student (FlexiBERT, arXiv 2205.11656)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.utils.transforms import t_batch_mode_transform
from jaxtyping import Float
from torch import Tensor, nn

from archgen.encoders import AutoEncoder, DistanceEncoder, PathEncoder, WeisfeilerLehmanEncoder
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores
from archgen.registry import Registry
from archgen.spaces import SearchSpace
from archgen.surrogates.base import Surrogate
from archgen.surrogates.teacher_student import TeacherStudentModel, train, tune

EMBEDDINGS: Registry[Callable[[SearchSpace], Callable[[Sequence[Architecture]], Tensor]]] = Registry("embedding")
"""Encoders of architectures that a surrogate can look at, by name."""
EMBEDDINGS.register("paths")(PathEncoder)
EMBEDDINGS.register("neighbourhoods")(WeisfeilerLehmanEncoder)
EMBEDDINGS.register("distances")(DistanceEncoder)
EMBEDDINGS.register("autoencoder")(AutoEncoder)

MODEL, EMBEDDING = "model.", "embedding."


@PREDICTORS.register("boshnas")
class Boshnas(NormalScorePredictor, Surrogate):
    """A natural-parameter network for aleatoric, a teacher and a student for epistemic uncertainty.

    Targets are the normal scores of their ranks (`NormalScores`), where the paper divides losses by the largest. The
    model's posterior is that of the noise-free value, with the epistemic variance; `predict`, `limit` and
    `log_probability` speak of a measured one, aleatoric variance included. See `teacher_student` for the networks.

    Args:
        space: A space that the embedding takes.
        metric: Name of the metric.
        embedding: What the networks see, a name in `EMBEDDINGS`: `distances` is the paper's.
        heteroscedastic: Whether noise depends on the architecture; without, it is one number and the mean is the
            teacher's.
        draws: Functions of the teacher, at least 2.
        unlabelled: Random architectures on which the student learns the teacher's spread beside the labelled ones.
        steps: Of training, at most, for each network.
        seed: Of all randomness.

    Raises:
        UnknownName: No such embedding.
        ArchgenError: Fewer than 2 draws, or no steps.
    """

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        *,
        embedding: str = "paths",
        heteroscedastic: bool = True,
        draws: int = 64,
        unlabelled: int = 200,
        steps: int = 200,
        seed: int = 0,
    ) -> None:
        super().__init__(space, metric)
        if draws < 2 or steps < 1 or unlabelled < 0:
            raise ArchgenError(
                f"expected at least 2 draws, 1 step and 0 unlabelled architectures, got {draws}, {steps}, {unlabelled}"
            )
        self.encoder = EMBEDDINGS[embedding](space)
        self.embedding, self.heteroscedastic, self.draws = embedding, heteroscedastic, draws
        self.unlabelled, self.steps, self.seed = unlabelled, steps, seed
        self._model: TeacherStudentModel | None = None
        self._fitted: TeacherStudentModel | None = None
        """Of the last `fit`; of the checkpoint, where it was restored."""

    @property
    def model(self) -> TeacherStudentModel:
        if self._model is None:
            raise ArchgenError(f"the predictor of {self.metric} has seen no values yet; call fit first")
        return self._model

    def features(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        return self.encoder(archs)

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Boshnas:
        """Train the networks on `b` architectures and their values, in the metric's unit.

        Raises:
            ArchgenError: No values, or a value is not finite.
        """
        self._model = self._fitted = train(
            *self._seen(archs, y),
            heteroscedastic=self.heteroscedastic,
            draws=self.draws,
            steps=self.steps,
            seed=self.seed,
        )
        return self

    def update(self, archs: Sequence[Architecture], y: Floats) -> Boshnas:
        """Train the networks of the last `fit` a fifth of the steps further, on all values.

        Raises:
            ArchgenError: Never fitted, or as in `fit`.
        """
        seen = self._seen(archs, y)
        if self._fitted is None:
            raise ArchgenError(f"the predictor of {self.metric} has seen no values yet; call fit first")
        self._model = tune(self._fitted, *seen, steps=max(self.steps // 5, 1), seed=self.seed)
        return self

    def _seen(self, archs: Sequence[Architecture], y: Floats) -> tuple[Tensor, Tensor, Tensor]:
        """Points, their scores, and points without."""
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        self._normal = NormalScores(y)
        x = self.features(archs)
        return x, torch.from_numpy(self.normal.scores), self._unlabelled if self.unlabelled else x[:0]

    @cached_property
    def _unlabelled(self) -> Tensor:
        return self.features(self.space.sample(self.unlabelled, np.random.default_rng(self.seed)))

    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        mean, epistemic, aleatoric = self.predict_moments(archs)
        return mean, np.sqrt(epistemic**2 + aleatoric)

    def predict_normalised(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        return self.predict_moments(archs)[:2]

    @torch.no_grad()
    def predict_moments(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats, Floats]:
        """Mean, epistemic standard deviation and aleatoric variance as normal scores, `b` each."""
        mean, epistemic, aleatoric = self.model.moments(self.features(archs))
        return mean.numpy(), epistemic.numpy(), aleatoric.numpy()

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        names = ("embedding", "heteroscedastic", "draws", "unlabelled", "steps", "seed")
        tensors = {f"{MODEL}{name}": t for name, t in self.model.state_dict().items()}
        if isinstance(self.encoder, nn.Module):
            tensors |= {f"{EMBEDDING}{name}": t for name, t in self.encoder.state_dict().items()}
        tensors["y"] = torch.from_numpy(self.normal.y.copy())
        return {name: getattr(self, name) for name in names}, tensors

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Boshnas:
        self = cls(space, metric, **config)
        self._normal = NormalScores(tensors["y"].numpy().astype(float))
        parts = {p: {n.removeprefix(p): t for n, t in tensors.items() if n.startswith(p)} for p in (MODEL, EMBEDDING)}
        if isinstance(self.encoder, nn.Module):
            self.encoder.load_state_dict(parts[EMBEDDING])
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced
            model = TeacherStudentModel(len(parts[MODEL]["centre"]), self.draws, self.heteroscedastic).double()
        model.load_state_dict(parts[MODEL])
        self._model = self._fitted = model.eval().requires_grad_(False)
        return self


class UncertaintyBound(AcquisitionFunction):  # type: ignore[misc]
    r"""BOSHNAS's upper confidence bound, :math:`\mu + k_1 \sigma + k_2 \xi`.

    Args:
        model: Of `Boshnas`.
        aleatoric: :math:`k_1`, of the noise's standard deviation :math:`\sigma`.
        epistemic: :math:`k_2`, of the student's :math:`\xi`.
        mean: Of :math:`\mu`; 0 asks for what is uncertain alone.
    """

    def __init__(
        self, model: TeacherStudentModel, aleatoric: float = 0.5, epistemic: float = 0.5, mean: float = 1.0
    ) -> None:
        super().__init__(model)
        self.weights = mean, epistemic, aleatoric

    @t_batch_mode_transform(expected_q=1)  # type: ignore[untyped-decorator]
    def forward(self, X: Float[Tensor, "*b 1 d"]) -> Float[Tensor, "*b"]:
        """The bound at each point."""
        parts = self.model.moments(X[..., 0, :])
        mean, epistemic, aleatoric = self.weights
        bound: Tensor = mean * parts[0] + epistemic * parts[1] + aleatoric * parts[2].sqrt()
        return bound
