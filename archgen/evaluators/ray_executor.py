"""Ray as a `concurrent.futures.Executor`: the workers of `Parallel` on the nodes of a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from archgen.errors import MissingExtra


class RayExecutor(Executor):
    """Runs each call as a Ray task; a task whose process dies fails alone.

    Connects to the cluster that `RAY_ADDRESS` names, or starts Ray on this machine; a Ray that runs already is used as
    it is.

    Args:
        max_workers: CPUs of a Ray that is started here; a running cluster has its own number.
        initializer: Called before each task in the task's process.
        initargs: Its arguments, put into Ray's object store once.
        resources: Options of the tasks: `num_gpus`, `num_cpus`, `memory`, as `ray.remote` takes them.

    Raises:
        MissingExtra: Ray is not installed.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., None] | None = None,
        initargs: tuple[Any, ...] = (),
        **resources: Any,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("RayExecutor needs Ray: install it by pip install 'archgen[distributed]'") from None
        self._ray, self._started = ray, not ray.is_initialized()
        if self._started:
            ray.init(**_local(max_workers), log_to_driver=False, configure_logging=False)
        self._begin = ray.put((initializer, initargs))
        self._task = ray.remote(max_retries=0, **resources)(_run)
        self._tasks: set[Any] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        reference = self._task.remote(self._begin, fn, args, kwargs)
        self._tasks.add(reference)
        future: Future[Any] = reference.future()
        future.add_done_callback(lambda _: self._tasks.discard(reference))
        return future

    def kill_workers(self) -> None:
        """End whatever runs, as `ProcessPoolExecutor` does."""
        for reference in list(self._tasks):
            self._ray.cancel(reference, force=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what runs, then leave Ray if this executor connected to it or started it.

        A Ray that was started here ends by that, a cluster goes on. With `wait` off nothing is waited for, and Ray
        stays as it is until the process ends.
        """
        if cancel_futures:
            self.kill_workers()
        running = list(self._tasks)
        if wait and running:
            self._ray.wait(running, num_returns=len(running))
        if wait and self._started:
            self._ray.shutdown()


def _local(max_workers: int | None) -> dict[str, Any]:
    return {} if "RAY_ADDRESS" in os.environ else {"num_cpus": max_workers, "include_dashboard": False}


def _run(
    begin: tuple[Callable[..., None] | None, tuple[Any, ...]], fn: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    initializer, initargs = begin
    if initializer is not None:
        initializer(*initargs)
    return fn(*args, **kwargs)
