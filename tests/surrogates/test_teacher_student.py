"""BOSHNAS's three networks as one Gaussian belief."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from archgen.surrogates.teacher_student import LEAST_NOISE, TeacherStudentModel, train, tune


def noise(x: Tensor) -> Tensor:
    """Standard deviation of the labels: small on the left, large on the right."""
    return torch.where(x[:, 0] < 0, 0.05, 0.8).double()


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(160, 3, generator=generator).double() * 2 - 1
    return x, (2 * x[:, 1]).sin() + noise(x) * torch.randn(160, generator=generator).double()


@pytest.fixture(scope="module")
def fitted(data: tuple[Tensor, Tensor]) -> TeacherStudentModel:
    return train(*data, data[0][:0], steps=120)


@pytest.fixture(scope="module")
def points() -> Tensor:
    return torch.rand(100, 3, generator=torch.Generator().manual_seed(1)).double() * 2 - 1


def test_the_mean_follows_the_labels_and_the_variance_their_noise(fitted: TeacherStudentModel, points: Tensor) -> None:
    mean, _, aleatoric = fitted.moments(points)
    assert spearmanr(mean, (2 * points[:, 1]).sin()).statistic > 0.85
    quiet, loud = (aleatoric[points[:, 0] < -0.2].median(), aleatoric[points[:, 0] > 0.2].median())
    assert loud > 5 * quiet
    assert loud.sqrt() == pytest.approx(0.8, rel=0.4)


def test_switched_off_the_noise_is_one_number(data: tuple[Tensor, Tensor], points: Tensor) -> None:
    model = train(*data, data[0][:0], heteroscedastic=False, steps=60)
    mean, _, aleatoric = model.moments(points)
    assert model.npn is None
    assert len(aleatoric.unique()) == 1
    assert spearmanr(mean, (2 * points[:, 1]).sin()).statistic > 0.85


def test_the_student_knows_the_spread_of_the_teacher(fitted: TeacherStudentModel, points: Tensor) -> None:
    """At points that neither has seen."""
    spread = fitted.functions(points).std(0)
    _, student, _ = fitted.moments(points)
    assert (student - spread).abs().mean() < 0.15 * spread.mean()
    assert np.corrcoef(student, spread)[0, 1] > 0.8


def test_unlabelled_points_teach_the_student_where_labels_do_not_reach(data: tuple[Tensor, Tensor]) -> None:
    far = data[0][:100] * 4
    few = data[0][:40], data[1][:40]
    alone, told = (train(*few, others, heteroscedastic=False, steps=60) for others in (far[:0], far[:50]))
    errors = [(m.moments(far[50:])[1] - m.functions(far[50:]).std(0)).abs().mean() for m in (alone, told)]
    assert errors[1] < 0.5 * errors[0]


def test_one_point_has_the_students_variance_and_noise_is_added_where_asked_for(
    fitted: TeacherStudentModel, points: Tensor
) -> None:
    mean, spread, aleatoric = fitted.moments(points)
    posterior = fitted.posterior(points[:, None])
    assert posterior.mean.shape == (100, 1, 1)
    assert torch.allclose(posterior.mean[:, 0, 0], mean)
    assert torch.allclose(posterior.variance[:, 0, 0], spread.square())
    noisy = fitted.posterior(points[:, None], observation_noise=True)
    assert torch.allclose(noisy.variance[:, 0, 0], spread.square() + aleatoric)
    assert bool((aleatoric >= LEAST_NOISE).all())


def test_jointly_the_marginals_are_the_same_and_the_covariance_is_positive_definite(
    fitted: TeacherStudentModel, points: Tensor
) -> None:
    batches = points.view(5, 20, 3)
    covariance = fitted.posterior(batches).distribution.covariance_matrix
    assert covariance.shape == (5, 20, 20)
    assert torch.allclose(covariance.diagonal(dim1=-2, dim2=-1), fitted.moments(batches)[1].square())
    assert bool((torch.linalg.eigvalsh(covariance) > 0).all())


def test_correlations_are_those_of_the_teachers_functions(fitted: TeacherStudentModel, points: Tensor) -> None:
    wanted = np.corrcoef(fitted.functions(points[:4]).T)
    assert fitted.correlations(points[:4]).numpy() == pytest.approx(wanted, abs=2e-3)
    near = torch.cat([points[:1], points[:1] + 1e-3])
    assert fitted.correlations(near)[0, 1] > 0.99


def test_samples_are_drawn_from_the_joint_belief(fitted: TeacherStudentModel, points: Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        samples = fitted.posterior(points[:3]).rsample(torch.Size([4000]))[..., 0]
    assert np.cov(samples.T) == pytest.approx(
        fitted.posterior(points[:3]).distribution.covariance_matrix.numpy(), rel=0.1, abs=2e-3
    )


def test_the_belief_is_twice_differentiable(fitted: TeacherStudentModel, points: Tensor) -> None:
    def both(x: Tensor) -> Tensor:
        posterior = fitted.posterior(x)
        return torch.cat([posterior.mean, posterior.variance])

    x = points[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(both, (x,))
    assert torch.autograd.gradgradcheck(both, (x,))


@pytest.mark.parametrize("n", [1, 3])
def test_few_labels_are_enough_to_train(n: int) -> None:
    x = torch.eye(3).double()[:n]
    mean, spread, aleatoric = train(x, torch.arange(n).double() - 1, x[:0], steps=5).moments(x)
    assert bool(torch.stack([mean, spread, aleatoric]).isfinite().all())


def test_the_same_seed_gives_the_same_networks_and_leaves_global_randomness_alone(data: tuple[Tensor, Tensor]) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (train(*data, data[0][:0], steps=5, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["mask0"], other["mask0"])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("heteroscedastic", [True, False])
def test_tuning_learns_new_labels_from_where_the_networks_are(
    data: tuple[Tensor, Tensor], points: Tensor, heteroscedastic: bool
) -> None:
    """Labels of the other half, which are three higher, are believed; what was fitted stays as it was."""
    x, other = data[0], data[0][:, 2] > 0
    moved = data[1] + 3 * other
    before = train(x[~other], moved[~other], points, heteroscedastic=heteroscedastic, steps=80)
    kept = {name: value.clone() for name, value in before.state_dict().items()}
    after = tune(before, x, moved, points, steps=40)

    def error(model: TeacherStudentModel) -> Tensor:
        return (model.moments(x)[0] - moved).abs().mean()

    assert error(after) < 0.6 * error(before)
    assert all(torch.equal(kept[name], value) for name, value in before.state_dict().items())
    assert not any(parameter.requires_grad for parameter in after.parameters())
    spread = after.functions(points).std(0)
    assert (after.moments(points)[1] - spread).abs().mean() < 0.2 * spread.mean()
    again = tune(before, x, moved, points, steps=40)
    assert torch.equal(again.moments(points)[0], after.moments(points)[0])
