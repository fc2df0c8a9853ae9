"""Proxies of many architectures, as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.progress import Progress
from archgen.proxies.base import PROXIES, Proxy
from archgen.proxies.count import Count
from archgen.spaces import SearchSpace
from archgen.threads import single_threaded
from archgen.workers import begin, kill, spawned

BATCH = 64
"""Images, where none are given: as in NAS-Bench-Suite-Zero."""


def compute_proxies(
    space: SearchSpace,
    archs: Sequence[Architecture],
    names: Sequence[str] | Mapping[str, Proxy] | None = None,
    images: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    on_result: Callable[[Architecture, list[float] | str], None] | None = None,
    **network: int,
) -> pd.DataFrame:
    """Zero-cost proxies of architectures, each from a freshly built network.

    The weights of a network, and what a proxy draws, depend on `seed` and the architecture alone: values are the same
    for any order, any other names beside them, and any number of workers. `params`, `flops` and `complexity` are the
    space's own count.

    Args:
        space: The space of the architectures.
        archs: Architectures; equal ones are computed once.
        names: Registered proxies, all by default; or names of columns with proxies of your own setting.
        images: A batch `b c h w` of the size of the space's networks (for spaces of texts, tokens `b n`). By default
            64 standard normal images, or tokens drawn uniformly, the same for all architectures.
        targets: Class of each image; drawn uniformly by default.
        seed: Of all randomness.
        workers: Processes, each of one thread. More than one needs a script that guards its own start by
            `if __name__ == "__main__"`.
        progress: Shows a bar.
        on_result: Called with each architecture and its values, in order, as they come; or with what is wrong with it,
            a text, and then it is left out of the table. By default the first that is wrong raises.
        **network: Arguments of `space.build`; the published ones by default.

    Returns:
        A row an architecture, in the order given (an architecture given twice has two): `arch` (the space's text), then
        one column a proxy, where NaN means that the network has no such value (see `Proxy`).

    Raises:
        UnknownName: No such proxy.
        ArchgenError: Images or targets do not fit, a proxy is not defined for the space's networks, or a process died.

    Example:
        >>> from archgen import spaces
        >>> space = spaces.load("nasbench201")
        >>> table = compute_proxies(space, space.sample(2, np.random.default_rng(0)), ["params", "flops"])
        >>> list(table.columns)
        ['arch', 'params', 'flops']
    """
    if workers < 1:
        raise ArchgenError(f"the number of processes must be at least 1, got {workers}")
    if names is None:
        names = list(PROXIES)
    proxies = dict(names) if isinstance(names, Mapping) else {name: PROXIES[name]() for name in names}
    job = _Job(space, proxies, *_batch(space, images, targets, seed, network), seed, network)
    distinct = list(dict.fromkeys(archs))
    found: dict[Architecture, list[float]] = {}
    with (progress or Progress()).bar("proxies", len(distinct)) as bar, _results(job, distinct, workers) as results:
        for arch, row in zip(distinct, results, strict=True):
            if on_result is not None:
                on_result(arch, row)
            elif isinstance(row, str):
                raise ArchgenError(row)
            if not isinstance(row, str):
                found[arch] = row
            bar.update()
    kept = [arch for arch in archs if arch in found]
    columns: dict[str, Any] = {"arch": [space.format(arch) for arch in kept]}
    columns |= {name: np.array([found[arch][i] for arch in kept], dtype=float) for i, name in enumerate(proxies)}
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class _Job:
    """All that the values of an architecture depend on; crosses to other processes."""

    space: SearchSpace
    proxies: dict[str, Proxy]
    images: NDArray[Any]
    targets: NDArray[np.int64]
    seed: int
    network: dict[str, int]

    def __call__(self, arch: Architecture) -> list[float] | str:
        """The proxies of an architecture, or what is wrong, as a text, which crosses back safely."""
        try:
            return self._values(arch)
        except ArchgenError as error:
            return f"{self.space.format(arch)}: {error}"

    def _values(self, arch: Architecture) -> list[float]:
        images, targets = torch.from_numpy(self.images), torch.from_numpy(self.targets)
        text = self.space.format(arch)
        counted = {name: proxy for name, proxy in self.proxies.items() if isinstance(proxy, Count)}
        counts = self.space.count(arch, **self.network) if counted else {}
        values = {name: float(counts[proxy.metric]) for name, proxy in counted.items()}
        if len(counted) < len(self.proxies):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_seed(self.seed, text))
                network = self.space.build(arch, **self.network)
        for name, proxy in self.proxies.items():
            if name not in counted:
                generator = torch.Generator().manual_seed(_seed(self.seed, text, proxy.name))
                values[name] = proxy(network, images, targets, generator=generator)
        return [values[name] for name in self.proxies]


def _seed(*parts: object) -> int:
    """A seed that depends on all parts, in every process alike (Python's own hash does not)."""
    digest = hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _batch(
    space: SearchSpace, images: Tensor | None, targets: Tensor | None, seed: int, network: Mapping[str, int]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    arguments = {**space.network_defaults, **network}
    generator = torch.Generator().manual_seed(_seed(seed, "batch"))
    example = space.example_input(BATCH if targets is None else len(targets), **network)
    if images is None:
        if example.is_floating_point():
            images = torch.randn(example.shape, generator=generator)
        else:
            images = torch.randint(arguments["vocabulary"], example.shape, generator=generator)
    elif images.shape[1:] != example.shape[1:]:
        raise ArchgenError(
            f"the networks of {space.name} read {tuple(example.shape[1:])}, the images are {tuple(images.shape[1:])}; "
            "resize them, or give the network's arguments (image_size=..., in_channels=...)"
        )
    classes = arguments["classes"]
    if targets is None:
        targets = torch.randint(classes, (len(images),), generator=generator)
    elif len(targets) != len(images) or not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ArchgenError(
            f"expected a target of 0 to {classes - 1} for each of {len(images)} images, got {len(targets)} from "
            f"{int(targets.min())} to {int(targets.max())}; give classes=... for other numbers of classes"
        )
    return images.detach().cpu().numpy(), targets.detach().cpu().long().numpy()


@contextmanager
def _results(job: _Job, archs: Sequence[Architecture], workers: int) -> Iterator[Iterator[list[float] | str]]:
    """The results in the order of the architectures; processes are gone afterwards, after Ctrl-C too."""
    if min(workers, len(archs)) <= 1:
        with single_threaded():
            yield map(job, archs)
        return
    pool = spawned(max_workers=min(workers, len(archs)), initializer=_start, initargs=(job,))
    try:
        try:
            results = pool.map(_run, archs)
        except (PicklingError, AttributeError, TypeError) as error:
            what = f"{job.space.name} or a proxy can not be sent to other processes"
            raise ArchgenError(f"{what} ({error}); use workers=1") from None
        yield results
    except BrokenProcessPool:
        raise ArchgenError(
            "a process of the proxies died: for want of memory (use fewer workers), or because the script does not "
            'guard its start by if __name__ == "__main__"'
        ) from None
    except KeyboardInterrupt:
        kill(pool)  # which are deaf to Ctrl-C
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_job: _Job
"""What the tasks of this process share, once it is one of a pool."""


def _start(job: _Job) -> None:
    """Prepare a process."""
    global _job  # noqa: PLW0603
    begin(threads=1)
    _job = job


def _run(arch: Architecture) -> list[float] | str:
    return _job(arch)
