"""What a design can bound or minimize, and how each of it is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import artifacts, config
from archgen.design.latency import LatencySource, networks, spread
from archgen.design.request import LATENCY, MEMORY, DesignRequest
from archgen.errors import Infeasible, InvalidObjective, UnknownMetric
from archgen.graph import Architecture
from archgen.peak_memory import peak_memory_mb
from archgen.predictors import Predictor, load_predictor
from archgen.predictors.counts import Count
from archgen.predictors.latency import LatencyPredictor
from archgen.progress import Progress, track
from archgen.sampler import predictor_folders
from archgen.spaces import SearchSpace
from archgen.tables import read_table

COUNTED = ("params", "flops")
MEMORIES = "memory.parquet"


def known_metrics(space: SearchSpace) -> list[str]:
    """What can be bounded or minimized: of the networks that are designed, and of published ones on other devices."""
    published = [m for m in predictor_folders(space, config.checkpoints_dir()) if "@" in m]
    return [LATENCY, *COUNTED, MEMORY, *published]


def check_metrics(space: SearchSpace, request: DesignRequest, arguments: dict[str, int]) -> None:
    """Refuse a metric that is not known.

    Raises:
        UnknownMetric: There is no such metric for the space.
        InvalidObjective: It is of the published networks on a device, and others are asked for.
    """
    for metric in request.metrics:
        if metric not in (known := known_metrics(space)):
            raise UnknownMetric(metric, known)
        if "@" in metric:
            published = space.network_defaults
            other = [f"{name}={published[name]}" for name in arguments if arguments[name] != published[name]]
            if other:
                raise InvalidObjective(
                    f"'{metric}' is known of {space.name}'s published networks: design those ({', '.join(other)}), or "
                    "measure some of yours there and pass --latency"
                )


def counts(space: SearchSpace, arguments: dict[str, int]) -> dict[str, Predictor]:
    """The exact ones."""
    return {metric: Count(space, metric, arguments) for metric in COUNTED}


def predictors(
    space: SearchSpace,
    request: DesignRequest,
    arguments: dict[str, int],
    source: LatencySource,
    folder: Path,
    progress: Progress,
) -> dict[str, Predictor]:
    """By metric: the latency and the counts always, the others where the request names them."""
    found: dict[str, Predictor] = {LATENCY: source.predictor, **counts(space, arguments)}
    if MEMORY in request.metrics:
        found[MEMORY] = _memory(space, request, arguments, folder / MEMORIES, progress)
    folders = predictor_folders(space, config.checkpoints_dir())
    return found | {m: load_predictor(folders[m], space) for m in request.metrics if m not in found}


def exact_memory(space: SearchSpace, arch: Architecture, arguments: dict[str, int], seed: int) -> float:
    """Memory of an architecture's network for one image, MB, as of its trained one.

    Fresh biases and statistics are all alike, and the exporter keeps one of several that are: random ones differ.
    """
    (network,) = networks(space, [arch], arguments, seed)
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=generator)
    return peak_memory_mb(network, space.example_input(1, **arguments))


def _memory(
    space: SearchSpace, request: DesignRequest, arguments: dict[str, int], path: Path, progress: Progress
) -> Predictor:
    """A regression on the exact memory of some networks; exporting each candidate would take too long."""
    archs = spread(space, request.measured, arguments, request.seed)
    if not path.exists():
        places = track(progress, "memory", len(archs), iter(range(len(archs))))
        values = [exact_memory(space, archs[i], arguments, request.seed) for i in places]
        frame = pd.DataFrame({"arch": [space.format(arch) for arch in archs], MEMORY: values})
        artifacts.write_atomic(path, lambda beside: frame.to_parquet(beside, index=False))
    table = read_table(path, expected="memory of networks", mend="remove it to compute it anew")
    return LatencyPredictor(space, MEMORY).fit([space.parse(t) for t in table["arch"]], table[MEMORY].to_numpy(float))


def check_reachable(space: SearchSpace, request: DesignRequest, known: dict[str, Predictor]) -> None:
    """Raise `Infeasible` when a bound is below the smallest prediction, before anything is trained."""
    archs = [*_drawn(space, request), *(a for a in space.extremes or () if space.computation(a).edges)]
    for metric, bound in request.at_most.items():
        if metric not in known:
            continue
        least = float(known[metric].predict(archs).mean.min())
        if least > bound:
            raise Infeasible(
                f"no architecture of {space.name} meets {metric} at most {bound:g} here: the smallest that "
                f"can be met is about {least:.4g}; raise the bound"
            )


def percentiles(space: SearchSpace, request: DesignRequest, known: Mapping[str, Predictor]) -> dict[str, float]:
    """By metric of `at_most_percent`: what that many percent of random architectures are predicted to have at most."""
    archs = _drawn(space, request) if request.at_most_percent else []
    return {m: float(np.percentile(known[m].predict(archs).mean, p)) for m, p in request.at_most_percent.items()}


def _drawn(space: SearchSpace, request: DesignRequest) -> list[Architecture]:
    """Random architectures whose output depends on their input."""
    return [a for a in space.sample(4096, np.random.default_rng(request.seed)) if space.computation(a).edges]


def within(archs: Sequence[Architecture], request: DesignRequest, known: dict[str, Predictor]) -> list[bool]:
    """Whether each architecture is predicted to meet every bound."""
    good = np.ones(len(archs), dtype=bool)
    for metric, bound in request.at_most.items():
        good &= known[metric].predict(archs).mean <= bound
    return good.tolist()
