"""The promises of `Generator`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from archgen.generators.base import GENERATORS, Generator, load_generator
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace
from archgen.testing.graphs import Discard, Recorded, Silent, check_inside, forbid_common, rows, same


def check_generator(generator: Generator, space: SearchSpace, *, folder: Path, n: int = 64, steps: int = 8) -> None:
    """Check every promise of `Generator`; it need not be trained, but must be one of `GENERATORS`.

    Conditions are checked on a generator with the same arguments and random weights. Where the space is not free,
    graphs must decode under its projector only.

    Args:
        generator: A generator with the domains of `space`; its weights stay as they are.
        space: The space.
        folder: An empty folder for checkpoints.
        n: Graphs to draw, at least 16.
        steps: Solver steps.
    """
    generator.eval()
    state = torch.get_rng_state()
    clean = space.encode(space.sample(n, np.random.default_rng(0)))
    projector = None if space.free else space.project

    def draw(using: Generator, seed: int, count: int = n, **options: object) -> GraphBatch:
        arguments = {"steps": steps, "projector": projector, **options}
        return using.sample(count, **arguments, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]

    _check_loss(generator, clean, None)
    _check_noise(generator, space, clean)
    drawn = draw(generator, 1)
    for batch, origin in ((drawn, f"{steps} steps"), (draw(generator, 1, steps=1), "steps=1")):
        archs = space.decode(batch)
        invalid = sum(arch is None for arch in archs)
        assert len(archs) == n, f"sample with {origin}: asked for {n} graphs, got {len(archs)}"
        assert invalid == 0, f"sample with {origin}: {invalid} of {n} graphs are not valid"
    assert same(drawn, draw(generator, 1)), "sample: the same seed gave other graphs"
    assert not same(drawn, draw(generator, 2)), "sample: another seed gave the same graphs"
    default, stated = (draw(generator, 1, count=8, steps=k) for k in (None, generator.default_steps))
    assert same(default, stated), "sample: without steps it must take default_steps"
    too_wide = torch.zeros(n, generator.conditions + 1)
    refused = {"n=0": {"count": 0}, "steps=0": {"steps": 0}, "a condition of another width": {"condition": too_wide}}
    for name, bad in refused.items():
        _check_refused(lambda bad=bad: draw(generator, 1, **bad), f"sample took {name}")  # type: ignore[misc]

    _check_guidance(generator, drawn, draw)
    _check_projector(generator, space, draw)
    assert torch.equal(state, torch.get_rng_state()), "the global generator of torch was used"
    _check_conditions(generator, clean, folder / "conditional", draw)
    _check_checkpoint(generator, folder, lambda using: draw(using, 3))


def _check_loss(generator: Generator, clean: GraphBatch, condition: Tensor | None) -> None:
    losses = [generator.loss(clean, condition, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    assert losses[0].shape == (), f"loss has shape {tuple(losses[0].shape)}, expected a scalar"
    assert bool(torch.isfinite(losses[0])), f"loss is {losses[0].item()}"
    assert torch.equal(*losses), "loss: the same seed gave another value"
    losses[0].backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in generator.parameters() if p.grad is not None]
    assert any(bool(g.any()) for g in gradients), "loss: no parameter receives a gradient"
    assert all(bool(g.isfinite().all()) for g in gradients), "loss: a gradient is not finite"
    generator.zero_grad()


def _check_noise(generator: Generator, space: SearchSpace, clean: GraphBatch) -> None:
    def noised(t: float) -> GraphBatch:
        times = torch.full((len(clean),), t)
        return generator.noise(clean, times, generator=torch.Generator().manual_seed(0))

    start, middle, end = noised(0.0), noised(0.5), noised(1.0)
    for name in ("ops", "edges", "node_mask"):
        shapes = [tuple(getattr(batch, name).shape) for batch in (middle, clean)]
        assert shapes[0] == shapes[1], f"noise: {name} has shape {shapes[0]}, expected {shapes[1]}"
    assert same(middle, noised(0.5)), "noise: the same seed gave other graphs"
    fixed_node, fixed_edge = space.node_domain.sum(-1) == 1, ~space.edge_domain.all(-1)
    same_nodes = torch.equal(middle.ops[:, fixed_node], clean.ops[:, fixed_node])
    same_edges = torch.equal(middle.edges[:, fixed_edge], clean.edges[:, fixed_edge])
    assert all([same_nodes, same_edges]), "noise: what the space fixes was noised"
    lost = [float((batch.ops - clean.ops).abs().mean()) for batch in (start, middle, end)]
    assert lost[0] < lost[1] < lost[2], f"noise: distances to the clean labels at t = 0, 1/2, 1 do not rise: {lost}"
    if bool(((middle.ops == 0) | (middle.ops == 1)).all()):  # a generator of discrete graphs
        for batch in (middle, end):
            check_inside(batch, space, "noise gives graphs")
        assert same(start, clean), "noise: at t = 0 graphs must be clean"


def _check_guidance(generator: Generator, drawn: GraphBatch, draw: Callable[..., GraphBatch]) -> None:
    forbid = forbid_common(drawn)
    before = int(forbid.hits(drawn).sum())
    left = int(forbid.hits(draw(generator, 1, guidance=[forbid])).sum())
    assert 4 * left <= before, f"guidance: {left} graphs have the state that log_tilt forbids, {before} without it"
    assert len(draw(generator, 1, count=2, guidance=[Silent()])) == 2, "guidance: who abstains changed the number"
    discard = Discard(forbid)
    batch = draw(generator, 1, guidance=[discard])
    assert len(batch) == len(drawn), f"guidance by particles: asked for {len(drawn)} graphs, got {len(batch)}"
    left = int(forbid.hits(batch).sum())
    assert 4 * left <= before, f"guidance: {left} graphs have the state that resample discards, {before} without it"
    falling = discard.times == sorted(discard.times, reverse=True) and discard.times[-1] == 0.0
    assert falling, f"guidance: resample was asked at times {discard.times}, expected falling ones down to 0"
    assert discard.last is not None
    assert same(batch, discard.last), "guidance: the graphs are not those that resample chose at t = 0"
    pair = [Discard(forbid), Discard(forbid)]
    _check_refused(lambda: draw(generator, 1, count=2, guidance=pair), "guidance: two members may not both resample")


def _check_projector(generator: Generator, space: SearchSpace, draw: Callable[..., GraphBatch]) -> None:
    recorded = Recorded(space)
    batch = draw(generator, 4, count=16, projector=recorded)
    assert recorded.calls > 0, "sample never called the projector"
    strange = [row for row in rows(batch) if row not in recorded.known]
    assert not strange, f"sample: {len(strange)} of 16 graphs did not come from the projector"


def _check_conditions(generator: Generator, clean: GraphBatch, folder: Path, draw: Callable[..., GraphBatch]) -> None:
    """On a generator of random weights: an untrained one may begin by saying nothing."""
    c, n = generator.conditions or 2, len(clean)
    conditional = _random_weights(generator, c)
    ends = [torch.full((n, c), value) for value in (2.0, -2.0)]
    part = ends[0].clone()
    part[:, 0] = torch.nan
    _check_loss(conditional, clean, part)
    free = draw(conditional, 1)
    high, low, partly = (draw(conditional, 1, condition=condition) for condition in (*ends, part))
    assert not same(high, low), "condition: two opposite ones gave the same graphs"
    assert not same(high, free), "condition: it changes nothing"
    assert len(partly) == n, "condition: one open property changed the number of graphs"
    assert same(draw(conditional, 1, condition=torch.full((n, c), torch.nan)), free), (
        "condition: one that leaves all open must be none"
    )
    assert same(draw(conditional, 1, condition=ends[0], weight=0.0), free), "condition: weight=0 must ignore it"
    for shape in ((n, c + 1), (n - 1, c), (1, c)):
        wrong = torch.zeros(shape)
        _check_refused(lambda wrong=wrong: draw(conditional, 1, condition=wrong), f"sample took a condition {shape}")  # type: ignore[misc]
    source = torch.Generator()
    _check_refused(lambda: conditional.loss(clean, torch.zeros(n, c + 1), generator=source), "loss took a wrong shape")
    _check_checkpoint(conditional, folder, lambda using: draw(using, 3, condition=part))


def _random_weights(generator: Generator, conditions: int) -> Generator:
    """Another generator with the same arguments, `conditions` and weights that are far from any initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        arguments = {**generator.config, "conditions": conditions}
        other = type(generator)(generator.node_domain, generator.edge_domain, **arguments).eval()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return other


def _check_refused(call: Callable[[], object], what: str) -> None:
    with contextlib.suppress(ValueError):
        call()
        raise AssertionError(f"{what}; it must raise ValueError")


def _check_checkpoint(generator: Generator, folder: Path, draw: Callable[[Generator], GraphBatch]) -> None:
    names = [name for name, kind in GENERATORS.items() if kind is type(generator)]
    assert names, f"{type(generator).__name__} is not registered in GENERATORS, so no checkpoint can name it"
    generator.save(names[0], folder, {}, "# conformance check\n")
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are replaced
        restored = load_generator(folder)
    assert type(restored) is type(generator), f"the checkpoint came back as a {type(restored).__name__}"
    assert restored.config == generator.config, "the checkpoint came back with another config"
    assert same(draw(generator), draw(restored)), "the generator draws other graphs after a checkpoint"
