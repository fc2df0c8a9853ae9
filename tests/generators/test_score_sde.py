"""The score-based generator with exact denoisers in place of the network: sampling is tested without training."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from archgen.errors import UnknownName
from archgen.generators import Guidance, ImportanceGuidance, NoisedGuidance, ParticleGuidance, ScoreSDE, train_generator
from archgen.generators.base import Start
from archgen.generators.score_sde import FLOOR
from archgen.generators.solvers import SOLVERS
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import SearchSpace

FAILS = 1e-6
"""Probability with which a chi-square test here fails although the code is right; seeds are fixed besides."""

# Nodes of 2, 3 and 1 labels; edges (0, 1) free, (0, 2) there, (1, 2) free: 24 graphs.
NODES = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
EDGES = torch.tensor([[[1, 0], [1, 1], [0, 1]], [[1, 0], [1, 0], [1, 1]], [[1, 0], [1, 0], [1, 0]]]).bool()
STATES = list(itertools.product([0, 1], [0, 1, 2], [0, 1], [0, 1]))
KNOWN = [STATES[i] for i in (0, 7, 10, 17, 23)]
WEIGHTS = torch.tensor([0.35, 0.25, 0.2, 0.15, 0.05])


def graph_of(states: list[tuple[int, int, int, int]]) -> GraphBatch:
    one_hot = torch.nn.functional.one_hot(torch.tensor([[a, b, 2] for a, b, *_ in states]), 3).float()
    edges = torch.zeros(len(states), 3, 3)
    edges[:, 0, 1], edges[:, 1, 2] = torch.tensor([s[2:] for s in states]).float().T
    edges[:, 0, 2] = 1.0
    return GraphBatch(one_hot, edges, torch.ones(len(states), 3, dtype=torch.bool))


def counts_of(batch: GraphBatch, states: list[tuple[int, int, int, int]] = STATES) -> np.ndarray:
    """How often each state was drawn; the fixed parts must be as they are, and all values 0 or 1."""
    assert bool(((batch.ops == 0) | (batch.ops == 1)).all())
    assert bool(
        (batch.ops.sum(-1) == 1).all() and (batch.ops[:, 2, 2] == 1).all() and (batch.edges[:, 0, 2] == 1).all()
    )
    assert float(batch.edges.tril().abs().sum()) == 0.0
    index = {state: i for i, state in enumerate(states)}
    rows = torch.cat([batch.labels[:, :2], batch.edges[:, 0, 1:2], batch.edges[:, 1, 2:3]], 1).int().tolist()
    return np.bincount([index.get(tuple(row), len(states)) for row in rows], minlength=len(states))


def assert_distributed(counts: np.ndarray, expected: np.ndarray) -> None:
    """Pearson's chi-square test at `FAILS`; every expected count must be at least 5 for it to be valid."""
    assert len(counts) == len(expected), "a graph was drawn that has no weight"
    expected = expected / expected.sum() * counts.sum()
    assert expected.min() >= 5
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(FAILS, len(counts) - 1)


def tiny(**arguments: object) -> ScoreSDE:
    return ScoreSDE(NODES, EDGES, **{"width": 8, "layers": 1, "heads": 2, "head": 8, **arguments})  # type: ignore[arg-type]


class Exact(ScoreSDE):
    """Knows the posterior mean of `KNOWN` under `WEIGHTS`; a condition shifts the log-weights of two graphs."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(NODES, EDGES, **{"width": 8, "layers": 1, "heads": 2, "head": 8, **arguments})  # type: ignore[arg-type]
        self.evaluations = 0

    def denoised(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        self.evaluations += 1
        points = 2 * self._values(graph_of(KNOWN)) - 1
        log_weights = WEIGHTS.log().expand(len(x), -1)
        if condition is not None:
            log_weights = log_weights + condition.nan_to_num() * torch.tensor([0.0, 0.0, 0.0, 0.7, 1.4])
        distance = (x[:, None] - points).square().sum(-1)
        p: Tensor = (log_weights - distance / (2 * self.sigma(t) ** 2)).softmax(-1)
        return p @ points


class Uniform(ScoreSDE):
    """Untrained: knows the uniform distribution exactly, because the network starts from nothing."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(NODES, EDGES, **{"width": 8, "layers": 1, "heads": 2, "head": 8, **arguments})  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomise(sde: ScoreSDE, scale: float = 0.3) -> ScoreSDE:
    with torch.no_grad():
        for parameter in sde.parameters():
            parameter.normal_(0.0, scale, generator=seeded())
    return sde.eval()


# -- the forward process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_noise_has_the_closed_form_of_the_variance_exploding_sde(t: float) -> None:
    """Mean the clean value, standard deviation `sigma(t) / 2` in one-hot units; five standard errors, 30,000 draws."""
    clean = graph_of(STATES)
    n = 30_000
    clean = clean[torch.arange(n) % len(STATES)]
    noised = tiny().noise(clean, torch.full((n,), t), generator=seeded())
    sigma = 0.1 * 50**t / 2
    free = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    for difference, where in (
        (noised.ops - clean.ops, free),
        (noised.edges - clean.edges, torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()),
    ):
        assert float(difference[:, ~where].abs().max()) == 0.0
        assert float(difference[:, where].mean(0).abs().max()) < 5 * sigma / n**0.5
        assert float((difference[:, where].std(0) / sigma - 1).abs().max()) < 5 / (2 * n) ** 0.5


def test_times_and_noise_levels_convert_both_ways() -> None:
    sde = tiny()
    for t in (0.0, 0.25, 1.0):
        assert sde.time(float(sde.sigma(torch.tensor([t], dtype=torch.double)))) == pytest.approx(t, abs=1e-9)


# -- the network ------------------------------------------------------------------------------------------------


def test_the_preset_has_the_size_of_the_original(space: SearchSpace) -> None:
    """`0.512 + 33.1 + 12 * 33.6 + 3,552.8` thousand, from its code: embedding, time, layers, and the joint read-out."""
    preset = ScoreSDE(space.node_domain, space.edge_domain, **ScoreSDE.PRESETS["diffusionnag"])
    assert sum(p.numel() for p in preset.parameters()) == 3_989_575
    default = ScoreSDE(space.node_domain, space.edge_domain)
    assert sum(p.numel() for p in default.parameters()) * 4 < 8e6


@given(t=st.floats(0.0, 1.0), seed=st.integers(0, 100))
def test_an_untrained_network_gives_the_posterior_mean_of_the_uniform_distribution(t: float, seed: int) -> None:
    sde = Uniform()
    x = 3 * torch.randn(4, 7, generator=seeded(seed))
    times = torch.full((4,), t)
    points = 2 * sde._values(graph_of(STATES)) - 1
    distance = (x[:, None] - points).double().square().sum(-1)
    p = (-distance / (2 * sde.sigma(times).double() ** 2)).softmax(-1)
    torch.testing.assert_close(sde.denoised(x, times).detach(), (p @ points.double()).float(), atol=2e-4, rtol=0)


def test_the_score_form_starts_from_a_score_of_zero_whose_loss_is_one() -> None:
    """`E ||z||^2` an entry; the mean over 4,000 graphs of 7 entries is off by five standard errors in 1e-6 of cases."""
    loss = tiny(form="score").loss(graph_of(STATES)[torch.arange(4_000) % 24], generator=seeded())
    assert loss.item() == pytest.approx(1.0, abs=5 * (2 / 28_000) ** 0.5)


def test_the_loss_of_the_exact_denoiser_is_least() -> None:
    data = graph_of(KNOWN)[torch.multinomial(WEIGHTS, 4_000, replacement=True, generator=seeded())]
    exact, uniform = (sde.loss(data, generator=seeded(1)).item() for sde in (Exact(), Uniform()))
    assert 0 < exact < 0.8 * uniform


@pytest.mark.parametrize("form", ["posterior", "score"])
def test_every_parameter_learns(form: str) -> None:
    sde = randomise(tiny(form=form, conditions=2))
    sde.loss(graph_of(STATES), torch.randn(24, 2, generator=seeded()), generator=seeded()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in sde.parameters())
    assert all(bool(p.grad.any()) for name, p in sde.named_parameters() if p.grad is not None and "bias" not in name)


def test_training_on_dependent_labels_teaches_them(space: SearchSpace) -> None:
    """Three pairs of equal labels: 1 in 125 of the uniform distribution, most samples after a short training."""
    archs = [a for a in space.sample(30_000, np.random.default_rng(0)) if a.ops[1:4] == a.ops[4:7]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sde = ScoreSDE(space.node_domain, space.edge_domain, layers=2, head=64)
    train_generator(sde, space.encode(archs), steps=250, batch_size=64, lr=3e-3)
    drawn = [arch for arch in space.decode(sde.sample(200, steps=20, generator=seeded())) if arch is not None]
    assert len(drawn) == 200
    assert sum(a.ops[1:4] == a.ops[4:7] for a in drawn) > 100
    assert len({a.ops for a in drawn}) > 50


# -- sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "steps", "n"), [("heun", 25, 8_000), ("dpmpp", 25, 8_000), ("dpmpp_sde", 100, 8_000), ("pc", 300, 3_000)]
)
def test_an_exact_denoiser_gives_the_graphs_with_their_weights(solver: str, steps: int, n: int) -> None:
    """From level 50, where the start that the sampler assumes and the noised data are the same for the test."""
    sde = Exact(solver=solver, sigma_max=50.0)
    assert_distributed(counts_of(sde.sample(n, steps=steps, generator=seeded()), KNOWN), WEIGHTS.numpy())


def test_at_the_original_noise_level_the_weights_are_nearly_kept() -> None:
    """Level 5 has not forgotten the mean of the data: total variation below 5 % (2.5 % is the error of 8,000 draws)."""
    counts = counts_of(Exact().sample(8_000, steps=20, generator=seeded()), KNOWN)
    assert np.abs(counts / counts.sum() - WEIGHTS.numpy()).sum() / 2 < 0.05


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_an_untrained_generator_draws_uniformly_with_any_number_of_steps(solver: str, steps: int) -> None:
    """Variables are independent and labels exchangeable, so no discretisation can prefer one; edges symmetric too."""
    counts = counts_of(Uniform(solver=solver).sample(4_000, steps=steps, generator=seeded()))
    assert_distributed(counts, np.ones(24))


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("form", ["posterior", "score"])
def test_the_seed_decides_and_every_graph_is_valid(space: SearchSpace, solver: str, form: str) -> None:
    """With random weights the denoised values are anywhere; the labels are still allowed ones."""
    sde = ScoreSDE(space.node_domain, space.edge_domain, width=16, layers=2, head=16, form=form, solver=solver)
    randomise(sde, 0.05)
    one, again, other = (sde.sample(16, steps=4, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.ops, again.ops)
    assert not torch.equal(one.ops, other.ops)
    assert None not in space.decode(one)
    assert torch.equal(one.edges[0], space.edge_domain[..., 1].float())


def test_solvers_can_be_changed_after_training() -> None:
    sde = Exact()
    sde.sample(2, steps=5, generator=seeded())
    sde.sample(2, generator=seeded())
    sde.solver = "pc"
    sde.sample(2, steps=5, generator=seeded())
    assert sde.evaluations == 5 + 20 + 10
    assert sde.default_steps == 1000


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_setting_out_from_graphs_keeps_them_at_small_times_and_forgets_them_at_one(solver: str) -> None:
    sde = Exact(solver=solver)
    given = graph_of(KNOWN)[torch.arange(500) % 5]

    def kept(t: float) -> float:
        drawn = sde.sample(500, start=Start(given, t), steps=12, generator=seeded())
        same = (drawn.ops == given.ops).flatten(1).all(1) & (drawn.edges == given.edges).flatten(1).all(1)
        return float(same.float().mean())

    shares = [kept(t) for t in (1e-20, 0.1, 0.6, 1.0)]
    assert shares[0] == shares[1] == 1.0
    assert 0.3 < shares[2] < 1.0
    # five standard errors about the chance that two independent draws are the same, plus what level 5 leaves
    assert abs(shares[3] - 0.2) < 5 * 0.02 + 0.1


# -- conditions -------------------------------------------------------------------------------------------------


def test_the_weight_mixes_scores() -> None:
    """0 is the unconditional denoiser, 1 the conditional one, and it is linear in between and beyond."""
    from archgen.generators.score_sde import _Run

    sde = randomise(tiny(conditions=2))
    x, condition = torch.randn(5, 7, generator=seeded()), torch.randn(5, 2, generator=seeded(1))
    t = torch.full((5,), sde.time(1.3))

    def mixed(weight: float) -> Tensor:
        return _Run(sde, condition, weight, (), None, seeded()).denoise(x, 1.3)

    with torch.no_grad():
        free, conditional = sde.denoised(x, t), sde.denoised(x, t, condition)
        torch.testing.assert_close(free, sde.denoised(x, t, torch.full((5, 2), torch.nan)))
        assert not torch.allclose(free, conditional, atol=1e-3)
        torch.testing.assert_close(mixed(0.0), free)
        torch.testing.assert_close(mixed(1.0), conditional)
        torch.testing.assert_close(mixed(2.5), free + 2.5 * (conditional - free))


def test_samples_follow_the_condition_and_its_weight() -> None:
    sde = Exact(sigma_max=50.0, conditions=1)
    shift = np.array([0.0, 0.0, 0.0, 0.7, 1.4])
    condition = torch.full((8_000, 1), 1.5)
    for weight, factor in ((1.0, 1.5), (0.0, 0.0)):
        drawn = sde.sample(8_000, condition=condition, weight=weight, steps=25, generator=seeded())
        assert_distributed(counts_of(drawn, KNOWN), WEIGHTS.numpy() * np.exp(factor * shift))


def test_each_graph_has_its_own_condition() -> None:
    sde = Exact(sigma_max=50.0, conditions=1)
    condition = torch.tensor([[-20.0], [20.0]]).repeat_interleave(100, 0)
    drawn = sde.sample(200, condition=condition, steps=25, generator=seeded())
    low, high = counts_of(drawn[:100], KNOWN), counts_of(drawn[100:], KNOWN)
    assert low[3:].sum() == 0
    assert high[4] == 100


def test_the_loss_tells_the_network_the_condition_as_it_is_given() -> None:
    """What is left open is for the training data to say."""
    seen = []

    class Spy(ScoreSDE):
        def denoised(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            seen.append(condition)
            return super().denoised(x, t, condition)

    sde = Spy(NODES, EDGES, width=8, layers=1, heads=2, head=8, conditions=2)
    condition = torch.rand(24, 2, generator=seeded(1))
    condition = condition.masked_fill(torch.rand(24, 2, generator=seeded(2)) < 0.3, torch.nan)
    sde.loss(graph_of(STATES), condition, generator=seeded())
    torch.testing.assert_close(seen[0], condition, rtol=0, atol=0, equal_nan=True)


# -- guidance ---------------------------------------------------------------------------------------------------

PULL = torch.tensor([[0.8, 0.0, 0.0], [0.5, -0.3, 1.0], [0.0, 0.0, 0.0]])
"""Log-weight of each label, and one for each edge, of a product of tilts."""
EDGE_PULL = 0.9
TILT = np.array([float(PULL[0, a] + PULL[1, b]) + EDGE_PULL * (c + d) for a, b, c, d in STATES])


def log_expected_weight(graph: GraphBatch, t: Tensor) -> Tensor:
    """`log E[exp(tilt(x_0)) | x_t]` in closed form: uniform variables are independent, so it is a sum over them."""
    sigma = (0.1 * 50**t) / 2  # in one-hot units
    labels = (graph.ops / sigma[:, None, None] ** 2).masked_fill(~NODES, -torch.inf)
    edges = torch.stack([graph.edges[:, 0, 1], graph.edges[:, 1, 2]], 1)
    present = (2 * edges - 1) / (2 * sigma[:, None] ** 2)  # log-odds of present against absent
    by_labels = (labels.log_softmax(-1) + PULL).logsumexp(-1).sum(-1)
    by_edges = torch.logaddexp(
        torch.nn.functional.logsigmoid(present) + EDGE_PULL, torch.nn.functional.logsigmoid(-present)
    ).sum(-1)
    return by_labels + by_edges


@pytest.mark.parametrize("solver", ["dpmpp", "pc"])
def test_exact_gradients_give_the_tilted_distribution(solver: str) -> None:
    """Total variation below 6 % with 4,000 draws over 24 graphs, whose own error is 3 %; untilted it is 30 %."""
    guidance = [NoisedGuidance(log_expected_weight, NODES, EDGES)]
    steps = {"dpmpp": 40, "pc": 60}[solver]
    counts = counts_of(Uniform(solver=solver).sample(4_000, guidance=guidance, steps=steps, generator=seeded()))
    expected = np.exp(TILT) / np.exp(TILT).sum()
    assert np.abs(counts / 4_000 - expected).sum() / 2 < 0.06
    assert np.abs(counts / 4_000 - 1 / 24).sum() / 2 > 0.2


def number(arch: Architecture) -> float:
    return float(arch.ops.count("nor_conv_3x3"))


def rewards(archs: object) -> np.ndarray:
    return np.array([2.0 * number(a) for a in archs])  # type: ignore[attr-defined]


@pytest.mark.parametrize("solver", ["dpmpp", "pc"])
def test_black_boxes_raise_what_they_reward(space: SearchSpace, solver: str) -> None:
    """Expected number of one of five operations in six places: 1.2 untilted, 3.9 tilted by `exp(2 number)`."""
    sde = ScoreSDE(space.node_domain, space.edge_domain, width=16, layers=1, head=16, solver=solver)
    drawn = {}
    for name, guidance in {
        "none": [],
        "importance": [ImportanceGuidance(space.decode, rewards, candidates=8)],
        "particles": [ParticleGuidance(space.decode, rewards, particles=8)],
    }.items():
        batch = sde.sample(64, guidance=guidance, projector=space.project, steps=12, generator=seeded())
        archs = space.decode(batch)
        assert len(archs) == 64
        drawn[name] = float(np.mean([number(a) for a in archs if a is not None]))
        # particles are copies of each other only if nothing tells them apart afterwards
        assert len(set(archs)) > 20
    assert drawn["importance"] > drawn["none"] + 0.8
    assert drawn["particles"] > drawn["none"] + 0.8


def test_whole_samples_are_chosen_in_proportion_to_their_weight() -> None:
    class Table(Guidance):
        candidates = 64

        def log_tilt(self, clean: GraphBatch) -> Tensor:
            rows = torch.cat([clean.labels[:, :2], clean.edges[:, 0, 1:2], clean.edges[:, 1, 2:3]], 1).int().tolist()
            return torch.tensor([TILT[STATES.index(tuple(row))] if row[0] else -np.inf for row in rows])

    counts = counts_of(Uniform().sample(1_000, guidance=[Table()], steps=2, generator=seeded()))
    expected = np.exp(TILT) * np.array([a for a, *_ in STATES])
    assert counts[expected == 0].sum() == 0
    assert_distributed(counts[expected > 0], expected[expected > 0])


def test_when_everything_is_forbidden_graphs_are_drawn_as_without_guidance() -> None:
    class Never(Guidance):
        candidates = 4

        def log_tilt(self, clean: GraphBatch) -> Tensor:
            return torch.full((len(clean),), -torch.inf)

    assert_distributed(counts_of(Uniform().sample(2_000, guidance=[Never()], steps=2, generator=seeded())), np.ones(24))


def test_particles_keep_their_condition() -> None:
    """Each particle goes on from another one, whose condition must go with it: both halves keep their graphs."""

    class Swap(Guidance):
        def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> Tensor | None:
            return None if t == 0.0 else torch.arange(len(clean)).flip(0)

    condition = torch.tensor([[-20.0], [20.0]]).repeat_interleave(50, 0)
    sde = Exact(sigma_max=50.0, conditions=1)
    drawn = sde.sample(100, condition=condition, guidance=[Swap()], steps=26, generator=seeded())
    counts = counts_of(drawn, KNOWN)
    assert counts[4] == 50
    assert counts[3] == 0


def test_two_members_that_resample_are_refused(space: SearchSpace) -> None:
    sde = ScoreSDE(space.node_domain, space.edge_domain, width=8, layers=1, heads=2, head=8)
    guidance = [ParticleGuidance(space.decode, rewards, particles=2) for _ in range(2)]
    with pytest.raises(ValueError, match="only one member of the guidance may resample"):
        sde.sample(4, guidance=guidance, steps=3, generator=seeded())


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_members_that_abstain_cost_no_evaluation_and_change_nothing(solver: str) -> None:
    plain, guided = Exact(solver=solver), Exact(solver=solver)
    one = plain.sample(8, steps=6, generator=seeded())
    other = guided.sample(8, guidance=[Guidance()], steps=6, generator=seeded())
    assert torch.equal(one.ops, other.ops)
    assert plain.evaluations == guided.evaluations == {"heun": 11, "pc": 12}.get(solver, 6)


# -- the projector ----------------------------------------------------------------------------------------------


def test_the_projector_sees_the_last_graphs_and_normalised_probabilities() -> None:
    calls = []

    def project(drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        calls.append((drawn, probabilities))
        return drawn[torch.zeros(len(drawn), dtype=torch.long)]

    sde = randomise(tiny(form="score"), 0.5)
    batch = sde.sample(32, projector=project, steps=4, generator=seeded())
    [(drawn, p)] = calls
    counts_of(drawn)
    torch.testing.assert_close(p.ops.sum(-1), torch.ones(32, 3))
    assert float(p.ops[:, ~NODES].abs().max()) == 0.0
    assert float(p.ops[:, NODES].min()) > FLOOR / 3
    assert float(p.edges.min()) == 0.0
    assert float(p.edges[:, 0, 1].min()) == pytest.approx(FLOOR)
    assert bool((p.edges[:, 0, 2] == 1).all())
    assert torch.equal(batch.ops, drawn.ops[:1].expand(32, -1, -1))


def test_particles_are_weighed_after_the_projector() -> None:
    class Watch(Guidance):
        seen: list[bool] = []  # noqa: RUF012

        def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> None:
            self.seen.append(bool((clean.labels[:, 0] == 1).all()))

    def project(drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        ops = drawn.ops.clone()
        ops[:, 0] = torch.tensor([0.0, 1.0, 0.0])
        return GraphBatch(ops, drawn.edges, drawn.node_mask)

    Uniform().sample(8, guidance=[Watch()], projector=project, steps=5, generator=seeded())
    assert Watch.seen == [True] * 5  # after all steps but the last, and at the end


# -- bad arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "dpmp"}, UnknownName, "did you mean 'dpmpp'"),
        ({"form": "noise"}, UnknownName, "form of the score network"),
        ({"sigma_min": 6.0}, ValueError, "0 < sigma_min < sigma_max"),
        ({"heads": 3}, ValueError, "heads divides"),
    ],
)
def test_bad_constructor_arguments_are_refused(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny(**arguments)


def test_a_solver_that_does_not_exist_is_refused_after_training_too() -> None:
    sde = Uniform()
    sde.solver = "euler"
    with pytest.raises(UnknownName, match="solver 'euler'"):
        sde.sample(1, steps=1, generator=seeded())


@pytest.mark.parametrize("bad", [{"n": 0}, {"steps": 0}, {"condition": torch.zeros(2, 3)}])
def test_bad_sampling_arguments_are_refused(bad: dict[str, object]) -> None:
    arguments = {"n": 2, "steps": 2, **bad}
    with pytest.raises(ValueError, match="expected"):
        tiny(conditions=1).sample(**arguments, generator=seeded())  # type: ignore[arg-type]


def test_the_loss_refuses_a_condition_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"shape \(24, 1\), got \(24, 2\)"):
        tiny(conditions=1).loss(graph_of(STATES), torch.zeros(24, 2), generator=seeded())
