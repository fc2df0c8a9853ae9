"""Measuring latency on real runtimes, one file a runtime."""

from archgen.hardware.base import PROCESSORS, RUNTIMES, DeviceLost, LatencyMeter
from archgen.hardware.block_survey import block_file, block_latencies, measure_blocks
from archgen.hardware.measurements import MeasuredDevice, MeasurementFile
from archgen.hardware.onnx_latency import OnnxLatency, measure_files
from archgen.hardware.part import Part
from archgen.hardware.ranking import Rank, faster, ranks, tied_groups
from archgen.hardware.record import DeviceRecord, LatencyMeasurement
from archgen.hardware.remote import RemoteMeter
from archgen.hardware.survey import Survey, draw_distinct, measure_missing
from archgen.hardware.timing import Timing, interleaved
from archgen.hardware.torch_compile_latency import TorchCompileLatency
from archgen.hardware.torch_latency import TorchLatency

__all__ = [
    "PROCESSORS",
    "RUNTIMES",
    "DeviceLost",
    "DeviceRecord",
    "LatencyMeasurement",
    "LatencyMeter",
    "MeasuredDevice",
    "MeasurementFile",
    "OnnxLatency",
    "Part",
    "Rank",
    "RemoteMeter",
    "Survey",
    "Timing",
    "TorchCompileLatency",
    "TorchLatency",
    "block_file",
    "block_latencies",
    "draw_distinct",
    "faster",
    "interleaved",
    "measure_blocks",
    "measure_files",
    "measure_missing",
    "ranks",
    "tied_groups",
]
