"""One-step students: a proper likelihood, correlations, bands, and the teacher's distribution kept."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen.generators import Guidance, ImportanceGuidance, OneStep, ParticleGuidance, train_generator
from archgen.generators.base import Start
from archgen.generators.variables import FreeVariables
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace

NAN = torch.nan


def make(exact: Any, seed: int = 0, **arguments: object) -> OneStep:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return OneStep(exact.nodes, exact.edges, **{"width": 8, "components": 16, **arguments}).eval()  # type: ignore[arg-type]


def log_probs(student: OneStep, exact: Any, condition: Tensor | None, index: int = 0) -> Tensor:
    with torch.no_grad():
        given = None if condition is None else condition.expand(24, -1)
        return student.log_prob(torch.tensor(exact.states), given, index)


# -- the likelihood ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [None, [0.3, -1.0], [NAN, 2.0], [NAN, NAN]])
def test_probabilities_of_all_graphs_sum_to_one(exact: Any, condition: list[float] | None) -> None:
    student = make(exact, conditions=0 if condition is None else 2, cuts=() if condition is None else (0.0,))
    given = None if condition is None else torch.tensor([condition])
    for index in range(len(student.tables)):
        assert float(log_probs(student, exact, given, index).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_samples_follow_the_likelihood(exact: Any, seeded: Any) -> None:
    student = make(exact, conditions=1)
    condition = torch.tensor([[0.7]])
    counts = exact.counts(student, student.sample(20_000, condition=condition.expand(20_000, 1), generator=seeded()))
    exact.assert_distributed(counts, log_probs(student, exact, condition).exp().double().numpy())


def test_the_loss_is_the_mean_negative_log_likelihood(exact: Any, seeded: Any) -> None:
    student = make(exact)
    graphs = student.variables.graph(torch.tensor(exact.states))
    loss = float(student.loss(graphs, generator=seeded()).detach())
    assert loss == pytest.approx(-float(log_probs(student, exact, None).mean()), rel=1e-5)


def test_a_forbidden_state_has_no_probability_and_no_gradient_that_is_not_finite(exact: Any, seeded: Any) -> None:
    student = make(exact)
    student.loss(student.variables.graph(torch.tensor(exact.states)), generator=seeded()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in student.parameters())
    forbidden = torch.tensor([[2, 0, 0, 0]])  # the first node has two labels
    assert float(student.log_prob(forbidden, None, 0).detach()) < -50


# -- what it learns ---------------------------------------------------------------------------------------------


def correlated(exact: Any) -> Tensor:
    """A joint distribution that no product comes near: all variables agree, or the labels' sum is odd."""
    weights = torch.full((24,), 0.2)
    for i, (a, b, first, second) in enumerate(exact.states):
        weights[i] += 6.0 * (a == min(b, 1) == first == second) + 1.5 * ((a + b) % 2)
    return weights / weights.sum()


def test_it_learns_a_joint_distribution_with_correlations(exact: Any, seeded: Any) -> None:
    """Total variation to the teacher below 0.06; the best product of marginals is farther than 0.3."""
    p = correlated(exact)
    variables, source = FreeVariables(exact.nodes, exact.edges), seeded()
    states = torch.tensor(exact.states)

    def data(n: int) -> tuple[GraphBatch, None]:
        return variables.graph(states[torch.multinomial(p, n, replacement=True, generator=source)]), None

    student = make(exact)
    student.start_from(data(2_000)[0], None, generator=source)
    train_generator(student, data, steps=200, batch_size=256, lr=3e-2)
    learnt = log_probs(student, exact, None).exp()
    assert float((learnt - p).abs().sum()) / 2 < 0.06
    one_hot = torch.nn.functional.one_hot(states, 3).float()
    marginals = torch.einsum("g,gvs->vs", p, one_hot)
    product = (one_hot * marginals).sum(-1).prod(-1)
    assert float((product - p).abs().sum()) / 2 > 0.3


def test_students_keep_what_a_conditional_teacher_draws(exact: Any, seeded: Any) -> None:
    """Two students trained on an exact teacher with weight 2: closed forms at conditions of both bands and at none."""
    teacher, source = exact.Flow(conditions=1), seeded()
    n = 12_000
    condition = torch.where(torch.rand(n, 1, generator=source) < 0.2, NAN, torch.rand(n, 1, generator=source) * 2 - 1)
    graphs = teacher.sample(n, condition=condition, weight=2.0, steps=2, generator=source)
    student = make(exact, conditions=1, cuts=(0.0,), width=16)
    student.start_from(graphs, condition, generator=source)

    def data(b: int) -> tuple[GraphBatch, Tensor]:
        picked = torch.randint(n, (b,), generator=source)
        return graphs[picked], condition[picked]

    train_generator(student, data, steps=250, batch_size=256, lr=2e-2)
    for c in (-0.8, 0.6, NAN):
        batch = student.sample(3_000, condition=torch.full((3_000, 1), c), generator=seeded(1))
        expected = exact.product(exact.weights * (2 * np.nan_to_num(c) * exact.slopes).exp())
        assert exact.distance(exact.counts(student, batch), expected) < 0.08
    far = exact.product(exact.weights * (2 * 0.6 * exact.slopes).exp())
    assert exact.distance(far, exact.product()) > 0.2  # so the bound above tells conditions apart


def pair_marginals(graphs: GraphBatch) -> Tensor:
    """Shares of each pair of labels on each pair of the six nodes."""
    return torch.einsum("bik,bjl->ijkl", graphs.ops[:, 1:-1], graphs.ops[:, 1:-1]) / len(graphs)


def test_pairs_of_operations_of_nasbench201_keep_their_shares(space: SearchSpace, exact: Any, seeded: Any) -> None:
    """The teacher is a uniform flow steered towards three equal pairs of edges; 60 steps of training.

    Mean absolute error of the shares (about 0.04 each) below 0.006, a third of what ignoring pairs would give; two
    samples of 6,000 from the same distribution differ by 0.002.
    """
    teacher = exact.product_flow(space.node_domain, space.edge_domain)

    def twins(archs: Any) -> np.ndarray:
        return np.array([1.5 * sum(a.ops[i] == a.ops[i + 3] for i in (1, 2, 3)) for a in archs])

    drawn = teacher.sample(6_000, guidance=[ImportanceGuidance(space.decode, twins)], steps=2, generator=seeded())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = OneStep(space.node_domain, space.edge_domain, components=256)
    student.start_from(drawn, None, generator=seeded(1))
    train_generator(student, drawn, steps=60, batch_size=512, lr=5e-2)
    own = student.sample(6_000, generator=seeded(2))
    assert None not in space.decode(own)
    single = drawn.ops[:, 1:-1].mean(0)
    ignorant = torch.einsum("ik,jl->ijkl", single, single)
    off_diagonal = ~torch.eye(6, dtype=torch.bool)
    allowed = space.node_domain[1]
    block = torch.outer(allowed, allowed)

    def error(shares: Tensor) -> float:
        return float((shares - pair_marginals(drawn))[off_diagonal][:, block].abs().mean())

    assert error(pair_marginals(own)) < 0.006
    assert error(pair_marginals(own)) < 0.5 * error(ignorant)


def test_a_start_from_training_graphs_is_better_than_a_start_from_nothing(exact: Any, seeded: Any) -> None:
    p, variables = correlated(exact), FreeVariables(exact.nodes, exact.edges)
    drawn = torch.multinomial(p, 2_000, replacement=True, generator=seeded())
    graphs = variables.graph(torch.tensor(exact.states)[drawn])
    random, started = make(exact), make(exact)
    started.start_from(graphs, None, generator=seeded())
    losses = [float(student.loss(graphs, generator=seeded()).detach()) for student in (random, started)]
    assert losses[1] < losses[0] - 0.15


# -- bands ------------------------------------------------------------------------------------------------------


class Named(OneStep):
    """Student `i` draws only label `i` on the second node (which has three)."""

    def _log_tables(self, student: int) -> Tensor:
        table = super()._log_tables(student).clone()
        table[:, 1] = torch.where(torch.arange(3) == student, 0.0, -torch.inf)
        return table


@pytest.fixture
def three(exact: Any) -> Named:
    return Named(exact.nodes, exact.edges, width=8, components=4, conditions=2, band=1, cuts=(-1.0, 1.0)).eval()


def test_each_band_has_its_student(three: Named, seeded: Any) -> None:
    banded = [-9.0, -1.01, -0.99, 0.0, 0.99, 1.01, 9.0]
    condition = torch.tensor([[5.0 * (-1) ** i, value] for i, value in enumerate(banded)])
    batch = three.sample(7, condition=condition, generator=seeded())
    assert batch.labels[:, 1].tolist() == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("given", ["none", "open", "weight 0"])
def test_where_the_band_is_open_students_are_drawn_by_their_shares(
    three: Named, exact: Any, seeded: Any, given: str
) -> None:
    three.shares.copy_(torch.tensor([0.6, 0.3, 0.1]))
    condition = {
        "none": None,
        "open": torch.tensor([[0.5, NAN]]).expand(5_000, 2),
        "weight 0": torch.zeros(5_000, 2),
    }[given]
    batch = three.sample(5_000, condition=condition, weight=float(given != "weight 0"), generator=seeded())
    counts = torch.bincount(batch.labels[:, 1], minlength=3).numpy()
    exact.assert_distributed(counts, np.array([0.6, 0.3, 0.1]))


def test_shares_are_those_of_the_training_graphs_and_are_kept(exact: Any, three: Named, seeded: Any) -> None:
    variables = FreeVariables(exact.nodes, exact.edges)
    banded = torch.tensor([-2.0] * 5 + [0.0] * 3 + [2.0] * 2)
    condition = torch.stack([torch.full((10,), NAN), banded], 1)
    graphs = variables.graph(torch.tensor(exact.states[:10]))
    three.start_from(graphs, condition, generator=seeded())
    assert three.shares.tolist() == pytest.approx([0.5, 0.3, 0.2])
    train_generator(three, lambda n: (graphs[: min(n, 10)], condition[: min(n, 10)]), steps=2, batch_size=10)
    assert three.shares.tolist() == pytest.approx([0.5, 0.3, 0.2])
    assert "shares" in three.state_dict()


def test_a_band_without_training_graphs_starts_from_all(exact: Any, three: Named, seeded: Any) -> None:
    graphs = FreeVariables(exact.nodes, exact.edges).graph(torch.tensor(exact.states))
    three.start_from(graphs, torch.zeros(24, 2), generator=seeded())
    assert three.shares.tolist() == [0.0, 1.0, 0.0]
    assert all(bool(table.isfinite().all()) for table in three.tables)


@pytest.mark.parametrize(
    "arguments",
    [
        {"conditions": 1, "cuts": (1.0, -1.0)},
        {"conditions": 1, "cuts": (1.0, 1.0)},
        {"cuts": (0.0,)},
        {"conditions": 1, "band": 1, "cuts": (0.0,)},
        {"conditions": 1, "band": -1, "cuts": (0.0,)},
    ],
)
def test_cuts_that_cut_nothing_are_refused(exact: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected ascending cuts of one of"):
        make(exact, **arguments)


# -- guidance, the projector, arguments -------------------------------------------------------------------------


def test_candidates_and_particles_give_the_tilted_distribution(exact: Any, seeded: Any) -> None:
    student = make(exact)
    rewards = np.random.default_rng(0).normal(0.0, 0.6, 24)
    p = log_probs(student, exact, None).exp().double().numpy()
    table = dict(zip(exact.states, rewards / 2, strict=True))

    def rows(batch: GraphBatch) -> Any:
        return [tuple(row) for row in student.variables.states(batch).tolist()]

    particles = ParticleGuidance(rows, lambda archs: np.array([table[a] for a in archs]), particles=16)  # type: ignore[index]
    guidance = [exact.Table(student, rewards / 2, candidates=16), particles]
    batch = student.sample(2_000, guidance=guidance, generator=seeded())
    assert len(batch) == 2_000
    expected = p * np.exp(rewards)
    common = expected / expected.sum() * 2_000 >= 5
    exact.assert_distributed(exact.counts(student, batch)[common], expected[common])


def test_conditions_stay_with_their_graphs_among_candidates_and_particles(three: Named, seeded: Any) -> None:
    class Any2(Guidance):
        candidates = 3

        def population(self, n: int) -> int:
            return 2 * n

        def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> Tensor:
            assert t == 0.0
            return torch.arange(0, len(clean), 2) + 1

    condition = torch.tensor([[0.0, -2.0], [0.0, 0.0], [0.0, 2.0]]).repeat(5, 1)
    batch = three.sample(15, condition=condition, guidance=[Any2()], generator=seeded())
    assert batch.labels[:, 1].tolist() == [0, 1, 2] * 5


def test_two_members_that_resample_are_refused(space: SearchSpace, seeded: Any) -> None:
    student = OneStep(space.node_domain, space.edge_domain, components=4)
    pair = [ParticleGuidance(space.decode, lambda archs: np.zeros(len(archs))) for _ in range(2)]
    with pytest.raises(ValueError, match="only one member of the guidance may resample"):
        student.sample(4, guidance=pair, generator=seeded())


def test_the_projector_sees_every_candidate_and_the_probabilities_it_was_drawn_from(exact: Any, seeded: Any) -> None:
    student, seen = make(exact), []

    def all_edges(drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        seen.append(probabilities)
        return GraphBatch(drawn.ops, torch.ones_like(drawn.edges).triu(1), drawn.node_mask)

    guidance = [exact.Table(student, np.zeros(24), candidates=4)]
    batch = student.sample(50, guidance=guidance, projector=all_edges, generator=seeded())
    assert len(batch) == 50
    assert batch.edges.sum() == 150
    (probabilities,) = seen
    assert len(probabilities) == 200
    torch.testing.assert_close(probabilities.ops.sum(-1), torch.ones(200, 3))
    sharp = student._log_tables(0).exp().detach()[:, 2:, 1]
    pairs = torch.stack([probabilities.edges[:, 0, 1], probabilities.edges[:, 1, 2]], 1)
    assert bool((pairs[:, None] == sharp).all(-1).any(1).all())  # each is that of one component


def test_steps_do_not_matter_and_there_is_no_start_but_noise(exact: Any, seeded: Any) -> None:
    student = make(exact)
    one, many = (student.sample(50, steps=k, generator=seeded()) for k in (1, 40))
    assert torch.equal(one.ops, many.ops)
    graphs = student.variables.graph(torch.tensor(exact.states[:2]))
    with pytest.raises(ValueError, match="vary graphs with its teacher"):
        student.sample(2, start=Start(graphs, 0.5), generator=seeded())


@pytest.mark.parametrize(("conditions", "width"), list(itertools.product([0, 2], [1, 3])))
def test_a_condition_of_another_width_is_refused(exact: Any, seeded: Any, conditions: int, width: int) -> None:
    student = make(exact, conditions=conditions)
    graphs = student.variables.graph(torch.tensor(exact.states[:2]))
    for call in (
        lambda: student.sample(2, condition=torch.zeros(2, width), generator=seeded()),
        lambda: student.loss(graphs, torch.zeros(2, width), generator=seeded()),
    ):
        with pytest.raises(ValueError, match=rf"expected a condition of shape \(2, {conditions}\), got \(2, {width}\)"):
            call()
