"""Records of devices and measurements."""

from __future__ import annotations

import json
import platform
from dataclasses import replace

import pytest

from archgen.errors import InvalidCheckpoint
from archgen.hardware import DeviceRecord, LatencyMeasurement
from archgen.hardware import record as record_module
from archgen.hardware.record import cpu_name, gpu_name


@pytest.fixture
def record():
    return DeviceRecord.here(
        runtime="onnxruntime", version="1", provider="CPUExecutionProvider", threads=2, batch=1, shape=(3, 32, 32)
    )


def test_a_record_survives_json(record):
    assert DeviceRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_record_describes_the_machine_and_names_no_host(record):
    assert record.cores >= 1
    assert record.python == platform.python_version()
    assert "host" not in " ".join(record.to_json())
    assert not platform.node() or platform.node() not in json.dumps(record.to_json())


@pytest.mark.parametrize(
    "change",
    [
        *({"threads": "2"}, {"threads": True}, {"cpu": None}, {"gpu": 1}, {"foreign": 1}),
        *({"shape": [3, 32]}, {"shape": 3}, {"shape": [32.0]}, {"shape": []}),
    ],
    ids=str,
)
def test_a_foreign_record_is_refused_in_one_line(record, change):
    with pytest.raises(InvalidCheckpoint) as caught:
        DeviceRecord.from_json({**record.to_json(), **change})
    assert "\n" not in str(caught.value)


def test_a_record_without_a_field_is_refused(record):
    value = record.to_json()
    del value["cpu"]
    with pytest.raises(InvalidCheckpoint, match="cpu"):
        DeviceRecord.from_json(value)


def test_two_settings_are_two_records_with_two_names(record):
    other = replace(record, threads=1)
    assert other != record
    assert other.id != record.id
    assert replace(other, threads=2).id == record.id
    assert record.id.isalnum()


def test_a_record_of_tokens_survives_json_and_so_does_its_name(record):
    tokens = replace(record, shape=(512,), gpu="A GPU")
    again = DeviceRecord.from_json(json.loads(json.dumps(tokens.to_json())))
    assert (again, again.id) == (tokens, tokens.id)


def test_a_record_from_before_graphics_processors_is_of_a_cpu(record):
    value = record.to_json()
    assert value.pop("gpu") == "none"
    assert DeviceRecord.from_json(value) == record


def test_the_graphics_processor_is_read_from_pytorch_or_the_driver_or_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(record_module.torch.cuda, "is_available", lambda: False)
    assert gpu_name(tmp_path) == "unknown"
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t Example GPU\nIRQ: 12\n")
    assert gpu_name(tmp_path) == "Example GPU"
    monkeypatch.setattr(record_module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(record_module.torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert gpu_name(tmp_path) == "GPU 0"


def test_the_processor_is_read_from_the_system_or_unknown(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Example CPU @ 3 GHz\nmodel name\t: Other\n")
    assert cpu_name(info) == "Example CPU @ 3 GHz"
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu_name(tmp_path / "absent") == "unknown"


def test_a_measurement_is_json():
    measured = LatencyMeasurement(1.0, 0.9, 1.1, 0.2, 30)
    assert json.loads(json.dumps(measured.to_json()))["low_ms"] == 0.9
