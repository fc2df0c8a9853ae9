"""What the parts of the search are worth: NAS-Bench-201 with the generator, its guidance or parts of BOSHNAS left out.

    python experiments/bo_ablation.py [--dataset cifar100] [--seeds 30] [--budget 100] [--workers 2]

- `generative`: all of it;
- `generative-unguided`: the generator draws without guidance, the acquisition function chooses among what it draws;
- `generative-noise`: the generator's noise in its place (uniform labels, one of as many candidates chosen by the same
  weights), so candidates are random ones and the neighbours of the incumbents: mutation with the same surrogate;
- `generative-plain`: without free labels, as features and for the start; `generative-gobi`: conditions from BOSHNAS's
  optimum in the space of features;
- `bayes`: the same acquisition over the whole list, no generator at all; `bayes-plain` without free labels;
- `boshnas` and without its heteroscedastic output, without its second-order optimiser, without either;
- `random`.

Protocol and files as in `bo_tables.py`. Writes experiments/results/bo_ablation_<dataset>.csv, .png and .md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from bo_nasbench201 import DATASETS, compare
from bo_tables import Variant, options, write_text

from archgen.generators import Generator, Guidance, Projector, Start
from archgen.generators.base import chosen
from archgen.generators.variables import draw
from archgen.graph import GraphBatch


class Unguided:
    """A generator that does not listen to guidance."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def sample(self, n: int, *, guidance: Sequence[Guidance] = (), **arguments: Any) -> GraphBatch:
        return self.generator.sample(n, **arguments)


class NoiseAlone(Unguided):
    """A generator's noise without what it has learnt, mended by the same projector, chosen by the same guidance.

    Each sample is one of as many as the generator looks at: `candidates` of the guidance in each of the steps.
    """

    def sample(
        self,
        n: int,
        *,
        guidance: Sequence[Guidance] = (),
        projector: Projector | None = None,
        start: Start | None = None,
        steps: int | None = None,
        generator: torch.Generator,
        **ignored: Any,
    ) -> GraphBatch:
        each = max([1, *((steps or 1) * g.candidates for g in guidance)])
        variables = self.generator.variables
        noise = variables.noise.expand(n * each, -1, -1)
        states = draw(noise, generator)
        if start is not None:
            given = variables.states(start.graph).repeat_interleave(each, 0)
            states = variables.noised(given, torch.full((len(given),), start.t), generator)
        drawn = variables.graph(states)
        if projector is not None:
            drawn = projector(drawn, variables.probabilities(noise), generator=generator)
        return drawn[chosen(guidance, drawn, each, generator=generator)]


VARIANTS = {
    "generative": Variant("generative"),
    "generative-unguided": Variant("generative", wrap=Unguided),
    "generative-noise": Variant("generative", wrap=NoiseAlone),
    "generative-plain": Variant("generative", {"free_labels": None}),
    "generative-gobi": Variant("generative", {"condition": "gobi"}),
    "bayes": Variant("bayes", {"acquisition": "logei"}),
    "bayes-plain": Variant("bayes", {"acquisition": "logei", "free_labels": None}),
    "boshnas": Variant("boshnas"),
    "boshnas-homoscedastic": Variant("boshnas", {"heteroscedastic": False}),
    "boshnas-first-order": Variant("boshnas", {"second_order": False}),
    "boshnas-neither": Variant("boshnas", {"heteroscedastic": False, "second_order": False}),
    "random": Variant("random"),
}


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(strategies=list(VARIANTS), budget=100)
    parser.add_argument("--dataset", default="cifar100", choices=DATASETS)
    args = parser.parse_args()
    name = f"bo_ablation_{args.dataset}"
    text = compare(args, args.dataset, {variant: VARIANTS[variant] for variant in args.strategies}, name)
    write_text(args.out / f"{name}.md", f"# What the parts are worth, {args.dataset}\n\n{text}")


if __name__ == "__main__":
    main()
