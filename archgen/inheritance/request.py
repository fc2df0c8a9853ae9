"""What supernet is to be trained, on what, and how; and that supernet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import torch

from archgen import spaces
from archgen.complexity import draw_between
from archgen.data import ImageData, load_data
from archgen.errors import InvalidOption
from archgen.evaluators import SupernetEvaluator, image_network
from archgen.fields import fits
from archgen.graph import Architecture
from archgen.proxies import Proxy
from archgen.spaces import SearchSpace
from archgen.supernets import Supernet, make_supernet, mixture
from archgen.supernets.training import TRAINING_STRATEGIES, TrainingStrategy
from archgen.supernets.training.splitting import REPEATS

CALIBRATION = 1024
"""Most images whose statistics a network gets."""


@dataclass(frozen=True)
class SupernetRequest:
    """What is to be trained; all of it is kept in the folder.

    Args:
        space: Name of the search space, or a TOML file.
        data: What `archgen.data.load_data` reads.
        strategy: Name of the training strategy.
        options: Arguments of the strategy.
        network: Arguments of `space.build`; those that the images settle are settled by them.
        epochs: Passes over the training part.
        lr: Peak learning rate.
        seed: Of everything random.
        resize: Side in pixels to resize the images to, or None.
        limit: Most images to use, or None.
        batch: Images a step, or None for `batch_size`'s choice.
        every: Steps between two checkpoints, or None for a tenth of the training.
        precision: `no`, `bf16` or `fp16`.
        channels_last: Whether images are stored channels last.
        mixture: Sets of weights (`supernets.mixture`); 1 is a plain supernet.
        splits: How often the supernet is split by its gradients (`train_and_split`).
        warm_up: Epochs before each split; a quarter of `epochs`, at least 1, where None.
        repeats: Batches whose gradients are compared for a split.

    Raises:
        InvalidOption: A number below its least.
    """

    space: str
    data: str
    strategy: str = "uniform"
    options: dict[str, Any] = field(default_factory=dict)
    network: dict[str, int] = field(default_factory=dict)
    epochs: int = 100
    lr: float = 0.1
    seed: int = 0
    resize: int | None = None
    limit: int | None = None
    batch: int | None = None
    every: int | None = None
    precision: str = "no"
    channels_last: bool = True
    mixture: int = 1
    splits: int = 0
    warm_up: int | None = None
    repeats: int = REPEATS

    def __post_init__(self) -> None:
        least = {"seed": 0, "splits": 0, "mixture": 1, "warm_up": 1, "repeats": 1, "every": 1, "batch": 1, "limit": 1}
        for name, number in least.items():
            given = getattr(self, name)
            if given is not None and given < number:
                raise InvalidOption(f"expected {name} of at least {number}, got {given}")

    @classmethod
    def from_json(cls, values: object) -> SupernetRequest:
        """The request that `dataclasses.asdict` made such values of.

        Raises:
            TypeError: They are not those of a request.
            InvalidOption: As in the constructor.
        """
        if not isinstance(values, dict):
            raise TypeError(f"expected an object, got {values!r:.60}")
        for name, kind in get_type_hints(cls).items():
            if name in values and not fits(values[name], kind):
                raise TypeError(f"{name} is {values[name]!r:.60}")
        return cls(**values)

    @property
    def before_a_split(self) -> int:
        """Epochs of `warm_up`, settled."""
        return max(1, self.epochs // 4) if self.warm_up is None else self.warm_up


@dataclass(frozen=True, eq=False)
class TrainedSupernet:
    """A supernet and the images that it was trained on."""

    request: SupernetRequest
    space: SearchSpace
    supernet: Supernet
    data: ImageData
    found: Architecture | None = None
    """What the training has chosen, where its strategy chooses."""

    @property
    def evaluator(self) -> SupernetEvaluator:
        """Scores by inherited weights, on the validation images."""
        return self.evaluator_with()

    def evaluator_with(self, proxies: Sequence[Proxy] = ()) -> SupernetEvaluator:
        """That evaluator, measuring proxies on the inherited weights too."""
        part, calibration = self.data.validation, self.data.train.images[:CALIBRATION]
        return SupernetEvaluator(self.supernet, calibration, part.images, part.labels, proxies=proxies)


def make_trained(request: SupernetRequest) -> TrainedSupernet:
    """The untrained supernet and the images of a request."""
    strategy = make_strategy(request)
    space = spaces.load(request.space)
    data = load_data(request.data, seed=request.seed, resize=request.resize, limit=request.limit)
    network = image_network(space, data, request.network)
    settled = sorted(request.network.keys() & {"classes", "in_channels", "image_size"})
    if settled:
        raise InvalidOption(f"{', '.join(settled)} of the network is settled by the images; leave it out")
    if request.mixture > 1 and request.splits:
        raise InvalidOption("expected either several sets of weights or splits, got both")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request.seed)
        supernet = make_supernet(space, **network)
        if request.mixture > 1:
            supernet = mixture(supernet, request.mixture)
        strategy.begin(supernet)
    return TrainedSupernet(request, space, supernet, data)


def make_strategy(request: SupernetRequest) -> TrainingStrategy:
    """The training strategy of a request, with its options.

    Raises:
        InvalidOption: Options that it has not, or of another type or range.
    """
    options = dict(request.options)
    if request.strategy == "shiftnas":
        options["draw"] = draw_between
    try:
        return TRAINING_STRATEGIES[request.strategy](**options)
    except TypeError as error:  # a file of options that no command wrote
        raise InvalidOption(f"strategy '{request.strategy}' does not take its options ({error})") from None
