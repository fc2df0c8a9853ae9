"""Conformance checks for members of the families, your own included; the package's tests run them on every member.

Each check raises `AssertionError` with a message that names the broken promise. None of them needs pytest:

>>> import numpy as np
>>> from archgen import spaces
>>> check_space(spaces.load("nasbench201"), n=4, rng=np.random.default_rng(0))
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import ArchgenError, InvalidArchitecture
from archgen.generators.base import GENERATORS, Generator, load_generator
from archgen.graph import Architecture, GraphBatch
from archgen.predictors.base import Floats, Prediction, Predictor
from archgen.spaces import SearchSpace
from archgen.study import FAILED, Trial

if TYPE_CHECKING:
    from archgen.strategies.base import Screen, SearchStrategy

LISTABLE = 1_000
"""`check_strategy` asks until nothing is left in spaces of at most so many points."""

Measure = Callable[[int, Architecture], Trial]
MakeStrategy = Callable[[int, "Screen | None"], "SearchStrategy"]

SMALL_NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 2, "image_size": 8}
"""Values that `check_space` gives to those arguments of `build` that a space has."""


def check_space(
    space: SearchSpace, *, n: int = 64, rng: np.random.Generator, network: Mapping[str, int] | None = None
) -> None:
    """Check every promise of `SearchSpace` on `n` drawn architectures; networks are built for at most eight of them.

    Args:
        space: The space.
        n: Architectures to draw, at least 2.
        rng: Source of randomness.
        network: Arguments of `build` that give a small network; by default `SMALL_NETWORK`, where the space has them.
    """
    seed = int(rng.integers(2**31))
    archs = space.sample(n, np.random.default_rng(seed))
    assert len(archs) == n, f"sample({n}) gave {len(archs)} architectures"
    assert space.sample(n, np.random.default_rng(seed)) == archs, "sample: the same rng gave other architectures"
    for arch in archs:
        _check_valid(space, arch, "sample")
        _check_forms(space, arch)
        _check_function(space, arch)
    _check_encoding(space, archs)
    for a, b in zip(archs, archs[1:] + archs[:1], strict=True):
        _check_variation(space, a, b, rng)
    for extreme in space.extremes or ():
        _check_valid(space, extreme, "extremes")
    for arch in archs[:8]:
        _check_network(space, arch, dict(network) if network is not None else _small_network(space))


def _check_valid(space: SearchSpace, arch: Architecture, origin: str) -> None:
    try:
        space.validate(arch)
    except InvalidArchitecture as error:
        raise AssertionError(f"{origin} gave an architecture that validate refuses: {error}") from error


def _check_forms(space: SearchSpace, arch: Architecture) -> None:
    text = space.format(arch)
    assert space.parse(text) == arch, f"parse(format(a)) is not a for '{text}'"
    choices = space.to_choices(arch)
    assert choices.keys() == space.variables.keys(), f"to_choices names {sorted(choices)}, not the space's variables"
    assert all(0 <= choices[name] < len(values) for name, values in space.variables.items()), (
        f"to_choices of '{text}' leaves the range of a variable: {choices}"
    )
    assert space.from_choices(choices) == arch, f"from_choices(to_choices(a)) is not a for '{text}'"
    assert Architecture.from_json(json.loads(json.dumps(arch.to_json()))) == arch, f"'{text}' does not survive JSON"


def _check_function(space: SearchSpace, arch: Architecture) -> None:
    text = space.format(arch)
    simple = space.simplify(arch)
    _check_valid(space, simple, f"simplify('{text}')")
    assert space.simplify(simple) == simple, f"simplify is not idempotent for '{text}'"
    assert space.canonical(simple) == space.canonical(arch), f"simplify changes the canonical form of '{text}'"
    kept = set(space.computation(arch).ops) - {"input", "output"}
    assert kept <= set(space.computing_labels), f"computation of '{text}' keeps labels that do not compute: {kept}"


def _check_encoding(space: SearchSpace, archs: list[Architecture]) -> None:
    batch = space.encode(archs)
    n, k = space.node_domain.shape
    assert batch.ops.shape == (len(archs), n, k), f"encode: ops are {tuple(batch.ops.shape)}, expected b x {n} x {k}"
    assert batch.edges.shape == (len(archs), n, n), f"encode: edges are {tuple(batch.edges.shape)}"
    assert batch.node_mask.shape == (len(archs), n), f"encode: node_mask is {tuple(batch.node_mask.shape)}"
    assert bool((batch.ops.sum(-1) == batch.node_mask).all()), "encode: each existing node needs exactly one label"
    assert not bool((batch.ops.bool() & ~space.node_domain).any()), "encode: a label outside node_domain"
    states = torch.stack([1 - batch.edges, batch.edges], -1).bool()
    both = batch.node_mask[:, :, None] & batch.node_mask[:, None, :]
    assert not bool((states & ~space.edge_domain & both[..., None]).any()), "encode: an edge outside edge_domain"
    assert space.decode(batch) == archs, "decode(encode(archs)) is not archs"
    _check_projection(space, batch)
    assert space.decode(space.encode([])) == [], "decode(encode([])) is not empty"


def _check_projection(space: SearchSpace, batch: GraphBatch) -> None:
    """What any generator may draw inside the domains must decode after `project`; valid graphs stay as they are."""
    noise = torch.Generator().manual_seed(0)
    b, (n, k) = len(batch), space.node_domain.shape
    uniform = GraphBatch(
        (space.node_domain / space.node_domain.sum(-1, keepdim=True)).expand(b, n, k).clone(),
        (space.edge_domain[..., 1] / space.edge_domain.sum(-1)).expand(b, n, n).triu(1).clone(),
        torch.ones(b, n, dtype=torch.bool),
    )
    ops = torch.multinomial(uniform.ops.view(b * n, k), 1, generator=noise).view(b, n)
    edges = (torch.rand(b, n, n, generator=noise) < uniform.edges).float()
    wild = GraphBatch(nn.functional.one_hot(ops, k).float(), edges, uniform.node_mask)
    repaired = space.project(wild, uniform, generator=noise)
    lost = sum(arch is None for arch in space.decode(repaired))
    assert lost == 0, f"project: {lost} of {b} graphs drawn inside the domains still do not decode"
    kept = [i for i, arch in enumerate(space.decode(wild)) if arch is not None]
    same = all(torch.equal(repaired.edges[i], edges[i]) and torch.equal(repaired.ops[i], wild.ops[i]) for i in kept)
    assert same, "project changed a graph that decodes"
    assert not space.free or len(kept) == b, "free is True, but some graphs inside the domains do not decode"


def _check_variation(space: SearchSpace, a: Architecture, b: Architecture, rng: np.random.Generator) -> None:
    mutant = space.mutate(a, rng)
    _check_valid(space, mutant, "mutate")
    changed = _differences(space, a, mutant)
    assert changed == 1 if space.free else changed > 0, f"mutate changed {changed} choices, not one"
    child = space.crossover(a, b, rng)
    _check_valid(space, child, "crossover")
    first, second = space.to_choices(a), space.to_choices(b)
    foreign = [name for name, value in space.to_choices(child).items() if value not in (first[name], second[name])]
    assert not (space.free and foreign), f"crossover: the choice of {foreign} comes from neither parent"
    near = space.neighbours(a)
    expected = sum(len(values) - 1 for values in space.variables.values())
    assert len(set(near)) == len(near), f"neighbours: {len(near) - len(set(near))} are named twice"
    assert len(near) == expected if space.free else 0 < len(near) <= expected, (
        f"expected {expected} distinct neighbours, got {len(near)}"
    )
    for neighbour in near:
        _check_valid(space, neighbour, "neighbours")
        assert neighbour != a, "neighbours: an architecture is its own neighbour"
        assert not space.free or _differences(space, a, neighbour) == 1, "a neighbour differs in more than one choice"


def _differences(space: SearchSpace, a: Architecture, b: Architecture) -> int:
    first, second = space.to_choices(a), space.to_choices(b)
    return sum(first[name] != second[name] for name in space.variables)


def _small_network(space: SearchSpace) -> dict[str, int]:
    return {name: value for name, value in SMALL_NETWORK.items() if name in space.network_defaults}


def _check_network(space: SearchSpace, arch: Architecture, network: dict[str, int]) -> None:
    text = space.format(arch)
    arguments = {**space.network_defaults, **network}
    classes = arguments.get("classes", 10)
    inputs = space.example_input(2, **network)
    if inputs.is_floating_point():
        inputs = torch.linspace(-1, 1, inputs.numel()).view_as(inputs)
    with torch.no_grad():
        logits = space.build(arch, **network).eval()(inputs)
    assert logits.shape == (2, classes), f"logits of '{text}' are {tuple(logits.shape)}, expected (2, {classes})"
    assert bool(torch.isfinite(logits).all()), f"logits of '{text}' are not finite"
    for chosen in ({}, network):
        counts = space.count(arch, **chosen)
        assert {"params", "flops"} <= counts.keys(), f"count gives {sorted(counts)}, expected params and flops"
        assert all(math.isfinite(v) and v >= 0 for v in counts.values()), f"count of '{text}' is {counts}"
        with torch.device("meta"):
            params = sum(p.numel() for p in space.build(arch, **chosen).parameters())
        assert counts["params"] == params, f"count of '{text}' says {counts['params']} params, its network has {params}"


class _Forbid:
    """Guidance that forbids one state: a label of one node, or the presence of one edge."""

    def __init__(self, ops: Tensor, edges: Tensor) -> None:
        self.ops, self.edges = ops, edges

    def hits(self, clean: GraphBatch) -> Tensor:
        return ((clean.ops * self.ops).sum((1, 2)) + (clean.edges * self.edges).sum((1, 2))) > 0

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        return torch.zeros(len(clean)).masked_fill(self.hits(clean), -torch.inf)


def check_generator(generator: Generator, space: SearchSpace, *, folder: Path, n: int = 64, steps: int = 8) -> None:
    """Check every promise of `Generator`; it need not be trained, but must be one of `GENERATORS` and unconditional.

    Args:
        generator: A generator with the domains of `space`; its weights stay as they are.
        space: The space.
        folder: An empty folder for a checkpoint.
        n: Graphs to draw, at least 16.
        steps: Solver steps.
    """
    generator.eval()
    clean = space.encode(space.sample(n, np.random.default_rng(0)))

    def draw(using: Generator, seed: int, **options: object) -> GraphBatch:
        return using.sample(n, **{"steps": steps, **options}, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]

    losses = [generator.loss(clean, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    assert losses[0].shape == (), f"loss has shape {tuple(losses[0].shape)}, expected a scalar"
    assert bool(torch.isfinite(losses[0])), f"loss is {losses[0].item()}"
    assert torch.equal(*losses), "loss: the same seed gave another value"
    losses[0].backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in generator.parameters() if p.grad is not None]
    assert any(bool(g.any()) for g in gradients), "loss: no parameter receives a gradient"
    generator.zero_grad()

    drawn = draw(generator, 1)
    for batch, origin in ((drawn, f"{steps} steps"), (draw(generator, 1, steps=1), "steps=1")):
        archs = space.decode(batch)
        invalid = sum(arch is None for arch in archs)
        assert len(archs) == n, f"sample with {origin}: asked for {n} graphs, got {len(archs)}"
        assert invalid == 0, f"sample with {origin}: {invalid} of {n} graphs are not valid"
    assert _same(drawn, draw(generator, 1)), "sample: the same seed gave other graphs"
    assert not _same(drawn, draw(generator, 2)), "sample: another seed gave the same graphs"

    forbid = _forbid_common(drawn)
    left = int(forbid.hits(draw(generator, 1, guidance=[forbid])).sum())
    assert left == 0, f"guidance: {left} of {n} graphs have the state that log_tilt forbids"
    _check_checkpoint(generator, folder, lambda using: draw(using, 3))


def _same(a: GraphBatch, b: GraphBatch) -> bool:
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("ops", "edges", "node_mask"))


def _forbid_common(drawn: GraphBatch) -> _Forbid:
    """Forbids the most frequent state among those that at most half of the graphs have."""
    shares = torch.cat([drawn.ops.mean(0).flatten(), drawn.edges.mean(0).flatten()])
    shares[shares > 0.5] = 0.0
    assert bool(shares.any()), "sample: no state is drawn by some and avoided by most; there is nothing to forbid"
    chosen = torch.zeros_like(shares)
    chosen[shares.argmax()] = 1.0
    nodes = drawn.ops[0].numel()
    return _Forbid(chosen[:nodes].view_as(drawn.ops[0]), chosen[nodes:].view_as(drawn.edges[0]))


def _check_checkpoint(generator: Generator, folder: Path, draw: Callable[[Generator], GraphBatch]) -> None:
    names = [name for name, kind in GENERATORS.items() if kind is type(generator)]
    assert names, f"{type(generator).__name__} is not registered in GENERATORS, so no checkpoint can name it"
    generator.save(names[0], folder, {}, "# conformance check\n")
    restored = load_generator(folder)
    assert type(restored) is type(generator), f"the checkpoint came back as a {type(restored).__name__}"
    assert restored.config == generator.config, "the checkpoint came back with another config"
    assert _same(draw(generator), draw(restored)), "the generator draws other graphs after a checkpoint"


def check_predictor(predictor: Predictor, *, n: int = 40, rng: np.random.Generator) -> None:
    """Check every promise of `Predictor` on synthetic positive targets.

    Args:
        predictor: Unfitted; it is fitted here.
        n: Architectures to fit on, at least 10; as many others are predicted.
        rng: Source of randomness.
    """
    space = predictor.space
    archs = space.sample(2 * n, rng)
    weights = {name: rng.normal(0, 0.3, len(values)) for name, values in space.variables.items()}
    y = np.exp([sum(weights[name][i] for name, i in space.to_choices(arch).items()) for arch in archs])
    _check_refusals(predictor, archs[:n], y[:n])

    assert predictor.fit(archs[:n], y[:n]) is predictor, "fit must return the predictor itself"
    prediction = predictor.predict(archs)
    _check_prediction(prediction, 2 * n)
    _check_prediction(predictor.predict([]), 0)
    backwards = predictor.predict(archs[::-1])
    assert np.allclose(backwards.mean[::-1], prediction.mean, rtol=1e-6), "predict depends on the order of its input"

    config, tensors = predictor.state()
    assert all(isinstance(value, Tensor) for value in tensors.values()), "state: the second part must hold tensors"
    stored = json.loads(json.dumps(config, allow_nan=False))
    copies = {name: value.detach().clone() for name, value in tensors.items()}
    again = type(predictor).restore(space, predictor.metric, stored, copies).predict(archs)
    for name, before, after in zip(Prediction._fields, prediction, again, strict=True):
        assert np.allclose(before, after, rtol=1e-6, atol=1e-12), f"restore(state()) predicts another {name}"


def _check_refusals(predictor: Predictor, archs: list[Architecture], y: Floats) -> None:
    broken = y.copy()
    broken[0] = np.nan
    infinite = y.copy()
    infinite[-1] = np.inf
    cases = {"fewer values than architectures": (archs, y[:-1]), "fewer architectures than values": (archs[:-1], y)}
    cases |= {"nothing": ([], y[:0]), "a NaN": (archs, broken), "an infinite value": (archs, infinite)}
    for name, (some, values) in cases.items():
        with contextlib.suppress(ArchgenError):
            predictor.fit(some, values)
            raise AssertionError(f"fit took {name}; it must raise ArchgenError")


def _check_prediction(prediction: Prediction, b: int) -> None:
    for name, values in zip(Prediction._fields, prediction, strict=True):
        assert isinstance(values, np.ndarray), f"predict: {name} is not a numpy array"
        assert values.shape == (b,), f"predict: {name} has shape {values.shape}, expected ({b},)"
        assert bool(np.isfinite(values).all()), f"predict: {name} is not finite"
    assert bool((prediction.std >= 0).all()), "predict: a negative std"


def check_strategy(make: MakeStrategy, space: SearchSpace, *, rng: np.random.Generator, batch: int = 3) -> None:
    """Check every promise of `SearchStrategy` on synthetic values; asks until nothing is left where a space is small.

    Args:
        make: A seed and a screen (or None) to a new strategy, without a `key`, of whatever objectives: a direction
            and at most one bound for each other metric. After 4 batches it should have begun to learn.
        space: The space.
        rng: Source of the synthetic values.
        batch: Architectures of a batch, at least 2.
    """
    measure = _synthetic(make(0, None), space, rng)
    lived = make(0, None)
    trials = _search(lived, space, measure, batch, times=2)
    assert trials == _search(make(0, None), space, measure, batch), "the same seed gave another sequence"
    others = (_search(make(seed, None), space, measure, batch) for seed in (1, 2))
    assert any(trials != other for other in others), "other seeds gave the same sequence"
    _check_resumed(make, trials, lived.ask(batch), batch)

    def fail(number: int, arch: Architecture) -> Trial:
        return Trial(number, arch, {}, 0.0, FAILED)

    _search(make(0, None), space, fail, batch)
    lived = make(0, None)
    mixed = _search(lived, space, lambda i, arch: (measure, fail)[i % 2](i, arch), batch)
    _check_resumed(make, mixed, lived.ask(batch), batch)
    _check_screen(make, space, measure, rng, batch)
    if space.size <= LISTABLE:
        every = _search(make(0, None), space, measure, batch, rounds=space.size)
        assert len(every) == space.size, f"ask proposed {len(every)} of the {space.size} architectures there are"
    _check_merit(make(0, None), trials[0])


def _synthetic(strategy: SearchStrategy, space: SearchSpace, rng: np.random.Generator) -> Measure:
    """Values that add up over the choices; about half of the architectures meet each bound."""
    centre = {strategy.objective.metric: 0.0, **{wish.metric: wish.bound or 0.0 for wish in strategy.bounds}}
    weights = {m: {name: rng.normal(size=len(v)) for name, v in space.variables.items()} for m in centre}

    def measure(number: int, arch: Architecture) -> Trial:
        choices = space.to_choices(arch).items()
        values = {m: c + float(sum(weights[m][name][i] for name, i in choices)) for m, c in centre.items()}
        return Trial(number, arch, values, 0.0)

    return measure


def _search(
    strategy: SearchStrategy, space: SearchSpace, measure: Measure, batch: int, *, rounds: int = 4, times: int = 1
) -> list[Trial]:
    trials: list[Trial] = []
    for _ in range(rounds):
        asked = strategy.ask(batch)
        after = f"after {len(trials)} trials"
        assert len(asked) <= batch, f"ask({batch}) gave {len(asked)} architectures {after}"
        assert asked or len(trials) == space.size, f"ask gave nothing {after} in a space of {space.size}"
        assert len(set(asked)) == len(asked), f"ask gave an architecture twice in one batch {after}"
        assert not {t.arch for t in trials} & set(asked), f"ask gave an architecture that it was told of {after}"
        for _ in range(times - 1):
            assert strategy.ask(batch) == asked, f"ask changes state: a second one {after} gave another answer"
        if not asked:
            break
        for arch in asked:
            _check_valid(space, arch, "ask")
        finished = [measure(len(trials) + i, arch) for i, arch in enumerate(asked)]
        strategy.tell(finished)
        trials += finished
    return trials


def _check_resumed(make: MakeStrategy, trials: Sequence[Trial], expected: list[Architecture], batch: int) -> None:
    for cut in (0, len(trials) - 1):  # told at once, and in the middle of a batch
        resumed = make(0, None)
        resumed.tell(trials[:cut])
        resumed.tell(trials[cut:])
        assert resumed.ask(batch) == expected, "told the trials of a study, ask goes on otherwise than before"


def _check_screen(
    make: MakeStrategy, space: SearchSpace, measure: Measure, rng: np.random.Generator, batch: int
) -> None:
    allowed = set(space.sample(3 * batch, rng))
    strategy = make(0, lambda archs: [arch in allowed for arch in archs])
    for number in range(2):
        asked = strategy.ask(batch)
        stray = sum(arch not in allowed for arch in asked)
        assert stray == 0, f"ask gave {stray} architectures that the screen does not let through"
        strategy.tell([measure(number * batch + i, arch) for i, arch in enumerate(asked)])
    assert not make(0, lambda archs: [False] * len(archs)).ask(batch), "ask gave what the screen does not let through"


def _check_merit(strategy: SearchStrategy, trial: Trial) -> None:
    """A failure is worst, then what violates the bounds more, then the worse objective."""
    within = {wish.metric: wish.bound or 0.0 for wish in strategy.bounds}

    def merit(objective: float, **values: float) -> tuple[float, float]:
        good = {strategy.objective.metric: strategy.objective.sign * objective}
        return strategy.merit(replace(trial, values={**good, **within, **values}))

    failed = strategy.merit(replace(trial, values={}, state=FAILED))
    assert merit(2.0) > merit(1.0) > merit(-3.0) > failed, "merit: the better objective must win, a failure be worst"
    for wish in strategy.bounds:
        near, far = ({wish.metric: within[wish.metric] - wish.sign * gap} for gap in (1.0, 2.0))
        assert merit(1.0) > merit(9.0, **near), f"merit: what violates {wish} beats what meets every bound"
        assert merit(1.0, **near) > merit(9.0, **far) > failed, f"merit: violating {wish} more is not worse"
