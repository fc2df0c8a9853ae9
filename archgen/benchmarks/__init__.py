"""Published benchmarks in their publishers' files, one file a benchmark."""

from archgen.benchmarks.base import BENCHMARKS, Reader
from archgen.benchmarks.hw_nas_bench import read_hw_nas_bench
from archgen.benchmarks.nas_bench_graph import read_nas_bench_graph
from archgen.benchmarks.nasbench101 import read_nasbench101
from archgen.benchmarks.nats_bench import read_nats_bench

__all__ = [
    "BENCHMARKS",
    "Reader",
    "read_hw_nas_bench",
    "read_nas_bench_graph",
    "read_nasbench101",
    "read_nats_bench",
]
