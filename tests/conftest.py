"""Fixtures of all tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from archgen import config, spaces
from archgen.conditions import Conditions
from archgen.generators import DiscreteFlow
from archgen.graph import Architecture
from archgen.predictors.base import Floats, Prediction, Predictor
from archgen.spaces import SearchSpace

with warnings.catch_warnings():
    # linear_operator (under botorch) and torch_geometric script functions while they are imported, which torch
    # deprecates; warnings are errors in the tests, so they are imported here, once, with that one silenced
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    import linear_operator  # noqa: F401
    import torch_geometric.data  # noqa: F401

settings.register_profile("archgen", deadline=None, derandomize=True, database=None)
settings.load_profile("archgen")


# tensors in tests are tiny: a second thread only waits, and on a busy machine it makes them twenty times slower
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start too: sums of two threads differ in a last digit
os.environ[config.TRUST] = "1"  # the code that fixtures import is ours; tests/cli/test_trust.py has it off


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return spaces.load("nasbench201")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tables() -> Path:
    """The folder of the published benchmark tables; tests that need it are skipped without it."""
    folder = config.data_dir()
    if folder is None:
        pytest.skip("the benchmark tables are absent: set ARCHGEN_DATA or put them in ../shared/data")
    return folder


class Additive(Predictor):
    """A metric that adds up over the choices, with a known error: nothing to fit."""

    def __init__(self, space: SearchSpace, metric: str, weights: Floats, std: float = 0.0) -> None:
        super().__init__(space, metric)
        self.weights, self.std = weights, std

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Additive:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        rows = np.array([list(self.space.to_choices(arch).values()) for arch in archs], dtype=int)
        mean = self.weights[np.arange(len(self.weights)), rows.reshape(-1, len(self.weights))].sum(1)
        return Prediction(mean, np.full(len(mean), self.std))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Additive:
        raise NotImplementedError


class Obedient(DiscreteFlow):
    """A conditional flow of NAS-Bench-201 without training: `p(x | c) ~ exp(sum_i c_i z_i(x))`.

    `z_i` are the standardised values of additive metrics, about normal over the space, so that the samples' mean normal
    score is about the `c` that was asked for, as from a perfect conditional generator.
    """

    def __init__(self, space: SearchSpace, predictors: Sequence[Additive]) -> None:
        super().__init__(space.node_domain, space.edge_domain, width=8, layers=1, heads=2, conditions=len(predictors))
        archs = space.enumerate()
        values = {predictor.metric: predictor.predict(archs).mean for predictor in predictors}
        self.properties = Conditions.fit(values)
        slopes = torch.zeros(len(predictors), *self.variables.domain.shape)
        ops = list(next(iter(space.variables.values())))
        for i, predictor in enumerate(predictors):
            spread = float(values[predictor.metric].std())
            for choice, op in enumerate(ops):
                slopes[i, :, space.labels.index(op)] = torch.from_numpy(predictor.weights[:, choice] / spread)
        self.slopes = slopes

    def posterior(self, states: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        domain, noise = self.variables.domain, self.variables.noise
        alpha = (1 - t)[:, None, None]
        same = torch.nn.functional.one_hot(states, domain.shape[1])
        u = noise.expand(len(states), -1, -1).gather(-1, states[..., None])
        log_p = (alpha * same + (1 - alpha) * u).clamp(min=1e-30).log()
        if condition is not None:
            log_p = log_p + torch.einsum("bc,cvs->bvs", condition.nan_to_num(), self.slopes)
        return log_p.masked_fill(~domain, -torch.inf).log_softmax(-1)


@pytest.fixture(scope="session")
def additive(space: SearchSpace) -> dict[str, Additive]:
    """Two metrics that share nothing: `latency_ms` of 5.7 ± 1.3 and `energy_mj` of 12.6 ± 2.4 over the space."""
    rng = np.random.default_rng(3)
    latency, energy = rng.uniform(0, 2, (6, 5)), rng.uniform(0, 4, (6, 5))
    return {
        "latency_ms": Additive(space, "latency_ms", latency, std=0.3),
        "energy_mj": Additive(space, "energy_mj", energy),
    }


@pytest.fixture(scope="session")
def obedient(space: SearchSpace, additive: dict[str, Additive]) -> Obedient:
    return Obedient(space, list(additive.values()))


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[Any]:
    """A cluster on this machine: two nodes of one CPU, each with a resource of its own; this process is connected."""
    pytest.importorskip("ray", reason="Ray is not installed: archgen[distributed]")
    import ray
    from ray.cluster_utils import Cluster as Nodes

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "resources": {"first": 1}})
    cluster.add_node(num_cpus=1, resources={"second": 1})
    ray.init(cluster.address, log_to_driver=False, configure_logging=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="session")
def process() -> Callable[..., subprocess.Popen[str]]:
    """Start Python in a process of its own."""

    def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "COLUMNS")}
        # a shell's background job ignores Ctrl-C and would hand that down; what is handled here is not inherited
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [sys.executable, *arguments],
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **options},
            )
        finally:
            signal.signal(signal.SIGINT, before)

    return process


@pytest.fixture(scope="session")
def room_for() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """No file may grow beyond so many bytes; the system refuses it as it does on a full disk."""

    @contextlib.contextmanager
    def room_for(size: int) -> Iterator[None]:
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return room_for
