"""The file of measurements: it grows batch by batch, survives a kill, and nothing foreign is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pandas as pd
import pytest

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, InvalidTable, RunConflict
from archgen.hardware import DeviceRecord, LatencyMeasurement, MeasuredDevice, MeasurementFile
from archgen.hardware.measurements import COLUMNS


@pytest.fixture
def device():
    record = DeviceRecord.here(
        runtime="torch", version="1", provider="cpu", threads=2, batch=4, shape=(3, 32, 32), gpu="none"
    )
    return MeasuredDevice(record, "reference", 1.5)


def measured(ms):
    return LatencyMeasurement(ms, 0.9 * ms, 1.1 * ms, 0.05, 300)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.parquet"


@pytest.fixture
def written(path, device):
    MeasurementFile(path, "cells").append(device, {"a": measured(1.0), "b": measured(2.0)})
    return path


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_what_was_appended_is_read_again_with_its_device(written, device):
    file = MeasurementFile(written, "cells")
    file.append(device, {"c": measured(3.0)})
    again = MeasurementFile(written)
    assert (again.space, len(again)) == ("cells", 3)
    assert again.measured(device.record.id) == {"a": measured(1.0), "b": measured(2.0), "c": measured(3.0)}
    assert again.devices == {device.record.id: device}


def test_the_table_has_the_columns_that_users_are_promised(written, device):
    table = pd.read_parquet(written)
    assert tuple(table.columns) == COLUMNS
    row = table.iloc[0]
    assert (row["arch"], row["device"], row["runtime"]) == ("a", device.record.id, "torch")
    assert (row["batch"], row["threads"], row["runs"]) == (4, 2, 300)
    assert datetime.fromisoformat(row["time"]).tzinfo is not None
    devices = json.loads(written.with_name("m.devices.json").read_text())
    assert devices["devices"][device.record.id]["reference_ms"] == 1.5


def test_one_architecture_on_two_devices_is_two_rows(written, device):
    other = replace(device, record=replace(device.record, threads=1), reference_ms=9.0)
    file = MeasurementFile(written, "cells")
    file.append(other, {"a": measured(7.0)})
    again = MeasurementFile(written)
    assert again.measured(other.record.id) == {"a": measured(7.0)}
    assert again.measured(device.record.id)["a"] == measured(1.0)
    assert again.measured("unknown") == {}
    assert again.devices[other.record.id].reference_ms == 9.0


def test_a_new_file_is_empty_and_writes_nothing_until_something_is_measured(path):
    file = MeasurementFile(path, "cells")
    assert (len(file), file.devices) == (0, {})
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("killed", ["m.devices.json", "m.parquet"])
def test_a_kill_while_a_batch_is_written_leaves_the_batches_before(killed, written, device, monkeypatch):
    other = replace(device, record=replace(device.record, threads=1))
    write = artifacts.write_atomic

    def dies(target, work):
        if target.name == killed:
            raise KeyboardInterrupt
        write(target, work)

    file = MeasurementFile(written, "cells")
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "write_atomic", dies)
        with pytest.raises(KeyboardInterrupt):
            file.append(other, {"c": measured(3.0)})
    again = MeasurementFile(written, "cells")
    assert len(again) == 2
    again.append(other, {"c": measured(3.0)})
    assert MeasurementFile(written).measured(other.record.id) == {"c": measured(3.0)}


def test_what_is_measured_already_is_not_written_twice(written, device):
    file, before = MeasurementFile(written, "cells"), contents(written.parent)
    with pytest.raises(RunConflict, match=r"'a' on device .* already"):
        file.append(device, {"c": measured(1.0), "a": measured(1.0)})
    assert contents(written.parent) == before


@pytest.mark.parametrize("change", [{"reference": "other"}, {"reference_ms": 1.6}], ids=str)
def test_measurements_for_another_speed_are_not_mixed_in(change, written, device):
    with pytest.raises(RunConflict, match="another reference"):
        MeasurementFile(written, "cells").append(replace(device, **change), {"c": measured(1.0)})


def test_two_processes_do_not_overwrite_each_other(written, device):
    first, second = MeasurementFile(written, "cells"), MeasurementFile(written, "cells")
    first.append(device, {"c": measured(3.0)})
    with pytest.raises(RunConflict, match="another process"):
        second.append(device, {"d": measured(4.0)})
    assert MeasurementFile(written).measured(device.record.id).keys() == {"a", "b", "c"}


def test_a_file_of_another_space_is_refused(written):
    before = contents(written.parent)
    with pytest.raises(RunConflict, match="of space 'cells', expected 'chains'"):
        MeasurementFile(written, "chains")
    assert contents(written.parent) == before


def _truncated(path):
    path.write_bytes(path.read_bytes()[:300])


def _text(path):
    path.write_text("hello")


def _parted(path):
    path.with_name("m.devices.json").unlink()


def _other_devices(path):
    path.with_name("m.devices.json").write_text('{"space": "cells", "devices": {}}')


def _half_devices(path):
    other = path.with_name("m.devices.json")
    other.write_bytes(other.read_bytes()[:100])


def _changed_device(path):
    other = path.with_name("m.devices.json")
    other.write_text(other.read_text().replace('"threads": 2', '"threads": 3'))


def _no_reference(path):
    other = path.with_name("m.devices.json")
    other.write_text(other.read_text().replace('"reference_ms": 1.5', '"reference_ms": -1.5'))


def _table(**change):
    def rewrite(path):
        table = pd.read_parquet(path)
        table.assign(**change).to_parquet(path, index=False)

    rewrite.__name__ = "_".join(change)
    return rewrite


def _dropped(path):
    pd.read_parquet(path).drop(columns="runs").to_parquet(path, index=False)


def _foreign(path):
    pd.DataFrame({"arch": ["a"], "latency_ms": [1.0]}).to_parquet(path, index=False)


@pytest.mark.parametrize(
    "damage",
    [
        *(
            _truncated,
            _text,
            _parted,
            _other_devices,
            _half_devices,
            _changed_device,
            _no_reference,
            _dropped,
            _foreign,
        ),
        *(_table(extra=1), _table(latency_ms=float("nan")), _table(low_ms=-1.0), _table(low_ms=99.0)),
        *(_table(latency_ms="1"), _table(runs=0.5), _table(arch="a"), _table(arch=1), _table(device="unknown")),
    ],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_a_truncated_or_foreign_file_is_refused_in_one_line_and_left_alone(damage, written):
    damage(written)
    before = contents(written.parent)
    with pytest.raises(InvalidTable) as caught:
        MeasurementFile(written, "cells")
    assert "\n" not in str(caught.value)
    assert "m." in str(caught.value)
    assert contents(written.parent) == before


def test_only_parquet_is_written_and_only_what_exists_is_read(tmp_path):
    with pytest.raises(InvalidTable, match=r"ends in \.parquet"):
        MeasurementFile(tmp_path / "m.csv", "cells")
    with pytest.raises(InvalidTable, match="does not exist"):
        MeasurementFile(tmp_path / "m.parquet")


@pytest.mark.parametrize("change", [{"reference": 1}, {"reference_ms": "1"}, {"reference_ms": 0}, {"more": 1}], ids=str)
def test_a_foreign_device_is_refused_in_one_line(change, device):
    assert MeasuredDevice.from_json(json.loads(json.dumps(device.to_json()))) == device
    with pytest.raises(InvalidCheckpoint) as caught:
        MeasuredDevice.from_json({**device.to_json(), **change})
    assert "\n" not in str(caught.value)
