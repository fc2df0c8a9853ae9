"""Measuring latency on a node of a Ray cluster: the device under test need not be the machine that asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.hardware.base import DeviceLost, LatencyMeter, Run
from archgen.hardware.record import DeviceRecord, LatencyMeasurement
from archgen.progress import Progress
from archgen.ray_cluster import Cluster, wait


class RemoteMeter(LatencyMeter):
    """A meter of the runtime on a node that has what the cluster's resources ask for, and keeps it until it is closed.

    Networks go there as they are and are loaded, timed and judged there; so the device record is the node's. Give the
    node under test a resource of its own (`ray start --resources='{"phone": 1}'`) and ask for it, and for all its CPUs:
    then nothing of the cluster runs beside.

    Args:
        kind: A registered runtime.
        cluster: Where, and what to ask of the node.
        example, settings: As in `LatencyMeter`.

    Raises:
        MissingExtra: Ray is not installed.
        ArchgenError: No cluster, no such node, or a setting that the runtime refuses there.
    """

    def __init__(
        self, kind: type[LatencyMeter], cluster: Cluster, example: Tensor | tuple[int, ...], **settings: Any
    ) -> None:
        self.runtime = kind.runtime  # type: ignore[misc]
        self._told: nn.Module | None = None
        self._there = cluster.place(_Meter, kind, example, settings)
        super().__init__(example, **settings)

    def check(self) -> None:
        self._call("made")

    @property
    def version(self) -> str:
        return self.device.version

    @property
    def device(self) -> DeviceRecord:
        record: DeviceRecord = self._call("device")
        return record

    def load(self, network: nn.Module) -> Callable[[Tensor], Run]:
        raise ArchgenError("networks are loaded on the node that measures them; ask for `measure` or `attempt`")

    def attempt(
        self,
        networks: Sequence[nn.Module],
        *,
        seed: int,
        keys: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> list[LatencyMeasurement | ArchgenError]:
        self._tell()
        found, self.reference_ms, self.drift, self.unsteady = self._call("attempt", list(networks), seed, keys)
        outcomes: list[LatencyMeasurement | ArchgenError] = found
        return outcomes

    def check_reference(self) -> None:
        self._tell()
        self._call("check_reference")

    def _tell(self) -> None:
        """The reference goes there once."""
        if self.reference is not None and self._told is not self.reference:
            self._call("refer", self.reference, self.reference_ms)
            self._told = self.reference

    def _call(self, name: str, *args: Any) -> Any:
        try:
            return wait(getattr(self._there, name).remote(*args))
        except ConnectionError as error:
            raise DeviceLost(f"the node that measures is lost: {error}") from None


class _Meter:
    """Lives on the node."""

    def __init__(self, kind: type[LatencyMeter], example: Tensor | tuple[int, ...], settings: dict[str, Any]) -> None:
        self.kind, self.example, self.settings = kind, example, settings

    def made(self) -> None:
        """Not in the constructor, whose exceptions Ray tells of as the object's death."""
        self.meter = self.kind(self.example, **self.settings)

    def device(self) -> DeviceRecord:
        return self.meter.device

    def refer(self, reference: nn.Module, reference_ms: float | None) -> None:
        self.meter.reference, self.meter.reference_ms = reference, reference_ms

    def check_reference(self) -> None:
        self.meter.check_reference()

    def attempt(self, networks: list[nn.Module], seed: int, keys: Sequence[str] | None) -> tuple[Any, ...]:
        found = self.meter.attempt(networks, seed=seed, keys=keys)
        return found, self.meter.reference_ms, self.meter.drift, self.meter.unsteady
