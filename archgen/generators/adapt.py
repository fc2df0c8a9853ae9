"""Few-shot adaptation of a trained flow: to a handful of examples, or to a related space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from archgen.generators.discrete_flow import DiscreteFlow
from archgen.generators.train import Progress
from archgen.graph import GraphBatch


def adapt_to_examples(
    generator: DiscreteFlow,
    examples: GraphBatch,
    *,
    steps: int = 300,
    batch_size: int = 128,
    lr: float = 2e-2,
    shrink: float = 1e-2,
    unique: float = 0.92,
    seed: int = 0,
    progress: Progress = iter,
) -> list[float]:
    """Learn in place the context under which the frozen generator would draw the examples.

    Textual inversion (Gal et al., arXiv 2208.01618) for graphs: only the context vector, which is added to the
    embedding of time in every call, is trained on the generator's own loss. A few dozen numbers can say what the
    examples have in common, but not the examples themselves, so samples stay as varied as the generator's own;
    training all weights on ten graphs would give back these ten. The vector is shrunk towards zero, the generator as
    it was, first by a penalty, then to the longest multiple under which 1,000 samples keep the wanted share of
    distinct ones: a small space has only so many graphs that resemble ten.

    Args:
        generator: A trained flow; its context is set.
        examples: A few clean graphs.
        steps: Optimiser steps.
        batch_size: Noised copies of examples a step.
        lr: Learning rate of Adam.
        shrink: Weight of the squared length of the context in the loss, nats.
        unique: Share of distinct samples to keep, in [0, 1); 0 takes the context as it was learnt.
        seed: Of the noise.
        progress: Wraps the iterator over steps.

    Returns:
        The loss of each step.
    """
    noise = torch.Generator().manual_seed(seed)
    frozen = {name: p.requires_grad for name, p in generator.named_parameters()}
    for parameter in generator.parameters():
        parameter.requires_grad_(False)
    generator.context.requires_grad_(True)
    optimizer = torch.optim.Adam([generator.context], lr=lr)
    losses = []
    for _ in progress(iter(range(steps))):
        picked = torch.randint(len(examples), (batch_size,), generator=noise)
        loss = generator.loss(examples[picked], generator=noise) + shrink * generator.context.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    for name, parameter in generator.named_parameters():
        parameter.requires_grad_(frozen[name])
    if unique > 0:
        _shorten(generator, unique, noise)
    return losses


@torch.no_grad()
def _shorten(generator: DiscreteFlow, unique: float, noise: torch.Generator, n: int = 1000) -> None:
    """Scale the context by the largest of 32 factors under which samples are as distinct as wanted, by bisection."""
    whole, seed = generator.context.clone(), noise.initial_seed()
    low, high = 0, 32
    while low < high:
        middle = (low + high + 1) // 2
        generator.context.copy_(whole * middle / 32)
        states = generator.variables.states(generator.sample(n, generator=torch.Generator().manual_seed(seed)))
        enough = len(torch.unique(states, dim=0)) >= unique * n
        low, high = (middle, high) if enough else (low, middle - 1)
    generator.context.copy_(whole * low / 32)


def adapt_to_space(
    generator: DiscreteFlow,
    labels: Sequence[str],
    node_domain: Bool[Tensor, "n k"],
    edge_domain: Bool[Tensor, "n n 2"],
    new_labels: Sequence[str],
) -> DiscreteFlow:
    """A flow for a related space that starts from a trained one: same transformer, labels matched by name.

    What is new (labels, positions beyond the old ones) starts at random; conditions are dropped, since their values
    belong to the old space. Train it on a few samples of the new space with `train_generator`.

    Args:
        generator: Trained on the old space.
        labels: The old space's labels, in order.
        node_domain, edge_domain: Of the new space.
        new_labels: Its labels, in order.
    """
    arguments = {**generator.config, "conditions": 0}
    new = DiscreteFlow(node_domain, edge_domain, **arguments)
    old_state, state = generator.state_dict(), new.state_dict()
    for name, value in state.items():
        if name in old_state and old_state[name].shape == value.shape and name not in ("node_domain", "edge_domain"):
            state[name] = old_state[name].clone()
    both = [(i, labels.index(label)) for i, label in enumerate(new_labels) if label in labels]
    index, source = (list(column) for column in zip(*both, strict=True)) if both else ([], [])
    state["encoder.embed.weight"][:, index] = old_state["encoder.embed.weight"][:, source]
    state["encoder.embed.bias"] = old_state["encoder.embed.bias"].clone()
    state["node_head.weight"][index] = old_state["node_head.weight"][source]
    state["node_head.bias"][index] = old_state["node_head.bias"][source]
    old, fresh = old_state["encoder.position"], state["encoder.position"]
    shared = min(len(old), len(fresh)) - 1
    fresh[:shared], fresh[-1] = old[:shared], old[-1]  # the output is last in both
    new.load_state_dict(state)
    return new
