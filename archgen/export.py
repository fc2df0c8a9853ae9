"""What leaves archgen: a trained network as ONNX, and as weights with the architecture that rebuilds it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from archgen import artifacts
from archgen.errors import ArchgenError, InvalidArchitecture, InvalidCheckpoint, UnknownName
from archgen.graph import Architecture
from archgen.networks.folding import folded
from archgen.spaces import SearchSpace, load

_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
_HEADER = {"space": str, "arch": str, "graph": dict, "network": dict, "normalisation": dict, "classes": list}


def to_onnx(network: nn.Module, example: Tensor | tuple[int, ...], path: Path) -> None:
    """Write a network in evaluation mode as one ONNX file, `logits` out, any number of inputs at once.

    The input is called `image`, or `tokens` where it is of integers. Batch normalisation is folded into the
    convolutions before it (`archgen.networks.folding`).

    Source paths and stack traces, which the exporter writes into the file, are taken out: what is shipped tells
    nothing of the machine it was made on, and two exports of one network are equal to the byte.

    Args:
        network: Maps images `b x c x h x w`, or tokens `b x n`, to logits `b x classes`; its mode is as before
            afterwards.
        example: A batch of what the network reads (`SearchSpace.example_input`), or the shape `(channels, height,
            width)` of an image.
        path: Where to; replaced atomically.

    Raises:
        ArchgenError: The network has an operation that ONNX can not express.
        OSError: The file can not be written; what was there before stays.
    """
    one = example[:1] if isinstance(example, Tensor) else torch.zeros(1, *example)
    # Two of them, because the exporter takes a batch of one for a constant.
    batch = torch.cat([one, one]).to(next((p.device for p in network.parameters()), one.device))
    plain = folded(network)  # the exporter would fold them at its end, after 1.3 to 1.6 times the work
    with _quiet(), _operators_read_once():
        try:
            program = torch.onnx.export(
                plain,
                (batch,),
                dynamo=True,
                verbose=False,
                input_names=[_input_name(batch)],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise ArchgenError(f"the network can not be written as ONNX: {reason}; use other operations") from None
        assert program is not None  # always given with dynamo=True
        model = program.model_proto
    _strip(model)
    content = model.SerializeToString(deterministic=True)
    artifacts.write_atomic(path, lambda beside: _write_bytes(beside, content))


def random_inputs(example: Tensor, seed: int = 0) -> Tensor:
    """Random inputs of an example's shape and type for `check_onnx`: normal values, or the tokens 0 and 1."""
    rng = torch.Generator().manual_seed(seed)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=rng)
    return torch.randint(2, example.shape, generator=rng)


def _input_name(batch: Tensor) -> str:
    return "image" if batch.is_floating_point() else "tokens"


def open_onnx(path: Path, threads: int = 1, provider: str = "CPUExecutionProvider") -> onnxruntime.InferenceSession:
    """Open an ONNX file, sequential, with a fixed number of threads.

    Args:
        path: The file.
        threads: Threads of one operation.
        provider: What computes, the CPU by default; onnxruntime itself falls back to the CPU where it can not load it.

    Raises:
        InvalidCheckpoint: The file is missing or is not ONNX.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime has one class an error, without a common base
        reason = " ".join(str(error).split())[:160]
        raise InvalidCheckpoint(f"{path} can not be opened as an ONNX network ({reason}); export it again") from None


def check_onnx(network: nn.Module, path: Path, inputs: Tensor, tolerance: float = 1e-4) -> float:
    """Compare an exported file with its network, onnxruntime against PyTorch on the CPU.

    Args:
        network: What was exported.
        path: The ONNX file.
        inputs: Images as the network wants them, normalised, `b x c x h x w`; or tokens `b x n`.
        tolerance: Largest absolute difference of a logit that is accepted.

    Returns:
        The largest absolute difference.

    Raises:
        InvalidCheckpoint: The file is missing or is not ONNX.
        ArchgenError: The difference is above the tolerance or not finite.
    """
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    (logits,) = open_onnx(path).run(None, {_input_name(inputs): inputs.detach().cpu().numpy()})
    with evaluating(network), torch.no_grad():
        device = next((p.device for p in network.parameters()), inputs.device)
        expected = network(inputs.to(device)).cpu().numpy()
    difference = float(np.abs(logits - expected).max())
    if not difference <= tolerance:
        raise ArchgenError(
            f"{path} differs from its network by {difference:.3g}, expected at most {tolerance:g}; do not ship it, "
            "and check the weights for NaN or very large values"
        )
    return difference


def save_network(
    stem: Path,
    network: nn.Module,
    arch: Architecture,
    space: SearchSpace,
    arguments: Mapping[str, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[str],
    metrics: Mapping[str, float],
    space_file: str | None = None,
) -> tuple[Path, Path]:
    """Write `<stem>.safetensors` and `<stem>.json`, each atomically, the weights first.

    Args:
        stem: Path without an ending: `runs/demo/best`.
        network: The network whose weights are written.
        arch: What the network was built from: `space.build(arch, **arguments)`.
        space: The architecture's space.
        arguments: Keyword arguments of `space.build`.
        mean, std: Of each channel: an image is normalised by `(image - mean) / std` before the network sees it.
        classes: Name of each class, in the order of the logits.
        metrics: Finite values measured of the network; accuracies in percent, latencies in ms.
        space_file: TOML file of a space of your own, relative to the folder of the two files; None where its name does.

    Returns:
        Paths of the weights and of the JSON file.
    """
    weights, header = _paths(stem)
    artifacts.write_tensors(weights, network.state_dict())
    artifacts.write_json(
        header,
        {
            "kind": "network",
            "space": space.name,
            "arch": space.format(arch),
            "graph": arch.to_json(),
            "network": {name: int(value) for name, value in arguments.items()},
            "normalisation": {"mean": [float(v) for v in mean], "std": [float(v) for v in std]},
            "classes": [str(name) for name in classes],
            "metrics": {name: float(value) for name, value in metrics.items()},
            **({} if space_file is None else {"space_file": space_file}),
        },
    )
    return weights, header


def load_network(path: Path, space: SearchSpace | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a network from the two files of `save_network`.

    Args:
        path: The JSON file, or the weights beside it.
        space: Its space, where that is one of your own and its TOML file is not beside; None reads what the file names.
            Operations that a TOML file imports run only where they are trusted (`archgen.config.trusting`).

    Returns:
        The network in evaluation mode, and the content of the JSON file.

    Raises:
        InvalidCheckpoint: A file is missing, truncated or foreign, or the two do not belong together.
    """
    weights, content, path = _described(path)
    try:
        space = space or _space(path, content)
        arch = space.parse(content["arch"])
        if Architecture.from_json(content["graph"]) != arch:
            raise InvalidArchitecture("'arch' and 'graph' are two different architectures")
        network = space.build(arch, **content["network"])
    except (UnknownName, InvalidArchitecture, TypeError, ValueError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{path} describes no network: {error}; export the network again") from None
    artifacts.load_weights(network, artifacts.read_tensors(weights), str(weights))
    return network.eval(), content


def network_space(path: Path) -> SearchSpace:
    """The space of the two files of `save_network`; errors as of `load_network`."""
    _, content, path = _described(path)
    return _space(path, content)


def _space(path: Path, content: dict[str, Any]) -> SearchSpace:
    file = content.get("space_file")
    if file is None:
        try:
            return load(content["space"])
        except UnknownName as error:
            raise InvalidCheckpoint(f"{path}: {error}; if it is one of your own, give its TOML file: --space") from None
    if not isinstance(file, str) or ".." in Path(file).parts:
        raise InvalidCheckpoint(f"{path}: 'space_file' must be a path below the file's folder; export it again")
    if not path.parent.joinpath(file).is_file():
        raise InvalidCheckpoint(f"{path}: its space {path.parent / file} is not there; copy it too, or give --space")
    return load(path.parent / file)


def _described(path: Path) -> tuple[Path, dict[str, Any], Path]:
    """The weights, the content of the JSON file, and its path."""
    weights, header = _paths(path.with_name(path.name.removesuffix(".json").removesuffix(".safetensors")))
    path = header if path == weights else path
    if path.is_file() and path.suffix != ".json":
        raise InvalidCheckpoint(f"{path} does not describe a network; give the .json of an exported one")
    content = artifacts.read_json(path)
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind != "network":
        raise InvalidCheckpoint(
            f"{path} holds kind {kind!r}, expected 'network'; give the .json of an exported network"
        )
    for key, expected in _HEADER.items():
        if not isinstance(content.get(key), expected):
            raise InvalidCheckpoint(f"{path}: '{key}' must be of type {expected.__name__}; export the network again")
    return weights, content, path


def _paths(stem: Path) -> tuple[Path, Path]:
    # Not with_suffix: a stem such as "best.v2" keeps its dot.
    return stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put a network into evaluation mode for the body of a `with`; each module gets its own mode back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its steps, warns of its own deprecations and logs absent packages: none is the user's."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for logger, level in zip(loggers, levels, strict=True):
            stack.callback(logger.setLevel, level)
            logger.setLevel(logging.CRITICAL)
        yield


@contextlib.contextmanager
def _operators_read_once() -> Iterator[None]:
    """The exporter reads the source of each ONNX operator it knows anew for each network, which takes half a second.

    Its registry is private; where a release of torch has another, nothing is kept.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        before = ONNXRegistry.__dict__["from_torchlib"]
    except (ImportError, KeyError):
        yield
        return
    kept = staticmethod(partial(_operators, before.__get__(None, ONNXRegistry)))
    ONNXRegistry.from_torchlib = kept  # type: ignore[method-assign]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = before  # type: ignore[method-assign]


@cache
def _operators(read: Callable[..., Any], **version: int) -> Any:
    """What `read` gives, of each version once; exporting does not change it."""
    return read(**version)


def _strip(model: onnx.ModelProto) -> None:
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        parts = [*graph.node, *graph.value_info]
        if isinstance(graph, onnx.GraphProto):
            parts += [*graph.input, *graph.output, *graph.initializer]
        for part in parts:
            part.doc_string = ""
            del part.metadata_props[:]


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
