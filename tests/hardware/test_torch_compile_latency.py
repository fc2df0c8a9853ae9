"""Measuring compiled networks; one test compiles in earnest, the others watch the compiler being asked."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.hardware import TorchCompileLatency, torch_compile_latency

SHAPE = (1, 4, 4)


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A program of the compiler's name, which nobody calls."""
    path = tmp_path / "a-compiler"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ArchgenError, match="needs a C\\+\\+ compiler and finds no 'no-such-compiler'") as caught:
        TorchCompileLatency(SHAPE)
    assert "\n" not in str(caught.value)


def test_cuda_needs_triton_and_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_compile_latency.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArchgenError, match="needs Triton on cuda"):
        TorchCompileLatency(SHAPE, processor="cuda")
    monkeypatch.setattr(torch_compile_latency.importlib.util, "find_spec", lambda name: object())
    TorchCompileLatency(SHAPE, processor="cuda")


def test_each_network_is_compiled_for_its_one_shape_and_run_compiled(compiler, monkeypatch):
    asked, ran = [], []

    def compile_(network, **options):
        asked.append(options)
        return lambda x: ran.append(network(x).shape)

    monkeypatch.setattr(torch, "compile", compile_)
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(16, width)) for width in (2, 3)]
    measured = TorchCompileLatency(SHAPE, batch=2, rounds=5, block_ms=0.01).measure(networks, seed=0)
    assert asked == [{"dynamic": False}] * 2
    assert set(ran) == {(2, 2), (2, 3)}
    assert all(each.latency_ms > 0 for each in measured)


def test_a_network_that_does_not_compile_is_refused_and_not_run_eagerly(compiler, monkeypatch):
    def compile_(network, **options):
        def fails(x):
            raise RuntimeError("backend='inductor' raised:\nCppCompileError")

        return fails if isinstance(network, nn.Identity) else network

    monkeypatch.setattr(torch, "compile", compile_)
    meter = TorchCompileLatency(SHAPE, rounds=5, block_ms=0.01)
    refused, measured = meter.attempt([nn.Identity(), nn.Flatten()], seed=0)
    assert str(refused) == "torch_compile refuses the network: backend='inductor' raised: CppCompileError"
    assert measured.latency_ms > 0


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler")
def test_more_networks_of_a_class_than_pytorch_compiles_are_all_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    counters.clear()
    monkeypatch.setattr(config, "recompile_limit", 1)
    monkeypatch.setattr(config, "accumulated_recompile_limit", 1)
    threads = torch.get_num_threads()
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(16, width)) for width in (2, 3, 4)]
    measured = TorchCompileLatency(SHAPE, rounds=5, block_ms=0.01).measure(networks, seed=0)
    assert all(each.latency_ms > 0 for each in measured)
    assert counters["stats"]["unique_graphs"] == 3
    assert (config.recompile_limit, config.accumulated_recompile_limit) == (1, 1)
    assert not config.fail_on_recompile_limit_hit
    assert torch.get_num_threads() == threads
