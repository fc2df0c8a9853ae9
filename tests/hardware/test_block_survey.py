"""Measuring the blocks of a chain into a file."""

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidTable, RunConflict
from archgen.hardware import MeasurementFile, OnnxLatency, block_file, block_latencies, measure_blocks
from archgen.hardware import block_survey as module
from archgen.spaces.chain_blocks import CALL, ChainBlocks


@pytest.fixture(scope="module")
def blocks():
    return ChainBlocks(spaces.load("nasbench_macro")).all()


@pytest.fixture
def pretended_blocks(monkeypatch, costly):
    """Each block takes 1 + FLOPs ms, an empty network 1 ms."""

    def part(network, example):
        return costly(1.0 + sum(p.numel() for p in network.parameters()))

    monkeypatch.setattr(module, "Part", part)


def test_every_block_is_measured_without_what_a_call_takes(blocks, tmp_path, pretended, pretended_blocks):
    file, meter = block_file(tmp_path / "b.parquet", "nasbench_macro"), pretended()
    assert measure_blocks(meter, blocks, file, seed=0).measured == len(blocks) + 1
    found = block_latencies(file, meter.device.id)
    sizes = {name: float(sum(p.numel() for p in block.make().parameters())) for name, block in blocks.items()}
    assert found == pytest.approx({CALL: 1.0, **sizes})


def test_an_interrupted_survey_goes_on(blocks, tmp_path, pretended, pretended_blocks, machine):
    path, names = tmp_path / "b.parquet", list(blocks)
    measure_blocks(pretended(), {name: blocks[name] for name in names[:5]}, block_file(path, "nasbench_macro"), seed=0)
    machine.slow = 3.0
    done = measure_blocks(pretended(), blocks, block_file(path, "nasbench_macro"), seed=1)
    assert done.measured == len(blocks) - 5
    found = block_latencies(block_file(path, "nasbench_macro"), pretended().device.id)
    assert found[names[-1]] == pytest.approx(sum(p.numel() for p in blocks[names[-1]].make().parameters()))


def test_files_of_blocks_and_of_architectures_do_not_mix(blocks, tmp_path, pretended, pretended_blocks):
    path = tmp_path / "b.parquet"
    measure_blocks(pretended(), dict(list(blocks.items())[:1]), block_file(path, "nasbench_macro"), seed=0)
    with pytest.raises(RunConflict, match="is of space 'blocks of nasbench_macro', expected 'nasbench_macro'"):
        MeasurementFile(path, "nasbench_macro")
    with pytest.raises(InvalidTable, match="no blocks measured on device nowhere"):
        block_latencies(block_file(path, "nasbench_macro"), "nowhere")


def test_blocks_of_several_shapes_are_timed_together_by_a_real_runtime(tmp_path):
    blocks = ChainBlocks(spaces.load("nasbench_macro")).all()
    some = {name: block for name, block in blocks.items() if name.startswith(("conv 32", "head", "stem"))}
    assert len({block.example.shape for block in some.values()}) == 3
    file = block_file(tmp_path / "b.parquet", "nasbench_macro")
    meter = OnnxLatency((3, 32, 32), rounds=5, block_ms=0.5)
    assert measure_blocks(meter, some, file, seed=0).measured == 4
    found = block_latencies(file, meter.device.id)
    assert found.keys() == {CALL, *some}
    assert all(np.isfinite(ms) for ms in found.values())
