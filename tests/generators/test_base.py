"""Checkpoints of generators: whole ones come back with all that belongs to them, others are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from archgen import artifacts
from archgen.conditions import Conditions
from archgen.errors import InvalidCheckpoint, UnknownName
from archgen.generators import DiscreteFlow, NoisedPredictor, OneStep, load_generator
from archgen.generators.base import Start
from archgen.spaces import SearchSpace


@pytest.fixture
def saved(space: SearchSpace, tmp_path: Path) -> Path:
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2, eta=0.5)
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
    assert (flow.eta, flow.distortion, flow.encoder.width, flow.conditions) == (0.5, "cubic", 8, 0)
    assert flow.properties is None
    assert flow.noised is None
    assert not flow.training


@pytest.mark.parametrize("kind", [DiscreteFlow, OneStep])
def test_conditions_and_the_noised_predictor_come_back_too(
    space: SearchSpace, tmp_path: Path, rng: np.random.Generator, kind: type[DiscreteFlow] | type[OneStep]
) -> None:
    size = {"width": 8, "layers": 1, "heads": 2} if kind is DiscreteFlow else {"components": 4, "cuts": [-0.5, 1.0]}
    generator = kind(space.node_domain, space.edge_domain, conditions=2, **size).eval()  # type: ignore[arg-type]
    generator.properties = Conditions.fit({"acc": rng.normal(90, 3, 200), "ms": rng.exponential(2, 200)})
    generator.noised = NoisedPredictor(space.node_domain, space.edge_domain, ["acc", "ms"], width=8, layers=1)
    generator.save("discrete_flow" if kind is DiscreteFlow else "one_step", tmp_path, {}, "# card\n")
    again = load_generator(tmp_path)
    assert isinstance(again, kind)
    assert again.conditions == 2
    assert again.properties is not None
    assert again.noised is not None
    assert again.properties.metrics == again.noised.metrics == ("acc", "ms")
    assert again.properties.vector({"ms": 2.0}) == pytest.approx(
        generator.properties.vector({"ms": 2.0}), abs=1e-5, nan_ok=True
    )
    graphs, t = space.encode(space.sample(4, rng)), torch.rand(4)
    with torch.no_grad():
        assert torch.equal(generator.noised(graphs, t), again.noised.eval()(graphs, t))
    condition = torch.tensor([[0.5, torch.nan], [2.0, -1.0], [-2.0, 0.0], [torch.nan, torch.nan]])
    drawn = [g.sample(4, condition=condition, generator=torch.Generator().manual_seed(0)) for g in (generator, again)]
    assert torch.equal(drawn[0].ops, drawn[1].ops)


def test_an_unknown_generator_gets_a_suggestion(saved: Path) -> None:
    change(saved, name="discrete_flaw")
    with pytest.raises(UnknownName, match="unknown generator 'discrete_flaw': did you mean 'discrete_flow'"):
        load_generator(saved)


@pytest.mark.parametrize("arguments", [{"breadth": 8}, {"width": "wide"}, []])
def test_arguments_that_it_does_not_have_are_refused(saved: Path, arguments: object) -> None:
    change(saved, arguments=arguments)
    with pytest.raises(InvalidCheckpoint):
        load_generator(saved)


@pytest.mark.parametrize(
    "facts",
    [
        {"properties": []},
        {"properties": {"metrics": ["acc"], "values": [[0.0, 1.0]]}},
        {"properties": {"metrics": ["acc"], "values": [[0.0, 1.0]], "scores": [[0.0]]}},
        {"properties": {"metrics": ["a", "b"], "values": [[0.0, 1.0]], "scores": [[0.0, 1.0]]}},
        {"noised": {"breadth": 8}},
        {"noised": {"metrics": ["acc"], "width": "wide"}},
        {"noised": {"metrics": ["acc"], "width": 8, "layers": 1, "heads": 2}},
        {"noised": {"metrics": ["acc"], "width": 8, "layers": 1}},
    ],
)
def test_scales_and_predictors_that_are_not_whole_are_refused_in_one_line(
    saved: Path, facts: dict[str, object]
) -> None:
    """The last but one is of an older version; the last is whole in the config, but its weights are not there."""
    change(saved, **facts)
    with pytest.raises(InvalidCheckpoint) as error:
        load_generator(saved)
    assert "\n" not in str(error.value)


def test_weights_of_another_size_are_refused(saved: Path) -> None:
    change(saved, arguments={"width": 16, "layers": 1, "heads": 2})
    with pytest.raises(InvalidCheckpoint, match="of another shape"):
        load_generator(saved)


def test_weights_without_a_domain_are_refused(saved: Path) -> None:
    artifacts.write_tensors(saved / artifacts.WEIGHTS, {"other": torch.zeros(1)})
    with pytest.raises(InvalidCheckpoint, match=r"not a whole discrete_flow checkpoint .*node_domain"):
        load_generator(saved)


@pytest.mark.parametrize("t", [0.0, -0.1, 1.1, float("nan")])
def test_a_start_outside_the_times_there_are_is_refused(space: SearchSpace, t: float) -> None:
    with pytest.raises(ValueError, match=r"expected a time in \(0, 1\] to set out from"):
        Start(space.encode([]), t)
