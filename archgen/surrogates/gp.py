"""Gaussian process over blocks of features with rank-normalised targets."""

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
from gpytorch.kernels import AdditiveKernel, Kernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior, LogNormalPrior
from jaxtyping import Float
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import PREDICTORS, Floats
from archgen.predictors.distinct import distinct
from archgen.predictors.free_labels import FreeLabels, join_free_labels, split_free_labels
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores
from archgen.row_memory import REMEMBERED, RowMemory
from archgen.spaces import SearchSpace
from archgen.surrogates.base import Surrogate
from archgen.surrogates.feature_blocks import FREE, LAYERS, SIZES, FeatureBlocks
from archgen.surrogates.kernels import DenseLinearKernel, SmoothMaternKernel
from archgen.surrogates.marginals import Marginals

CHUNK = 256
"""Architectures that are predicted at a time: their covariances stay in the cache of a processor."""
FITTED = 512
"""Most labels that the hyperparameters are fitted to."""
MODEL = "model."
OPTIONS = ("neighbourhoods", "trend", "layers", "sizes")
"""Arguments that a checkpoint remembers where they are true."""
SIZE_WEIGHTS = "sizes.weights"


@PREDICTORS.register("gp")
class GaussianProcess(NormalScorePredictor, Surrogate):
    """`SingleTaskGP` (BoTorch) with a kernel for each block of features (`FeatureBlocks`), Matern-5/2 or linear.

    Targets are replaced by the normal scores of their ranks (`NormalScores`), which keeps a few broken architectures
    with 10 % accuracy from ruling the length scales. The posterior is that of the noise-free value; `predict`, `limit`
    and `log_probability` speak of a measured one, noise included.

    Args:
        space: A space that `PathEncoder` takes.
        metric: Name of the metric.
        free_labels: Predicts zero-cost proxies, which become features; a part of the checkpoint.
        neighbourhoods: Whether to add the Weisfeiler-Lehman block. It takes as long to encode as all others. On
            accuracies of 1,000 DARTS networks it adds 0.02 to Kendall's tau with 400 labels; on validation accuracies
            of NAS-Bench-201, whose paths are counted, 0.007 with 78 labels and nothing with more, or beside free
            labels.
        trend: Whether values may also rise or fall linearly with the free labels. A Matern kernel says nothing of what
            is far from all that was measured; proxies rise with the accuracy there too. On NAS-Bench-201 (CIFAR-100)
            Spearman's correlation within the best 300 rises from -.12 to .23 where the 40 labels are of the worse 80 %.
        layers: Whether to add a linear kernel over the layers as written, for what adds up over them, dead ones too.
            With 80 latencies of NAS-Bench-201 Spearman's correlation with the others rises from .86 to .99 on an FPGA,
            from .75 to .83 on a Pixel 2.
        sizes: Whether to add parameters and multiply-adds (`Sizes`), with a linear trend too; by default where there
            are no free labels, which know more. Kendall's tau from 50 labels rises from .64 to .72 on Accel-NASBench,
            from .85 to .90 on Once-for-All's measured networks.
    """

    takes_free_labels = True

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        free_labels: FreeLabels | None = None,
        neighbourhoods: bool = False,
        trend: bool = True,
        layers: bool = False,
        sizes: bool | None = None,
    ) -> None:
        super().__init__(space, metric)
        self.sizes = free_labels is None if sizes is None else sizes
        self.free_labels, self.neighbourhoods, self.layers = free_labels, neighbourhoods, layers
        options = {"neighbourhoods": neighbourhoods, "sizes": self.sizes, "layers": layers}
        self.blocks = FeatureBlocks(space, free_labels, **options)
        self.trend = trend and free_labels is not None
        self._model: SingleTaskGP | None = None
        self._archs: list[Architecture] = []
        self._y: Floats = np.zeros(0)
        self._marginals: Marginals | None = None
        self._beliefs = RowMemory(self._believe, 2, chunk=REMEMBERED)

    @classmethod
    def for_wishes(
        cls, space: SearchSpace, wishes: Sequence[Objective], free_labels: FreeLabels | None = None
    ) -> Sequence[GaussianProcess]:
        """With `layers` where less of any metric is better: latency, energy and size add up over them.

        Without `sizes`: the published runs of the strategies were made before there were any.
        """
        options = {"layers": any(wish.sign < 0 for wish in wishes), "sizes": False}
        processes = [cls(space, wish.metric, free_labels, **options) for wish in wishes]
        for process in processes:
            process.blocks = processes[0].blocks  # so that features are computed once for all
        return processes

    @property
    def model(self) -> SingleTaskGP:
        if self._model is None:
            raise ArchgenError(f"the predictor of {self.metric} has seen no values yet; call fit first")
        return self._model

    def features(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        return self.blocks(archs)

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
        self._model, self._beliefs = self._make(x, scores), RowMemory(self._believe, 2, chunk=REMEMBERED)
        places = [list(self.blocks.widths).index(name) for name, _ in self._terms]
        self._marginals = Marginals(self._model, list(self.blocks.widths.values()), places)
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
        kernels: list[Kernel] = []
        for name, linear in self._terms:
            columns = self.blocks.columns(name)
            if linear:
                kernels.append(DenseLinearKernel(active_dims=columns, variance_prior=GammaPrior(2.0, 2.0)))
                continue
            kernel = SmoothMaternKernel(
                nu=2.5,
                active_dims=columns,
                lengthscale_prior=LogNormalPrior(0.0, 1.0),
                lengthscale_constraint=GreaterThan(0.025, initial_value=1.0),
            )
            kernels.append(ScaleKernel(kernel, outputscale_prior=GammaPrior(2.0, 4.0)))
        return AdditiveKernel(*kernels).double()

    @property
    def _terms(self) -> list[tuple[str, bool]]:
        """The kernels of the sum: the block of each, and whether it is linear."""
        terms = [(name, name == LAYERS) for name in self.blocks.widths]
        return terms + [(FREE, True)] * self.trend + [(SIZES, True)] * self.sizes

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
        assert self._marginals is not None
        chunks = [torch.stack(self._marginals(x), 1) for x in torch.split(torch.from_numpy(rows), CHUNK)]
        return torch.cat(chunks).numpy()[which]

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config: dict[str, Any] = {"architectures": [self.space.format(a) for a in self._archs]}
        config |= {name: True for name in OPTIONS if getattr(self, name)}
        tensors = {f"{MODEL}{name}": p.detach() for name, p in self.model.named_parameters()}
        tensors["y"] = torch.from_numpy(self._y)
        if self.blocks.sizes is not None:
            tensors[SIZE_WEIGHTS] = self.blocks.sizes.state()
        return join_free_labels(self.free_labels, config, tensors)

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> GaussianProcess:
        options = {name: config.get(name, False) for name in OPTIONS}
        self = cls(space, metric, split_free_labels(space, config, tensors), **options)
        if self.blocks.sizes is not None:
            self.blocks.sizes.restore(tensors[SIZE_WEIGHTS])
        self._archs = [space.parse(text) for text in config["architectures"]]
        self._y = tensors["y"].numpy().astype(float)
        self._normal = NormalScores(self._y)
        hyperparameters = {name.removeprefix(MODEL): t for name, t in tensors.items() if name.startswith(MODEL)}
        self._set_model(self.features(self._archs), torch.from_numpy(self.normal.scores), hyperparameters)
        return self
