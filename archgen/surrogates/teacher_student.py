"""The networks of BOSHNAS (FlexiBERT, arXiv 2205.11656) as a BoTorch model, and how they are trained.

Three networks look at one vector: a natural-parameter network `f` says the mean and the aleatoric variance, a teacher
`g` with dropout is uncertain where there are few labels, and a student `h` regresses that uncertainty, so that it is a
smooth function of the input and costs one pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior, Posterior
from gpytorch.distributions import MultivariateNormal
from jaxtyping import Float
from torch import Tensor, nn

from archgen.surrogates.natural_parameters import NaturalParameterNetwork

HIDDEN = (64, 32)
"""Widths of teacher and student; this, the dropout and the share below are those of the published code."""
DROPOUT = 0.3
HELD_OUT = 0.2
"""Share of the labels on which the number of training steps is chosen."""
FEWEST = 10
"""Labels below which none is held out."""
EVERY = 10
"""Steps between two looks at the labels held out."""
LENGTH = 3.0
"""Usual length of a point as the networks see it, whatever its width, so that the same weight decay suits all."""
PRIOR = 40.0
"""Weight decay of the natural-parameter network times the number of labels: what a prior counts beside a mean loss."""
DECAY = 1e-2
"""Weight decay of teacher and student."""
LEAST_NOISE = 1e-3
"""Least aleatoric variance, in squared normal scores."""
SHRINKAGE = 1e-3
"""Share of the identity in the correlations of drawn functions, whose number limits their rank."""

Loss = Callable[[Any, Tensor], Tensor]


class Teacher(nn.Module):
    """A network with dropout behind each hidden layer; a set of fixed masks makes it a set of functions.

    Dropout left on when predicting is a draw from an approximate posterior (Gal and Ghahramani, arXiv 1506.02142).
    Masks that stay the same from point to point make each draw one function, so that draws at several points have a
    joint distribution.

    Args:
        inputs: Width `d` of the input.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        widths = [inputs, *HIDDEN]
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths[:-1], HIDDEN, strict=True))
        self.out = nn.Linear(HIDDEN[-1], 1)

    def forward(self, x: Float[Tensor, "b d"], masks: Sequence[Tensor] | None = None) -> Float[Tensor, "... b"]:
        """Values `b`; with masks, `k x width` a layer, those of each of the `k` functions."""
        for i, layer in enumerate(self.hidden):
            x = F.softplus(layer(x))
            x = F.dropout(x, DROPOUT, self.training) if masks is None else x * masks[i][:, None]
        values: Tensor = self.out(x)[..., 0]
        return values


class Student(nn.Module):
    """The spread of the teacher's functions at a point, positive.

    Args:
        inputs: Width `d` of the input.
    """

    unit: Float[Tensor, ""]
    """The usual spread, in which it counts."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        first, second = HIDDEN
        self.layers = nn.Sequential(
            nn.Linear(inputs, first), nn.Softplus(), nn.Linear(first, second), nn.Softplus(), nn.Linear(second, 1)
        )

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Standard deviations."""
        return self.unit * F.softplus(self.layers(x)[..., 0])


class TeacherStudentModel(Model):  # type: ignore[misc]
    r"""The belief of BOSHNAS: Gaussian, of mean :math:`\mu` and variance :math:`\xi^2`, noise :math:`\sigma^2` apart.

    :math:`\mu` and :math:`\sigma^2` come from the natural-parameter network, :math:`\xi` from the student. Several
    points jointly have the correlations of the teacher's functions with the student's spreads: exact marginals, and
    positive definite. As in every BoTorch model the noise is a part only where `observation_noise` is asked for. All is
    differentiable, twice, with respect to the points.

    Args:
        inputs: Width `d` of the points.
        draws: Number `k` of the teacher's functions, at least 2.
        heteroscedastic: Whether there is a natural-parameter network; without, the mean is the teacher's, without
            dropout, and the aleatoric variance is one number.
    """

    centre: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    noise: Float[Tensor, ""]

    def __init__(self, inputs: int, draws: int, heteroscedastic: bool) -> None:
        super().__init__()
        self.npn = NaturalParameterNetwork(inputs) if heteroscedastic else None
        self.teacher, self.student = Teacher(inputs), Student(inputs)
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.register_buffer("noise", torch.ones(()))
        for i, width in enumerate(HIDDEN):
            self.register_buffer(f"mask{i}", torch.bernoulli(torch.full((draws, width), 1 - DROPOUT)) / (1 - DROPOUT))

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    @property
    def masks(self) -> list[Tensor]:
        """Of each hidden layer of the teacher, `k x width`."""
        return [self.get_buffer(f"mask{i}") for i in range(len(HIDDEN))]

    def standardise(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Inputs as the networks see them."""
        return (x - self.centre) / self.scale

    def moments(self, X: Float[Tensor, "*b d"]) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """Mean, epistemic standard deviation and aleatoric variance at each point."""
        x = self.standardise(X).reshape(-1, X.shape[-1])
        if self.npn is None:
            mean, aleatoric = self.teacher(x), self.noise.expand(len(x))
        else:
            mean, aleatoric = self.npn(x)
            aleatoric = aleatoric + LEAST_NOISE
        shape = X.shape[:-1]
        return mean.view(shape), self.student(x).view(shape), aleatoric.reshape(shape)

    def functions(self, X: Float[Tensor, "*b d"]) -> Float[Tensor, "k ..."]:
        """Values of the teacher's functions."""
        values: Tensor = self.teacher(self.standardise(X).reshape(-1, X.shape[-1]), self.masks)
        return values.view(-1, *X.shape[:-1])

    def correlations(self, X: Float[Tensor, "*b q d"]) -> Float[Tensor, "*b q q"]:
        """Of the teacher's functions at `q` points; 1 on the diagonal."""
        values = self.functions(X)
        centred = (values - values.mean(0)).movedim(0, -1)
        centred = centred / (centred.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        one = torch.eye(X.shape[-2]).to(X)
        return (1 - SHRINKAGE) * (centred @ centred.mT) * (1 - one) + one

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Callable[[Posterior], Posterior] | None = None,
    ) -> Posterior:
        """The joint belief over `q` points, `... x q x d`, of one output."""
        mean, spread, aleatoric = self.moments(X)
        correlations = self.correlations(X) if X.shape[-2] > 1 else torch.ones_like(mean)[..., None]
        covariance = correlations * spread[..., None] * spread[..., None, :]
        if isinstance(observation_noise, Tensor):
            covariance = covariance + torch.diag_embed(observation_noise[..., 0].expand_as(mean))
        elif observation_noise:
            covariance = covariance + torch.diag_embed(aleatoric)
        posterior = GPyTorchPosterior(MultivariateNormal(mean, covariance))
        return posterior if posterior_transform is None else posterior_transform(posterior)


def train(
    x: Float[Tensor, "b d"],
    y: Float[Tensor, " b"],
    unlabelled: Float[Tensor, "u d"],
    *,
    heteroscedastic: bool = True,
    draws: int = 64,
    steps: int = 200,
    seed: int = 0,
) -> TeacherStudentModel:
    r"""Train the three networks by the losses of the paper.

    .. math::

        L_f = \sum \frac{(\mu - y)^2}{2 \sigma^2} + \frac{1}{2} \ln \sigma^2, \qquad
        L_g = \sum (g(x) - y)^2, \qquad L_h = \sum (h(x) - \xi)^2

    where :math:`\xi` is the standard deviation of the teacher's functions. Against the paper's code: batches are
    whole, by AdamW; the number of steps is chosen on a fifth of the labels and then all are trained on; and since the
    spread needs no labels, the student learns it on other points of the space too.

    Args:
        x: Points, at least one.
        y: Their values, of order 1.
        unlabelled: Other points.
        heteroscedastic, draws: As in `TeacherStudentModel`.
        steps: Of training, at most, for each network.
        seed: Of all randomness.
    """
    everywhere = torch.cat([x, unlabelled])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: TeacherStudentModel = TeacherStudentModel(x.shape[1], draws, heteroscedastic).double()
        model.centre = everywhere.mean(0)
        deviation = everywhere.std(0, correction=0)
        model.scale = torch.where(deviation > 1e-9, deviation, 1.0) * x.shape[1] ** 0.5 / LENGTH
        split = torch.from_numpy(np.random.default_rng(seed).permutation(len(y)))
        error = _descend(model.teacher, _squared(model, x, y), split, steps)
        model.noise = torch.tensor(error).double().clamp(min=LEAST_NOISE)
        if model.npn is not None:
            _descend(model.npn, _likelihood(model, x, y), split, steps, decay=_prior(y))
        _teach(model, everywhere, steps)
    model.eval().requires_grad_(False)
    return model


def tune(
    model: TeacherStudentModel,
    x: Float[Tensor, "b d"],
    y: Float[Tensor, " b"],
    unlabelled: Float[Tensor, "u d"],
    *,
    steps: int = 40,
    seed: int = 0,
) -> TeacherStudentModel:
    """A copy of a trained model, trained on from where it is, on all labels: what a few new ones cost least.

    The published code goes on from its weights after each new label too. Scales and the aleatoric variance without a
    natural-parameter network stay.

    Args:
        model: Of `train`.
        x, y, unlabelled, seed: As there.
        steps: Of training, for each network.
    """
    model = copy.deepcopy(model).requires_grad_(True)
    rows = torch.arange(len(y))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _run(model.teacher, _squared(model, x, y), rows, steps, rows[:0], DECAY)
        if model.npn is not None:
            _run(model.npn, _likelihood(model, x, y), rows, steps, rows[:0], _prior(y))
        _teach(model, torch.cat([x, unlabelled]), steps)
    model.eval().requires_grad_(False)
    return model


def _squared(model: TeacherStudentModel, x: Tensor, y: Tensor) -> Loss:
    """The teacher's."""
    inputs = model.standardise(x)

    def loss(teacher: Teacher, rows: Tensor) -> Tensor:
        value: Tensor = (teacher(inputs[rows]) - y[rows]).square().mean()
        return value

    return loss


def _likelihood(model: TeacherStudentModel, x: Tensor, y: Tensor) -> Loss:
    """The natural-parameter network's."""
    inputs = model.standardise(x)

    def loss(npn: NaturalParameterNetwork, rows: Tensor) -> Tensor:
        mean, variance = npn(inputs[rows])
        variance = variance + LEAST_NOISE
        value: Tensor = 0.5 * ((mean - y[rows]).square() / variance + variance.log()).mean()
        return value

    return loss


def _prior(y: Tensor) -> float:
    """Weight decay of the natural-parameter network."""
    return PRIOR / max(len(y), FEWEST)


def _teach(model: TeacherStudentModel, points: Tensor, steps: int) -> None:
    """Train the student on the spread of the teacher's functions, in place."""
    model.eval()
    with torch.no_grad():
        spread = model.functions(points).std(0)
    model.student.unit = spread.mean().clamp(min=1e-6)
    inputs = model.standardise(points)

    def loss(student: Student, rows: Tensor) -> Tensor:
        value: Tensor = ((student(inputs[rows]) - spread[rows]) / student.unit).square().mean()
        return value

    _run(model.student, loss, torch.arange(len(points)), steps, torch.arange(0), DECAY)


def _descend(network: nn.Module, loss: Loss, split: Tensor, steps: int, decay: float = DECAY) -> float:
    """Train in place for the number of steps that is best on labels held out; returns the loss there, or at the end.

    Args:
        network: Untrained.
        loss: Of a network on some rows.
        split: Rows in random order, of which the first are held out.
        steps: At most.
        decay: Of the weights.
    """
    held, lowest = split[: int(HELD_OUT * len(split))], float("nan")
    if len(split) >= FEWEST:
        _, steps, lowest = _run(copy.deepcopy(network), loss, split[len(held) :], steps, held, decay)
    last = _run(network, loss, split, steps, held[:0], decay)[0]
    return lowest if np.isfinite(lowest) else last


def _run(
    network: nn.Module, loss: Loss, rows: Tensor, steps: int, held: Tensor, decay: float
) -> tuple[float, int, float]:
    """Train in place; the last loss on the rows, and of the labels held out the best step and the loss there."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=decay, fused=True)
    best, lowest, last = steps, float("inf"), float("nan")
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        value = loss(network.train(), rows)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        last = value.item()
        if len(held) and step % EVERY == 0:
            with torch.no_grad():
                seen = loss(network.eval(), held).item()
            if seen < lowest:
                best, lowest = step, seen
    return last, best, lowest
