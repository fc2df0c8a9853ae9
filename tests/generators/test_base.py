"""Checkpoints of generators that are not whole, or not generators."""

import json
from pathlib import Path

import pytest
import torch

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, UnknownName
from archgen.generators import DiscreteFlow, load_generator
from archgen.spaces import SearchSpace


@pytest.fixture
def saved(space: SearchSpace, tmp_path: Path) -> Path:
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2, eta=0.5, candidates=3)
    flow.save("discrete_flow", tmp_path, {"space": "nasbench201"}, "# card\n")
    return tmp_path


def change(folder: Path, **changes: object) -> None:
    header = json.loads((folder / artifacts.CONFIG).read_text())
    header |= {key: value for key, value in changes.items() if key in header}
    header["config"] |= {key: value for key, value in changes.items() if key not in header}
    (folder / artifacts.CONFIG).write_text(json.dumps(header))


def test_a_generator_comes_back_ready_to_sample_with_its_arguments(saved: Path) -> None:
    flow = load_generator(saved)
    assert isinstance(flow, DiscreteFlow)
    assert (flow.eta, flow.candidates, flow.encoder.width) == (0.5, 3, 8)
    assert not flow.training


def test_an_unknown_generator_gets_a_suggestion(saved: Path) -> None:
    change(saved, name="discrete_flaw")
    with pytest.raises(UnknownName, match="unknown generator 'discrete_flaw': did you mean 'discrete_flow'"):
        load_generator(saved)


@pytest.mark.parametrize("arguments", [{"breadth": 8}, {"width": "wide"}, []])
def test_arguments_that_it_does_not_have_are_refused(saved: Path, arguments: object) -> None:
    change(saved, arguments=arguments)
    with pytest.raises(InvalidCheckpoint):
        load_generator(saved)


def test_weights_of_another_size_are_refused(saved: Path) -> None:
    change(saved, arguments={"width": 16, "layers": 1, "heads": 2})
    with pytest.raises(InvalidCheckpoint, match="of another shape"):
        load_generator(saved)


def test_weights_without_a_domain_are_refused(saved: Path) -> None:
    artifacts.write_tensors(saved / artifacts.WEIGHTS, {"other": torch.zeros(1)})
    with pytest.raises(InvalidCheckpoint, match=r"not a whole discrete_flow checkpoint .*node_domain"):
        load_generator(saved)
