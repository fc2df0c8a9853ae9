"""What was measured, and on what: plain records for reports and run folders."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from archgen.errors import InvalidCheckpoint

_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class LatencyMeasurement:
    """Latency of one network for one batch.

    Args:
        latency_ms: Median, ms.
        low_ms, high_ms: A 95 % bootstrap interval of the median, ms.
        spread_ms: Interquartile range over the rounds, ms.
        runs: Timed runs behind it.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    spread_ms: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        """The measurement as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class DeviceRecord:
    """The machine and software behind a measurement; it names no host and no user.

    Args:
        runtime: Name of the runtime, one of `RUNTIMES`.
        version: Version of the runtime.
        provider: What the runtime computes on, in its own words: `CPUExecutionProvider`, `cuda`.
        threads: Threads that one network runs on.
        cpu: Model name of the processor; `unknown` where the system does not tell.
        cores: Logical cores of the machine.
        machine: Instruction set, such as `x86_64`.
        python: Version of Python.
        torch: Version of PyTorch that built the networks.
        batch: Inputs a run.
        shape: Of one input: `(channels, height, width)` of an image, `(tokens,)` of a text.
        gpu: Model name of the graphics processor; `none` where the runtime computes on the CPU.
    """

    runtime: str
    version: str
    provider: str
    threads: int
    cpu: str
    cores: int
    machine: str
    python: str
    torch: str
    batch: int
    shape: tuple[int, ...]
    gpu: str = "none"

    @classmethod
    def here(
        cls,
        *,
        runtime: str,
        version: str,
        provider: str,
        threads: int,
        batch: int,
        shape: tuple[int, ...],
        gpu: str = "none",
    ) -> DeviceRecord:
        """The record of this machine for the given runtime and setting."""
        return cls(
            runtime=runtime,
            version=version,
            provider=provider,
            threads=threads,
            cpu=cpu_name(),
            cores=os.cpu_count() or 1,
            machine=platform.machine() or "unknown",
            python=platform.python_version(),
            torch=torch.__version__,
            batch=batch,
            shape=shape,
            gpu=gpu,
        )

    @property
    def id(self) -> str:
        """A short name of the record, equal for equal records: the start of the SHA-256 of its JSON."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types; `from_json` is its inverse."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DeviceRecord:
        """Rebuild a record from `to_json`; one that is older than the field `gpu` is of a CPU.

        Raises:
            InvalidCheckpoint: A field is missing, foreign, or of the wrong type.
        """
        names = {field.name for field in fields(cls)}
        if isinstance(value, Mapping):
            value = {"gpu": "none", **value}
        if not isinstance(value, Mapping) or value.keys() != names:
            raise InvalidCheckpoint(f"expected a device record with {', '.join(sorted(names))}; got {str(value)[:80]}")
        numbers, shape = ("threads", "cores", "batch"), value["shape"]
        whole = all(type(value[name]) is int for name in numbers)
        text = all(isinstance(value[name], str) for name in names - {*numbers, "shape"})
        sized = isinstance(shape, list | tuple) and len(shape) in (1, 3) and all(type(v) is int for v in shape)
        if not whole or not text or not sized:
            raise InvalidCheckpoint(
                f"a device record has whole numbers for {', '.join(numbers)}, one or three for shape, and text for the "
                f"rest; got {str(dict(value))[:120]}"
            )
        return cls(**{**value, "shape": tuple(shape)})


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """Model name of the processor, or `unknown`; Linux tells it in `/proc/cpuinfo`, others through `platform`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == "model name")
    return next((name for name in found if name), platform.processor() or "unknown")


def gpu_name(folder: Path = _NVIDIA) -> str:
    """Model name of the first CUDA device, or `unknown`; PyTorch tells it, or the driver where PyTorch has no CUDA."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    for path in sorted(folder.glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model" and value.strip():
                return value.strip()
    return "unknown"
