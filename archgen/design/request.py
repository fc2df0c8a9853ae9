"""What is to be designed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import MappingProxyType

from archgen.errors import InvalidObjective, InvalidOption
from archgen.fields import check_fields
from archgen.objectives import Objective, at_most, check, maximize, minimize

LATENCY, MEMORY = "latency_ms", "memory_mb"
EFFORTS = MappingProxyType(
    {
        "quick": {"budget": 50, "epochs": 60, "finetune_epochs": 40, "measured": 24, "finalists": 1},
        "standard": {"budget": 100, "epochs": 200, "finetune_epochs": 100, "measured": 40, "finalists": 12},
        "thorough": {"budget": 300, "epochs": 600, "finetune_epochs": 200, "measured": 60, "finalists": 12},
    }
)
"""What a preset of the command line sets."""
_POSITIVE = ("budget", "batch", "epochs", "finetune_epochs", "threads", "networks", "finalists")
LEAST_MEASURED = 12
"""Networks that a latency predictor is fitted to and judged on."""


@dataclass(frozen=True)
class DesignRequest:
    """What is to be designed; all of it is kept in the run folder, so that a run can be resumed.

    Args:
        data: What `archgen.data.load_data` reads.
        space: Name of the search space, or a TOML file. A space that is published for much larger images is sized to
            those of the data (`archgen.spaces.for_images`).
        at_most: Upper bounds by metric: `latency_ms` for one image, `params`, `flops`, `memory_mb`, or what the
            checkpoints predict of the space's published network, such as `latency_ms@pixel3`; not below 0.
        minimize: Metrics to make small beside making the accuracy large; the answer is then a Pareto set.
        seed: Of everything random.
        budget: Architectures to evaluate.
        batch: Architectures asked for at a time.
        epochs: Of the supernet.
        finetune_epochs: Of each finalist and each network of a Pareto set.
        finalists: Most promising architectures that are fine-tuned; that of the best validation accuracy wins. A time
            limit lessens them before the epochs of each.
        network: Arguments of the networks, those that the images settle apart; empty for small ones.
        measured: Architectures to fit the latency predictor on.
        latency: Table with columns `arch` and `latency_ms`, measured elsewhere, in place of measuring here, or None.
        runtime, processor, threads: That latency is measured by here.
        resize: Side in pixels to resize the images to, or None.
        limit: Most images to use, or None.
        strategy: Name of the search strategy; None for `generative` where the space has a generator, else `bayes`.
        generator: Name or folder of the generator that the strategy draws from; None for the checkpoints' own.
        networks: Most networks to deliver of a Pareto set.
        time_limit: Seconds that all may take, or None; all is cut to fit.
        at_most_percent: Upper bounds by metric, above 0 and below 100: what so many percent of random architectures
            have at most. They become values of `at_most` once the metrics can be predicted, before anything is trained;
            of two bounds of a metric the lower one holds.
    """

    data: str
    space: str
    at_most: dict[str, float]
    minimize: tuple[str, ...] = ()
    seed: int = 0
    budget: int = 100
    batch: int = 5
    epochs: int = 200
    finetune_epochs: int = 100
    network: dict[str, int] = field(default_factory=dict)
    measured: int = 40
    finalists: int = 1
    latency: str | None = None
    runtime: str = "onnxruntime"
    processor: str = "cpu"
    threads: int = 1
    resize: int | None = None
    limit: int | None = None
    strategy: str | None = None
    generator: str | None = None
    networks: int = 5
    time_limit: float | None = None
    at_most_percent: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.minimize, list):  # JSON has lists only
            object.__setattr__(self, "minimize", tuple(self.minimize))
        try:
            check_fields(self)
        except TypeError as error:
            raise InvalidOption(str(error)) from None
        if not 0 <= self.seed < 2**31:
            raise InvalidOption(f"expected a seed from 0 to {2**31 - 1}, got {self.seed}")
        small = {k: v for k, v in asdict(self).items() if k in _POSITIVE and v < 1}
        if small:
            raise InvalidObjective(f"expected whole numbers of at least 1, got {small}")
        if self.measured < LEAST_MEASURED:
            raise InvalidObjective(
                f"expected at least {LEAST_MEASURED} measured architectures to fit a predictor, got {self.measured}"
            )
        if self.time_limit is not None and not self.time_limit > 0:
            raise InvalidObjective(f"expected a time limit above 0 seconds, got {self.time_limit:g}")
        if "val_acc" in self.metrics:
            raise InvalidObjective("the accuracy is what a design maximizes; bound or minimize what it costs")
        for metric, bound in self.at_most.items():
            if bound < 0:
                raise InvalidObjective(f"the bound of '{metric}' must be at least 0, got {bound:g}")
        for metric, percent in self.at_most_percent.items():
            if not 0 < percent < 100:
                raise InvalidObjective(f"the bound of '{metric}' must be above 0 % and below 100 %, got {percent:g} %")
        check(self.objectives)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is bounded or minimized, each once."""
        return tuple(dict.fromkeys([*self.minimize, *self.at_most, *self.at_most_percent]))

    @property
    def finetuned(self) -> int:
        """Networks that are fine-tuned at most."""
        return self.networks if self.minimize else self.finalists

    @property
    def directions(self) -> list[Objective]:
        """The accuracy up, then what is minimized."""
        return [maximize("val_acc"), *map(minimize, self.minimize)]

    @property
    def objectives(self) -> list[Objective]:
        """The wishes in the common language; bounds that are percentages are not among them."""
        return [*self.directions, *(at_most(metric, bound) for metric, bound in self.at_most.items())]
