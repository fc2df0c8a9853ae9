"""Measuring latency on a real runtime."""

from archgen.hardware.onnx_latency import OnnxLatency
from archgen.hardware.record import DeviceRecord, LatencyMeasurement
from archgen.hardware.timing import Timing, interleaved

__all__ = ["DeviceRecord", "LatencyMeasurement", "OnnxLatency", "Timing", "interleaved"]
