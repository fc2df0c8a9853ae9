"""Measured latencies in a file that grows batch by batch: a parquet table and, beside it, the devices as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, InvalidTable, RunConflict
from archgen.hardware.record import DeviceRecord, LatencyMeasurement
from archgen.tables import read_table

_NUMBERS = ("latency_ms", "low_ms", "high_ms", "spread_ms")
_COUNTS = ("runs", "batch", "threads")
COLUMNS = ("arch", *_NUMBERS, "runs", "device", "runtime", "batch", "threads", "time")


@dataclass(frozen=True)
class MeasuredDevice:
    """A device and the speed that its measurements are reported for.

    Args:
        record: The machine, the software and the setting.
        reference: String of the architecture whose network is the reference.
        reference_ms: What the reference took in the first batch, ms.
    """

    record: DeviceRecord
    reference: str
    reference_ms: float

    def to_json(self) -> dict[str, Any]:
        """The device as JSON types; `from_json` is its inverse."""
        return {
            "record": self.record.to_json(),
            "reference": self.reference,
            "reference_ms": self.reference_ms,
        }

    @classmethod
    def from_json(cls, value: Any) -> MeasuredDevice:
        """Rebuild a device from `to_json`; raises `InvalidCheckpoint`."""
        if not isinstance(value, dict) or value.keys() != {"record", "reference", "reference_ms"}:
            raise InvalidCheckpoint(f"expected record, reference and reference_ms of a device, got {str(value)[:80]}")
        reference, ms = value["reference"], value["reference_ms"]
        if not isinstance(reference, str) or type(ms) not in (int, float) or not 0 < ms < np.inf:
            raise InvalidCheckpoint(f"expected a reference and its time in ms, got {reference!r:.40} and {ms!r:.40}")
        return cls(DeviceRecord.from_json(value["record"]), reference, float(ms))


class MeasurementFile:
    """Latencies of architectures of one space on one or more devices, one row an architecture and device.

    The table has the columns `COLUMNS`: times in ms, `device` the `id` of a `DeviceRecord`, `time` the ISO date (UTC)
    of the batch. The devices stand in `<name>.devices.json` and are written first, so that a kill between the two
    leaves no row without its device. Both files are written beside their place and renamed.

    Args:
        path: Of the table, `<name>.parquet`; it need not exist yet.
        space: Name of the space; None takes that of the file, which must exist then.

    Attributes:
        space: Name of the space.
        devices: Each device by its id.

    Raises:
        InvalidTable: The file is truncated or was not written by this class, or does not exist and should; it is left
            alone.
        RunConflict: The file holds architectures of another space.
    """

    def __init__(self, path: Path, space: str | None = None) -> None:
        if path.suffix != ".parquet":
            raise InvalidTable(f"{path}: measurements are kept as parquet; give a name that ends in .parquet")
        self.path, self.devices_path = path, path.with_suffix(".devices.json")
        if space is None and not path.exists():
            raise InvalidTable(f"{path} does not exist: expected a file that archgen latency measure wrote")
        found, self.devices = self._read_devices()
        self._rows = self._read_rows()
        if space is not None and found not in (None, space):
            raise RunConflict(f"{self.devices_path} is of space '{found}', expected '{space}'; give another file")
        name = space or found
        assert name is not None  # rows are read only where devices and so the space are
        self.space = name
        self._seen = self._stamp()

    def __len__(self) -> int:
        return len(self._rows)

    def measured(self, device: str) -> dict[str, LatencyMeasurement]:
        """What is known of a device, by its id: the measurement of each architecture's string, in order of time."""
        rows = self._rows[self._rows["device"] == device]
        times = zip(*(rows[name].tolist() for name in ("arch", *_NUMBERS, "runs")), strict=True)
        return {arch: LatencyMeasurement(*values) for arch, *values in times}

    def append(self, device: MeasuredDevice, measured: Mapping[str, LatencyMeasurement]) -> None:
        """Add the measurements of one batch.

        Args:
            device: What they were measured on; the file keeps the reference of the first batch.
            measured: A measurement for the string of each architecture.

        Raises:
            RunConflict: An architecture is measured on this device already, the reference or its time is another than
                the file's, or another process wrote the file meanwhile.
            OSError: The disk is full; the file is as it was.
        """
        identity = device.record.id
        if self.devices.get(identity, device) != device:
            raise RunConflict(f"{self.path} compares with another reference on device {identity}; give another file")
        twice = self.measured(identity).keys() & measured.keys()
        if twice:
            raise RunConflict(f"{self.path} holds '{min(twice)[:80]}' on device {identity} already; measure others")
        if self._stamp() != self._seen:
            raise RunConflict(f"{self.path} was written by another process meanwhile; run the same again to go on")
        facts = {
            "device": identity,
            "runtime": device.record.runtime,
            "batch": device.record.batch,
            "threads": device.record.threads,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        new = pd.DataFrame([{"arch": arch, **asdict(m), **facts} for arch, m in measured.items()], columns=COLUMNS)
        rows = new if self._rows.empty else pd.concat([self._rows, new], ignore_index=True)
        if identity not in self.devices:
            known = {**self.devices, identity: device}
            content = {"space": self.space, "devices": {key: value.to_json() for key, value in known.items()}}
            artifacts.write_json(self.devices_path, content)
            self.devices = known
        artifacts.write_atomic(self.path, lambda beside: rows.to_parquet(beside, index=False))
        self._rows, self._seen = rows, self._stamp()

    def _stamp(self) -> tuple[int, int, int] | None:
        """Changes when the table is replaced or written."""
        if not self.path.exists():
            return None
        facts = self.path.stat()
        return facts.st_ino, facts.st_size, facts.st_mtime_ns

    # -- reading ------------------------------------------------------------------------------------------------

    def _read_devices(self) -> tuple[str | None, dict[str, MeasuredDevice]]:
        """The space and the devices; none where neither file exists."""
        if not self.devices_path.exists():
            if self.path.exists():
                raise InvalidTable(
                    f"{self.path} has no {self.devices_path.name} beside it: it was not written by archgen latency "
                    "measure, or the two were parted; give another file"
                )
            return None, {}
        try:
            content = artifacts.read_json(self.devices_path)
            if not isinstance(content, dict) or content.keys() != {"space", "devices"}:
                raise InvalidCheckpoint("expected a space and devices")
            if not isinstance(content["space"], str) or not isinstance(content["devices"], dict):
                raise InvalidCheckpoint("expected the name of a space, and devices by their ids")
            devices = {key: MeasuredDevice.from_json(value) for key, value in content["devices"].items()}
            for key, device in devices.items():
                if key != device.record.id:
                    raise InvalidCheckpoint(f"device {key} was changed by hand")
        except InvalidCheckpoint as error:
            raise InvalidTable(
                f"{self.devices_path} holds no devices of archgen ({error}); give another file"
            ) from None
        return content["space"], devices

    def _read_rows(self) -> pd.DataFrame:
        if not self.path.exists():
            return pd.DataFrame(columns=list(COLUMNS))
        rows = read_table(self.path, expected="measured latencies", mend="give another file")
        wrong = self._wrong(rows)
        if wrong is not None:
            raise InvalidTable(f"{self.path} was not written by archgen latency measure: {wrong}; give another file")
        return rows

    def _wrong(self, rows: pd.DataFrame) -> str | None:
        """What keeps a table from being measurements, None when nothing does."""
        if list(rows.columns) != list(COLUMNS):
            return f"expected the columns {', '.join(COLUMNS)}, got {', '.join(map(str, rows.columns))[:120]}"
        if not all(pd.api.types.is_float_dtype(rows[name]) for name in _NUMBERS):
            return f"{', '.join(_NUMBERS)} must be floating-point numbers"
        if not all(pd.api.types.is_integer_dtype(rows[name]) for name in _COUNTS):
            return f"{', '.join(_COUNTS)} must be whole numbers"
        if not all(isinstance(v, str) for name in ("arch", "device", "runtime", "time") for v in rows[name]):
            return "arch, device, runtime and time must be texts"
        times = rows[["low_ms", "latency_ms", "high_ms"]].to_numpy(dtype=float)
        if not (np.isfinite(times).all() and (times > 0).all() and (rows["low_ms"] <= rows["high_ms"]).all()):
            return "a latency is not a positive number with an interval"
        unknown = sorted(set(rows["device"]) - self.devices.keys())
        if unknown:
            return f"{self.devices_path.name} does not know its device {unknown[0]}"
        if rows.duplicated(["arch", "device"]).any():
            return "an architecture stands twice for one device"
        return None
