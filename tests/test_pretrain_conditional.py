"""Training with properties: pools, conditional generators, their one-step students, adaptation to examples."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from archgen import spaces
from archgen.conditions import Conditions
from archgen.errors import ArchgenError, UnknownMetric
from archgen.generators import DiscreteFlow, OneStep, load_generator
from archgen.graph import Architecture, GraphBatch
from archgen.objectives import maximize
from archgen.predictors.base import Prediction
from archgen.pretrain import Pool, adapt, distil, make_pool, pretrain_generator, training_sample
from archgen.sampler import GuidedSampler
from archgen.spaces import SearchSpace

TINY = {"width": 16, "layers": 1, "heads": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the 5,000 samples of the figures, which take most of the time."""
    figures = {"valid_raw": 100.0, "valid": 100.0, "unique": 0.0}
    monkeypatch.setattr("archgen.pretrain._sample_figures", lambda space, generator: figures)


@pytest.fixture(scope="module")
def pool(space: SearchSpace, additive: dict[str, Any]) -> Pool:
    return make_pool(space, additive, size=2_000, seed=0)


# -- pools --------------------------------------------------------------------------------------------------------


def test_a_pool_holds_graphs_with_the_normal_scores_of_what_is_predicted(
    space: SearchSpace, pool: Pool, additive: dict[str, Any]
) -> None:
    assert len(pool) == 2_000
    assert pool.properties.metrics == ("latency_ms", "energy_mj")
    archs = space.decode(pool.graphs)
    assert None not in archs
    assert len(set(archs)) == 2_000  # of a space that can be listed none is drawn twice
    for column, (metric, predictor) in enumerate(additive.items()):
        values = predictor.predict([arch for arch in archs if arch is not None]).mean
        expected = pool.properties.normalise(metric, values)
        assert pool.scores[:, column].numpy() == pytest.approx(expected, abs=1e-5)
    assert pool.scores.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.02)
    assert pool.scores.std(0).tolist() == pytest.approx([1.0, 1.0], abs=0.02)


def test_small_spaces_are_listed_and_large_ones_sampled(space: SearchSpace) -> None:
    every = training_sample(space, size=20_000)
    assert every == space.enumerate()
    some = training_sample(space, size=500, seed=1)
    assert len(set(some)) == 500
    assert some == training_sample(space, size=500, seed=1) != training_sample(space, size=500, seed=2)
    large = spaces.load("fbnet")
    drawn = training_sample(large, size=50)
    assert len(drawn) == 50
    for arch in drawn:
        large.validate(arch)


def test_draws_keep_graphs_and_scores_together(space: SearchSpace, pool: Pool, additive: dict[str, Any]) -> None:
    graphs, scores = pool.draw(100, torch.Generator().manual_seed(0))
    archs: Any = space.decode(graphs)
    expected = pool.properties.normalise("energy_mj", additive["energy_mj"].predict(archs).mean)
    assert scores[:, 1].numpy() == pytest.approx(expected, abs=1e-5)


def test_conditions_are_parts_of_real_vectors_single_wishes_and_none(pool: Pool) -> None:
    """Shares 0.4, 0.5 and 0.1; with 20,000 draws off by 0.02 with probability below 1e-8."""
    n = 20_000
    condition = pool.conditions(n, torch.Generator().manual_seed(0))
    assert condition.shape == (n, 2)
    given = (~condition.isnan()).sum(1)
    # a part of a vector leaves both, one or none of two; single wishes one
    shares = [float((given == k).float().mean()) for k in (0, 1, 2)]
    assert shares == pytest.approx([0.1 + 0.4 / 4, 0.5 + 0.4 / 2, 0.4 / 4], abs=0.02)
    values = condition[~condition.isnan()]
    assert float(values.abs().max()) <= 4.0
    assert float((values.abs() > 3.2).float().mean()) > 0.05  # wishes go beyond what the space has


# -- what is told of training graphs -------------------------------------------------------------------------------


def numbered(scores: torch.Tensor) -> Pool:
    """A pool whose `i`-th graph has the label `i`."""
    b, c = scores.shape
    graphs = GraphBatch(torch.eye(b)[:, None], torch.zeros(b, 1, 1), torch.ones(b, 1, dtype=torch.bool))
    return Pool(graphs, scores, Conditions.fit({str(i): scores[:, i].numpy().astype(float) for i in range(c)}))


def normal_pool(b: int, c: int = 3) -> Pool:
    """Independent properties whose scores are the normal quantiles of the ranks, each in another order."""
    ranks = torch.stack([torch.randperm(b, generator=torch.Generator().manual_seed(i)) for i in range(c)], 1)
    return numbered(torch.special.ndtri((ranks + 0.5) / b))


def chances(c: int) -> dict[tuple[bool, ...], tuple[float, list[float]]]:
    """Of each set of told properties: that a graph drawn evenly has it, and one drawn by each property in it."""
    sets = {}
    for told in itertools.product([False, True], repeat=c):
        k = sum(told)
        even = 0.5 * (k == 0) + 0.5 * 0.5**c
        others = [0.5 * (k == 1) + 0.5 * 0.25 ** (k - 1) * 0.75 ** (c - k) if told[j] else 0.0 for j in range(c)]
        sets[told] = even / 3, [2 / 3 / c * p for p in others]
    return sets


def assert_shares(counts: Any, expected: Any) -> None:
    """Pearson's chi-square test; it fails by chance once in a million times."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    expected = expected / expected.sum() * counts.sum()
    assert expected.min() >= 5
    assert ((counts - expected) ** 2 / expected).sum() < stats.chi2.isf(1e-6, len(counts) - 1)


@pytest.mark.parametrize("c", [1, 2, 3])
def test_each_set_of_properties_is_told_with_its_chance(c: int) -> None:
    _, condition = normal_pool(500, c).draw_conditioned(20_000, torch.Generator().manual_seed(0))
    told = [tuple(row) for row in (~condition.isnan()).tolist()]
    sets = chances(c)
    assert sum(even + sum(by) for even, by in sets.values()) == pytest.approx(1.0)
    assert_shares([told.count(some) for some in sets], [even + sum(by) for even, by in sets.values()])


def test_what_is_told_of_a_graph_is_its_own(space: SearchSpace, pool: Pool, additive: dict[str, Any]) -> None:
    graphs, condition = pool.draw_conditioned(1_000, torch.Generator().manual_seed(0))
    archs: Any = space.decode(graphs)
    for column, (metric, predictor) in enumerate(additive.items()):
        told = ~condition[:, column].isnan().numpy()
        assert 0.3 < told.mean() < 0.6
        expected = pool.properties.normalise(metric, predictor.predict(archs).mean)
        assert condition[told, column].numpy() == pytest.approx(expected[told], abs=1e-5)


def test_graphs_of_which_nothing_is_told_are_spread_evenly_over_the_pool() -> None:
    """So what a graph was drawn by is always told: any other draw would favour the ends."""
    pool = normal_pool(100)
    graphs, condition = pool.draw_conditioned(40_000, torch.Generator().manual_seed(0))
    untold = condition.isnan().all(1)
    counts = torch.bincount(graphs.labels[untold, 0], minlength=100)
    assert_shares(counts, np.ones(100))


@pytest.mark.parametrize("column", [0, 1, 2])
def test_two_thirds_cover_the_range_of_the_score_that_is_told_evenly(column: int) -> None:
    """Where one property is told alone, against the mixture with those drawn evenly from the pool; the next graph
    above a place stands for it, which moves 1 in 1,500 from one of six parts to the next."""
    pool = normal_pool(5_000)
    _, condition = pool.draw_conditioned(30_000, torch.Generator().manual_seed(column))
    told = ~condition.isnan()
    alone = told[:, column] & (told.sum(1) == 1)
    scores, all_ = condition[alone, column].numpy(), pool.scores[:, column].numpy()
    edges = np.linspace(all_.min() - 1e-6, all_.max() + 1e-6, 7)
    even, by = chances(3)[tuple(i == column for i in range(3))]
    of_pool = np.histogram(all_, edges)[0] / len(all_)
    assert of_pool[0] < 0.01  # where wishes lie there is hardly anything
    assert_shares(np.histogram(scores, edges)[0], even * of_pool + sum(by) / 6)


@pytest.mark.parametrize("told", [(False, False), (True, False)])
def test_what_is_not_told_is_distributed_as_in_the_pool(told: tuple[bool, bool]) -> None:
    """The second property is half the first and half noise, whose square is 1 on average; graphs drawn by the second
    have more of it, and are not among those where it stays untold. Five standard errors over the pool's graphs."""
    first, noise = torch.randn(2, 2_000, generator=torch.Generator().manual_seed(0))
    pool = numbered(torch.stack([first, (first + noise) / 2**0.5], 1))
    graphs, condition = pool.draw_conditioned(30_000, torch.Generator().manual_seed(1))
    square = noise[graphs.labels[:, 0]].square()

    def excess(chosen: torch.Tensor) -> float:
        """Mean square of the noise beyond 1, in standard errors."""
        times = torch.bincount(graphs.labels[chosen, 0], minlength=2_000).double()
        error = (2 * (times / times.sum()).square().sum()).sqrt()
        return float((square[chosen].mean() - 1) / error)

    assert abs(excess(((~condition.isnan()) == torch.tensor(told)).all(1))) < 5
    assert excess(~condition[:, 1].isnan()) > 5


def test_graphs_of_one_score_are_drawn_alike() -> None:
    """Parameters have 28 values among the 15,625 cells of nasbench201: told one, any cell that has it may come."""
    level = torch.arange(100) % 5
    pool = numbered(torch.stack([level - 2.0, torch.randn(100, generator=torch.Generator().manual_seed(0))], 1))
    graphs, condition = pool.draw_conditioned(20_000, torch.Generator().manual_seed(0))
    alone = ~condition[:, 0].isnan() & condition[:, 1].isnan()
    counts = torch.bincount(graphs.labels[alone, 0], minlength=100)
    for value in range(1, 5):
        assert_shares(counts[level == value], np.ones(20))


def test_draws_repeat_with_their_seed_and_serve_any_number() -> None:
    pool = normal_pool(50)
    draws = [pool.draw_conditioned(64, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    torch.testing.assert_close(draws[0][1], draws[1][1], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(draws[0][0].ops, draws[1][0].ops)
    assert not torch.equal(draws[0][0].ops, draws[2][0].ops)
    assert pool.draw_conditioned(1, torch.Generator().manual_seed(0))[1].shape == (1, 3)


# -- conditional generators ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(space: SearchSpace, pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("checkpoints") / "generators" / "nasbench201-discrete_flow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archgen.pretrain._sample_figures", lambda *_: {"valid_raw": 9.0, "valid": 9.0, "unique": 9.0})
        figures = pretrain_generator(space, folder, pool=pool, steps=150, batch_size=256, seed=1, **TINY)
    return folder, figures


def test_with_a_pool_the_generator_takes_conditions_and_brings_its_scales_and_noised_predictor(
    space: SearchSpace, pool: Pool, teacher: tuple[Path, dict[str, float]]
) -> None:
    folder, figures = teacher
    flow = load_generator(folder)
    assert isinstance(flow, DiscreteFlow)
    assert flow.conditions == 2
    assert flow.properties is not None
    assert flow.properties.metrics == pool.properties.metrics
    assert flow.noised is not None
    assert flow.noised.metrics == pool.properties.metrics
    assert figures["parameters"] == sum(p.numel() for p in flow.parameters())
    card = (folder / "README.md").read_text()
    assert "takes a condition on `latency_ms`, `energy_mj`" in card
    assert "a uniform sample of 2,000 architectures of the space" in card
    assert json.loads((folder / "config.json").read_text())["config"]["space"] == "nasbench201"


def test_it_draws_what_it_is_asked_for(
    space: SearchSpace, additive: dict[str, Any], teacher: tuple[Path, dict[str, float]]
) -> None:
    """150 steps teach it which way a condition points, half way there; 0.3 is the standard error of a mean of 64."""
    sampler = GuidedSampler(space, load_generator(teacher[0]), additive)
    means = []
    for value in (9.0, 12.6, 16.0):
        samples = sampler.sample(64, condition={"energy_mj": value}, steps=4, weight=2.0, unique=False)
        means.append(samples.predicted["energy_mj"].mean())
    assert means[0] + 0.6 < means[1] < means[2] - 0.6
    for guidance in ("classifier_free", "importance"):
        samples = sampler.sample(48, [maximize("energy_mj")], guidance=guidance, steps=4, unique=False)
        assert samples.predicted["energy_mj"].mean() > 12.6 + 1.2


def test_the_same_seed_gives_the_same_conditional_generator(space: SearchSpace, pool: Pool, tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        state = torch.get_rng_state()
        pretrain_generator(space, tmp_path / name, pool=pool, steps=3, batch_size=16, seed=4, **TINY)
        assert torch.equal(state, torch.get_rng_state())
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_generator_and_noised_predictor_are_trained_on_what_each_needs(
    space: SearchSpace, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one on conditions with gaps, the other on all properties, for two thirds of the steps and four times the
    batch."""
    told, known = [], []
    draw, draw_conditioned = Pool.draw, Pool.draw_conditioned

    def conditioned(self: Pool, n: int, generator: torch.Generator) -> Any:
        told.append(n)
        return draw_conditioned(self, n, generator)

    def whole(self: Pool, n: int, generator: torch.Generator) -> Any:
        known.append(n)
        return draw(self, n, generator)

    monkeypatch.setattr(Pool, "draw_conditioned", conditioned)
    monkeypatch.setattr(Pool, "draw", whole)
    pretrain_generator(space, tmp_path / "g", pool=pool, steps=7, batch_size=16, **TINY)
    assert told == [16] * 7
    assert known == [64] * 4
    told.clear()
    known.clear()
    pretrain_generator(space, tmp_path / "g", pool=pool, steps=1, batch_size=16, **TINY)
    assert (told, known) == ([16], [64])


# -- students -----------------------------------------------------------------------------------------------------


def test_students_learn_from_the_conditional_teacher(
    space: SearchSpace, pool: Pool, additive: dict[str, Any], teacher: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    flow = load_generator(teacher[0])
    distil(
        space, flow, pool, tmp_path / "s", samples=4_000, teacher_steps=2, weight=2.0, band="energy_mj", cuts=(0.0,),
        steps=80, batch_size=256, seed=2, components=64, width=16,
    )  # fmt: skip
    student = load_generator(tmp_path / "s")
    assert isinstance(student, OneStep)
    assert (student.band, student.config["cuts"], student.conditions) == (1, [0.0], 2)
    assert student.properties is not None
    assert flow.noised is not None
    assert student.noised is not None  # the teacher's own, to choose among clean graphs by
    theirs, ours = flow.noised.state_dict(), student.noised.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    card = (tmp_path / "s" / "README.md").read_text()
    assert "4,000 samples of the conditional generator, drawn in 2 steps with weight 2" in card
    sampler = GuidedSampler(space, student, additive)
    means = []
    for value in (9.0, 16.0):
        samples = sampler.sample(64, condition={"energy_mj": value}, unique=False)
        means.append(samples.predicted["energy_mj"].mean())
    assert means[1] - means[0] > 0.8


def test_in_a_space_with_constraints_students_learn_from_mended_samples(tmp_path: Path) -> None:
    space = spaces.load("nasbench101")
    counts: dict[str, Any] = {"edges": Edges(space)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archgen.pretrain.LISTED", 1_000)  # sampled, not listed
        pool = make_pool(space, counts, size=300, seed=0)
    pretrain_generator(space, tmp_path / "t", pool=pool, steps=2, batch_size=16, **TINY)
    seen: list[Any] = []
    flow = load_generator(tmp_path / "t")
    original = flow.sample

    def spied(n: int, **options: Any) -> Any:
        seen.append((options["projector"], options["weight"]))
        return original(n, **options)

    flow.sample = spied  # type: ignore[method-assign]
    distil(space, flow, pool, tmp_path / "s", samples=60, teacher_steps=2, steps=2, batch_size=16, components=4)
    assert seen == [(space.project, 2.0)]


class Edges:
    """Number of edges."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def predict(self, archs: Sequence[Architecture]) -> Any:
        return Prediction(np.array([float(len(arch.edges)) for arch in archs]), np.zeros(len(archs)))


def test_a_teacher_without_conditions_or_a_band_of_another_metric_is_refused(
    space: SearchSpace, pool: Pool, teacher: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    plain = DiscreteFlow(space.node_domain, space.edge_domain, **TINY)  # type: ignore[arg-type]
    with pytest.raises(ArchgenError, match="the teacher of nasbench201 takes no condition; train one with properties"):
        distil(space, plain, pool, tmp_path / "s", samples=10)
    with pytest.raises(UnknownMetric, match="'energy': did you mean 'energy_mj'"):
        distil(space, load_generator(teacher[0]), pool, tmp_path / "s", samples=10, band="energy", teacher_steps=1)
    assert not (tmp_path / "s").exists()


# -- adaptation ---------------------------------------------------------------------------------------------------


def test_a_generator_is_adapted_to_ten_examples_without_collapse(
    space: SearchSpace, teacher: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """Ten cells of many 3x3 convolutions: samples have clearly more of them than the generator's own, and differ."""
    rng = np.random.default_rng(0)
    examples = [a for a in space.sample(2_000, rng) if a.ops.count("nor_conv_3x3") >= 3][:10]

    def drawn(generator: Any) -> list[Architecture]:
        batch = generator.sample(400, steps=4, generator=torch.Generator().manual_seed(0))
        return [arch for arch in space.decode(batch) if arch is not None]

    before = drawn(load_generator(teacher[0]))
    adapt(space, load_generator(teacher[0]), examples, tmp_path / "a", steps=60, seed=0)
    after = drawn(load_generator(tmp_path / "a"))
    counts = [np.mean([arch.ops.count("nor_conv_3x3") for arch in some]) for some in (before, after)]
    assert counts[1] > counts[0] + 0.7
    assert len(set(after)) > 0.85 * 400
    assert "10 examples, to which a trained one is adapted" in (tmp_path / "a" / "README.md").read_text()


def test_what_can_not_be_adapted_is_refused(space: SearchSpace, tmp_path: Path, rng: np.random.Generator) -> None:
    flow, examples = DiscreteFlow(space.node_domain, space.edge_domain, **TINY), space.sample(4, rng)  # type: ignore[arg-type]
    student = OneStep(space.node_domain, space.edge_domain, components=4)
    cases: list[tuple[Any, Any, int, str]] = [
        (student, examples, 5, "only a discrete_flow"),
        (flow, examples[:1], 5, "at least 2 examples and one step, got 1 and 5"),
        (flow, examples, 0, "got 4 and 0"),
    ]
    for generator, some, steps, message in cases:
        with pytest.raises(ArchgenError, match=message):
            adapt(space, generator, some, tmp_path / "a", steps=steps)
    assert not (tmp_path / "a").exists()
