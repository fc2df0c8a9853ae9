"""Gaussian process over path features with rank-normalised targets."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import AdditiveKernel, Kernel, MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior, LogNormalPrior
from jaxtyping import Float
from torch import Tensor

from archgen.encoders import PathEncoder, WeisfeilerLehmanEncoder
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats
from archgen.predictors.distinct import distinct
from archgen.predictors.free_labels import FreeLabels, join_free_labels, split_free_labels
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores
from archgen.row_memory import REMEMBERED, RowMemory
from archgen.spaces import SearchSpace
from archgen.surrogates.base import Surrogate

CHUNK = 256
"""Architectures that are predicted at a time: their covariances stay in the cache of a processor."""
FITTED = 512
"""Most labels that the hyperparameters are fitted to."""
MODEL = "model."

DistinctBlock = tuple[Tensor, Tensor]
"""Distinct rows of a block of features, and which of them each of `b` architectures has, `b`."""


@PREDICTORS.register("gp")
class GaussianProcess(NormalScorePredictor, Surrogate):
    """`SingleTaskGP` (BoTorch) with a Matern-5/2 kernel a block of path features.

    Blocks are those of `PathEncoder` (one-hot of the pruned cell, counts, longest paths, live paths), that of
    `WeisfeilerLehmanEncoder` where asked for, and the free labels where they are given. Targets are replaced by the
    normal scores of their ranks (`NormalScores`), which keeps a few broken architectures with 10 % accuracy from ruling
    the length scales. The posterior is that of the noise-free value; `predict`, `limit` and `log_probability` speak of
    a measured one, noise included.

    Args:
        space: A space that `PathEncoder` takes.
        metric: Name of the metric.
        free_labels: Predicts zero-cost proxies, which become features; a part of the checkpoint.
        neighbourhoods: Whether to add the Weisfeiler-Lehman block. It takes as long to encode as all others. On
            accuracies of 1,000 DARTS networks it adds 0.02 to Kendall's tau with 400 labels; on validation accuracies
            of NAS-Bench-201, whose paths are counted, 0.007 with 78 labels and nothing with more, or beside free
            labels.
    """

    takes_free_labels = True

    def __init__(
        self, space: SearchSpace, metric: str, free_labels: FreeLabels | None = None, neighbourhoods: bool = False
    ) -> None:
        super().__init__(space, metric)
        self.encoder = PathEncoder(space) if free_labels is None else free_labels.encoder  # each remembers its rows
        self.neighbourhoods = WeisfeilerLehmanEncoder(space) if neighbourhoods else None
        self.free_labels = free_labels
        self._model: SingleTaskGP | None = None
        self._archs: list[Architecture] = []
        self._y: Floats = np.zeros(0)
        self._factor: tuple[list[DistinctBlock], Tensor, Tensor] | None = None
        self._beliefs = RowMemory(self._believe, 2, chunk=REMEMBERED)

    @property
    def model(self) -> SingleTaskGP:
        if self._model is None:
            raise ArchgenError(f"the predictor of {self.metric} has seen no values yet; call fit first")
        return self._model

    def features(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        blocks = [self.encoder(archs)]
        if self.neighbourhoods is not None:
            blocks.append(self.neighbourhoods(archs))
        if self.free_labels is not None:
            blocks.append(torch.from_numpy(self.free_labels(archs)))
        return torch.cat(blocks, 1) * self._weights

    @property
    def blocks(self) -> dict[str, int]:
        """Width of each block of features, in order."""
        widths = dict(self.encoder.blocks)
        if self.neighbourhoods is not None:
            widths["neighbourhoods"] = self.neighbourhoods.width
        if self.free_labels is not None:
            widths["free_labels"] = len(self.free_labels.names)
        return widths

    @property
    def _weights(self) -> Float[Tensor, " d"]:
        """Each block divided by the square root of its width, so that length scales of order 1 fit all.

        Of the hashed neighbourhoods, as many as the space has nodes are not zero.
        """
        scales = {**self.blocks, "neighbourhoods": len(self.space.node_domain)}
        return torch.cat([torch.full((d,), scales[name] ** -0.5).double() for name, d in self.blocks.items()])

    def fit(self, archs: Sequence[Architecture], y: Floats) -> GaussianProcess:
        """Fit the hyperparameters by marginal likelihood, on at most 512 of the labels; inference is exact, on all.

        A dozen hyperparameters are known well from 512 labels, and the likelihood's cost grows as `b^3`.

        Args:
            archs: `b` architectures.
            y: Their values, `b`, in the metric's unit.

        Raises:
            ArchgenError: No values, or a value is not finite.
        """
        self.check_fit(archs, np.asarray(y, dtype=float))
        self._archs, self._y = list(archs), np.array(y, dtype=float)
        self._normal = NormalScores(self._y)
        x, scores = self.features(archs), torch.from_numpy(self.normal.scores)
        rows = np.sort(np.random.default_rng(0).permutation(len(y))[:FITTED])
        model = self._make(x[rows], scores[rows])
        try:
            with torch.random.fork_rng(devices=[]):  # a restart draws from torch's own generator
                torch.manual_seed(0)
                fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:  # all restarts failed: the priors' modes are a usable model
            model = self._make(x[rows], scores[rows])
        self._set_model(x, scores, dict(model.named_parameters()))
        return self

    @property
    def training_data(self) -> tuple[list[Architecture], list[float]]:
        """The architectures that it was fitted to, and their values."""
        return list(self._archs), [float(y) for y in self._y]

    def update(self, archs: Sequence[Architecture], y: Floats) -> GaussianProcess:
        """Infer from `b` architectures and their values, with the hyperparameters as they were fitted.

        Raises:
            ArchgenError: Not fitted, no values, or a value is not finite.
        """
        self.check_fit(archs, np.asarray(y, dtype=float))
        hyperparameters = dict(self.model.named_parameters())
        self._archs, self._y = list(archs), np.array(y, dtype=float)
        self._normal = NormalScores(self._y)
        self._set_model(self.features(archs), torch.from_numpy(self.normal.scores), hyperparameters)
        return self

    def believing(self, archs: Sequence[Architecture]) -> GaussianProcess:
        """A copy that was also told its own mean of some architectures: the same mean, but surer near them.

        How pending evaluations enter a sequential design (the "kriging believer" of Ginsbourger, Le Riche and Carraro,
        2010; "hallucinated" feedback in GP-BUCB, arXiv 1206.6402).
        """
        x, scores = self.model.train_inputs[0], self.model.train_targets
        mean = torch.from_numpy(self.predict_normalised(archs)[0])
        other = copy.copy(self)
        other._set_model(
            torch.cat([x, self.features(archs)]), torch.cat([scores, mean]), dict(self.model.named_parameters())
        )
        return other

    def _set_model(self, x: Tensor, scores: Tensor, hyperparameters: Mapping[str, Tensor]) -> None:
        """Condition a model of the given hyperparameters on all data."""
        self._model, self._factor, self._beliefs = (
            self._make(x, scores),
            None,
            RowMemory(self._believe, 2, chunk=REMEMBERED),
        )
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(hyperparameters[name])
        self._model.eval()

    def _make(self, x: Tensor, scores: Tensor) -> SingleTaskGP:
        likelihood = GaussianLikelihood(
            noise_prior=LogNormalPrior(-3.0, 1.0), noise_constraint=GreaterThan(1e-4, initial_value=0.05)
        )
        return SingleTaskGP(
            x, scores[:, None], likelihood=likelihood, covar_module=self._kernel(), outcome_transform=None
        )

    def _kernel(self) -> Kernel:
        blocks, start = [], 0
        for width in self.blocks.values():
            kernel = MaternKernel(
                nu=2.5,
                active_dims=tuple(range(start, start + width)),
                lengthscale_prior=LogNormalPrior(0.0, 1.0),
                lengthscale_constraint=GreaterThan(0.025, initial_value=1.0),
            )
            blocks.append(ScaleKernel(kernel, outputscale_prior=GammaPrior(2.0, 4.0)))
            start += width
        return AdditiveKernel(*blocks).double()

    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        mean, std = self.predict_normalised(archs)
        return mean, np.sqrt(std**2 + self.model.likelihood.noise.item())

    def predict_normalised(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noise-free value, as normal scores."""
        beliefs = self._beliefs(archs)  # guidance asks again and again about the same ones
        return beliefs[:, 0], beliefs[:, 1]

    def _believe(self, archs: Sequence[Architecture]) -> Floats:
        """Mean and standard deviation of each, `b x 2`."""
        rows, which = distinct(self.features(archs).numpy())  # many architectures compute the same
        chunks = [torch.stack(self._marginals(x), 1) for x in torch.split(torch.from_numpy(rows), CHUNK)]
        return torch.cat(chunks).numpy()[which]

    @torch.no_grad()
    def _marginals(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Marginal mean and standard deviation (Rasmussen and Williams, algorithm 2.1).

        The model's own posterior computes the joint covariance of all `b` points first; guidance asks for thousands
        of marginals a step and needs none of it. Labels of one feature row count as one, their mean with a part of the
        noise, which gives the same posterior. The mean is computed in double precision; of the variance, what the
        labels explain in single, which leaves its root right to about four digits.
        """
        model = self.model
        if self._factor is None:
            self._factor = self._factorise()
        train, inverse, weights = self._factor
        cross = self._covariance(self._distinct_blocks(x), train)
        explained = (cross.float() @ inverse.mT).square().sum(1)
        prior = sum(kernel.outputscale for kernel in model.covar_module.kernels)
        variance = (prior - explained).clamp(min=1e-12)
        return model.mean_module(x) + cross @ weights, variance.sqrt()

    def _factorise(self) -> tuple[list[DistinctBlock], Tensor, Tensor]:
        """Blocks of the `m` distinct rows; inverse Cholesky root (single precision); weights of the mean."""
        model = self.model
        rows, which = distinct(model.train_inputs[0].numpy())
        times = torch.from_numpy(np.bincount(which)).double()
        train = torch.from_numpy(rows)
        blocks = self._distinct_blocks(train)
        root = torch.linalg.cholesky(self._covariance(blocks, blocks) + torch.diag(model.likelihood.noise / times))
        sums = torch.zeros(len(rows)).double().index_add_(0, torch.from_numpy(which), model.train_targets)
        centred = sums / times - model.mean_module(train)
        inverse = torch.linalg.solve_triangular(root, torch.eye(len(rows)).double(), upper=False)
        return blocks, inverse.float(), torch.cholesky_solve(centred[:, None], root)[:, 0]

    def _distinct_blocks(self, x: Float[Tensor, "b d"]) -> list[DistinctBlock]:
        """Of each block of features the distinct rows, of which there are few, and which of them each row has."""
        found = [distinct(block.numpy()) for block in torch.split(x, list(self.blocks.values()), 1)]
        return [(torch.from_numpy(rows), torch.from_numpy(which)) for rows, which in found]

    def _covariance(self, x: Sequence[DistinctBlock], others: Sequence[DistinctBlock]) -> Float[Tensor, "b m"]:
        """The model's own covariance, block by block and in place: its kernels copy as much as they compute."""
        total = torch.zeros(len(x[0][1]), len(others[0][1])).double()
        for kernel, (rows, i), (columns, j) in zip(self.model.covar_module.kernels, x, others, strict=True):
            scale = 5**0.5 / kernel.base_kernel.lengthscale.item()
            d = torch.cdist(rows, columns).mul_(scale)
            matern = (d * (d / 3 + 1)).add_(1).mul_(d.neg_().exp_()).mul_(kernel.outputscale.item())
            if len(columns) < len(j):
                matern = matern[:, j]
            total += matern[i] if len(rows) < len(i) else matern
        return total

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config: dict[str, Any] = {"architectures": [self.space.format(a) for a in self._archs]}
        if self.neighbourhoods is not None:
            config["neighbourhoods"] = True
        tensors = {f"{MODEL}{name}": p.detach() for name, p in self.model.named_parameters()}
        tensors["y"] = torch.from_numpy(self._y)
        return join_free_labels(self.free_labels, config, tensors)

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> GaussianProcess:
        self = cls(space, metric, split_free_labels(space, config, tensors), config.get("neighbourhoods", False))
        self._archs = [space.parse(text) for text in config["architectures"]]
        self._y = tensors["y"].numpy().astype(float)
        self._normal = NormalScores(self._y)
        hyperparameters = {name.removeprefix(MODEL): t for name, t in tensors.items() if name.startswith(MODEL)}
        self._set_model(self.features(self._archs), torch.from_numpy(self.normal.scores), hyperparameters)
        return self
