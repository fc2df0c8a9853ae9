"""ONNX files of networks that are made in processes, ahead of when they are asked for."""

from __future__ import annotations

import pickle
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from archgen.export import to_onnx
from archgen.hardware.part import example_of
from archgen.spaces.custom import Imports
from archgen.workers import begin, kill, spawned

AHEAD = 2
"""Files a process that are made before they are asked for: they and their networks lie in memory."""


class Exports:
    """Files of networks, to be asked for in order; a context that ends its processes.

    The exporter takes seconds a network, nearly all of it in Python, so processes share the work well.

    Args:
        networks: Whose files will be asked for.
        example: One input, `1 ...`.
        processes: At least 1.
    """

    def __init__(self, networks: Sequence[nn.Module], example: Tensor, processes: int) -> None:
        self._waiting, self._example, self._processes = deque(networks), example, processes
        self._made: dict[int, Future[bytes]] = {}
        self._executor: Executor = spawned(max_workers=processes, initializer=begin, initargs=(1,))

    def __enter__(self) -> Self:
        self._go_on()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._executor.shutdown(cancel_futures=True)
        else:
            kill(self._executor)

    def take(self, network: nn.Module) -> bytes | None:
        """A network's file; None where a process could not make it, which the caller then finds the reason for."""
        future = self._made.pop(id(network), None)
        self._go_on()
        try:
            return None if future is None else future.result()
        except Exception:  # a network that can not be sent or exported, a process that died
            return None

    def _go_on(self) -> None:
        while self._waiting and len(self._made) < AHEAD * self._processes:
            network = self._waiting.popleft()
            try:
                # by value: tensors that processes share take a file descriptor each
                packed = pickle.dumps((Imports(), network, example_of(network, self._example)))
                self._made[id(network)] = self._executor.submit(_exported, packed)
            except BrokenExecutor:
                self._waiting.clear()
            except Exception:  # it can not be sent
                continue


def _exported(packed: bytes) -> bytes:
    _, network, example = pickle.loads(packed)  # from the process that started this one
    with tempfile.TemporaryDirectory(prefix="archgen-") as folder:
        path = Path(folder) / "network.onnx"
        to_onnx(network, example, path)
        return path.read_bytes()
