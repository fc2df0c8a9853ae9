"""Ray clusters: what work asks of a node, an executor for it, and objects that live on one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from archgen.errors import ArchgenError, InvalidOption, MissingExtra

RETRIES = 2
"""How often a task whose worker or node died is done again, elsewhere if there is another place."""
_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def connect(address: str | None = None, *, workers: int | None = None) -> bool:
    """Connect to a cluster, or start Ray on this machine; what is connected already stays.

    Args:
        address: `auto` for the cluster of this machine, `HOST:PORT`, or `local` to start Ray here; None for what
            `RAY_ADDRESS` names, else `local`.
        workers: CPUs of a Ray that is started here.

    Returns:
        Whether this call connected.

    Raises:
        MissingExtra: Ray is not installed.
        ArchgenError: There is no such cluster.
    """
    ray = _ray()
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report over the network
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    here = {"num_cpus": workers, "include_dashboard": False} if place == "local" else {}
    try:
        ray.init(place, log_to_driver=False, configure_logging=False, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise ArchgenError(f"no Ray cluster at '{place}': {line}; start one by `ray start --head`") from None
    return True


@dataclass(frozen=True)
class Cluster:
    """Where evaluations run, and what each of them asks for.

    Args:
        address: As in `connect`.
        resources: `CPU` (1 where it is not said), `GPU`, `memory` in bytes, or what nodes were started with.
    """

    address: str
    resources: Mapping[str, float] = field(default_factory=dict)

    def slots(self, workers: int | None = None) -> int:
        """Evaluations at the same time, once connected: each needs one node that has all it asks for.

        Args:
            workers: CPUs of a Ray that is started here.

        Raises:
            MissingExtra: Ray is not installed.
            InvalidOption: `resources` ask for nothing, so that any number would fit.
            ArchgenError: There is no such cluster, or no node in it for one evaluation.
        """
        asked = {name: number for name, number in {"CPU": 1.0, **self.resources}.items() if number > 0}
        if not asked:
            raise InvalidOption("an evaluation that asks for nothing has no end of places: ask for some, as CPU=0.5")
        connect(self.address, workers=workers)
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        n = sum(min(int(has.get(name, 0.0) / some + 1e-9) for name, some in asked.items()) for has in nodes)
        if n < 1:
            what = ", ".join(f"{name}={number:g}" for name, number in asked.items())
            each = " | ".join(", ".join(f"{name}={has.get(name, 0.0):g}" for name in asked) for has in nodes[:8])
            raise ArchgenError(
                f"an evaluation asks for {what}, more than any node has ({each}): ask for less, or add such a node"
            )
        return n

    @property
    def options(self) -> dict[str, Any]:
        """Options of a Ray task or actor that asks for `resources`."""
        given = dict(self.resources)
        options: dict[str, Any] = {_OPTIONS[name]: given.pop(name) for name in _OPTIONS if name in given}
        return {**options, "resources": given}

    def place(self, kind: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """An object on a node that has what is asked for, kept for it alone.

        Returns:
            A handle: `handle.method.remote(...)` gives what `wait` waits for.

        Raises:
            MissingExtra, ArchgenError: As `slots`.
        """
        self.slots()
        return _ray().remote(**self.options)(kind).remote(*args, **kwargs)

    @property
    def executor(self) -> Callable[..., Executor]:
        """Makes executors on the cluster, for `Parallel`."""
        return partial(RayExecutor, address=self.address, resources=self.resources)


class RayExecutor(Executor):
    """Runs each call as a Ray task; one whose worker or node dies is done again on another.

    After `RETRIES` more deaths it is taken for the call's own fault, and a task that Ray ends for want of memory at
    once: it fails alone.

    Args:
        max_workers: CPUs of a Ray that is started here; a running cluster has its own number.
        initializer: Called once in each process, before its first task.
        initargs: Its arguments, put into Ray's object store once.
        address: As in `connect`.
        resources: That a task asks for, as in `Cluster`.

    Raises:
        MissingExtra: Ray is not installed.
        ArchgenError: There is no such cluster.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., None] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        address: str | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self._ray, self._started = _ray(), connect(address, workers=max_workers)
        options = Cluster(address or "", resources or {}).options
        begin = self._ray.put((initializer, initargs))
        self._begin = [begin]  # in a list it is passed as it is: each process reads it once, not with each task
        self._task = self._ray.remote(max_retries=0, **options)(_run)
        self._references: dict[Future[Any], Any] = {}
        kinds = self._ray.exceptions
        self._lost = (
            kinds.WorkerCrashedError,
            kinds.NodeDiedError,
            kinds.LocalRayletDiedError,
            kinds.ObjectLostError,
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._start(future, (fn, args, kwargs), RETRIES)
        return future

    def _start(self, future: Future[Any], call: tuple[Any, ...], retries: int) -> None:
        reference = self._task.remote(self._begin, *call)
        self._references[future] = reference

        def done(inner: Future[Any]) -> None:
            error = inner.exception()
            if isinstance(error, self._lost) and retries > 0 and future in self._references:
                self._start(future, call, retries - 1)
                return
            self._references.pop(future, None)
            if error is None:
                future.set_result(inner.result())
            else:
                future.set_exception(getattr(error, "cause", None) or error)

        reference.future().add_done_callback(done)

    def kill(self, future: Future[Any]) -> None:
        """End one call, and the process that it runs in; its future fails."""
        reference = self._references.pop(future, None)
        if reference is not None:
            self._ray.cancel(reference, force=True)

    def kill_workers(self) -> None:
        """End whatever runs, as `ProcessPoolExecutor` does."""
        for future in list(self._references):
            self.kill(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what runs, then leave Ray if this executor connected to it or started it.

        A Ray that was started here ends by that, a cluster goes on. With `wait` off nothing is waited for, and Ray
        stays as it is until the process ends.
        """
        running = list(self._references.values())
        if cancel_futures:
            self.kill_workers()
        if wait and running:
            self._ray.wait(running, num_returns=len(running))
        if wait and self._started:
            self._ray.shutdown()


def wait(reference: Any) -> Any:
    """What a method of a placed object gives; its exceptions are raised as they are.

    Raises:
        ConnectionError: The object's process or node died.
    """
    ray = _ray()
    try:
        return ray.get(reference)
    except ray.exceptions.RayActorError as error:
        raise ConnectionError(" ".join(str(error).split())[:200]) from None
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtra("Ray is not installed: pip install 'archgen[distributed]'") from None
    return ray


# -- in the worker -----------------------------------------------------------------------------------------------

_begun: set[str] = set()


def _run(begin: list[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    (reference,) = begin
    if reference.hex() not in _begun:
        initializer, initargs = _ray().get(reference)
        if initializer is not None:
            initializer(*initargs)
        _begun.add(reference.hex())
    return fn(*args, **kwargs)
