"""Weights that modules of several widths and kernel sizes share: each is cut out of the largest one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from archgen.errors import InvalidArchitecture

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def structure(module: nn.Module) -> Hashable:
    """Equal for modules that can share weights: all but the numbers of channels and the kernels of images agrees.

    Depthwise convolutions may have different numbers of groups, others may not; kernels of sequences and strides are
    parts of the structure, kernels of images are none.
    """
    parts = tuple((name, type(part).__name__, *_constants(part)) for name, part in module.named_modules())
    return parts, tuple(module.state_dict())


def _constants(module: nn.Module) -> tuple[Hashable, ...]:
    """What tells a module apart besides its size; a class of ours names such attributes in `constants`."""
    if hasattr(module, "constants"):
        names: tuple[str, ...] = module.constants  # type: ignore[assignment]
        return tuple(getattr(module, name) for name in names)
    if not isinstance(module, CONVOLUTIONS):
        return ()
    depthwise = module.groups == module.in_channels > 1
    kernel = module.kernel_size if isinstance(module, nn.Conv1d) else ()
    return module.stride, module.dilation, module.bias is None, "depthwise" if depthwise else module.groups, kernel


@dataclass(frozen=True)
class _Cut:
    """How a tensor of one module lies in the shared one.

    Args:
        owner, attribute: Where the shared tensor is; looked up each time, since buffers are replaced when they move.
        shape: Of what is cut out.
        parts: Equal parts of the first dimension, each of which gives its first rows.
        kernels: Sizes of the kernel from the shared one to the wanted one, each transformed to the next.
    """

    owner: nn.Module
    attribute: str
    shape: torch.Size
    parts: int
    kernels: tuple[int, ...]


class SharedModule(nn.Module):
    r"""The largest of some modules of one structure, and how the others are cut out of it.

    A narrower module has the first channels; where a layer's outputs lie in several equal parts (its class says so in
    `parts`: queries, keys and values), the first channels of each part. A smaller kernel is the centre of the next
    larger one, multiplied by a learnt matrix that all channels share and that begins as the identity, as in
    Once-for-All (arXiv 1908.09791, section 3.3); without `transform` it is the centre itself (Single-Path NAS, arXiv
    1904.02877).

    Args:
        makers: Make the modules, at least one, all with equal `structure`; only the largest is made with weights.
        modules: What they make, on the meta device, where that is there already.
        transform: Whether kernels are transformed.

    Raises:
        ValueError: The modules have different structures.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], nn.Module]],
        modules: Sequence[nn.Module] | None = None,
        *,
        transform: bool = True,
    ) -> None:
        super().__init__()
        modules = [hollow(make) for make in makers] if modules is None else modules
        if len({structure(module) for module in modules}) != 1:
            raise ValueError("modules that share weights must be equal but for channels and kernels")
        self.largest = _union(modules, makers)
        self.dropout = True
        """Whether features are dropped in training mode."""
        self.transforms = nn.ParameterDict()
        self._kernels: dict[str, list[int]] = {}
        self._plans: dict[Hashable, tuple[nn.Module, dict[str, _Cut]]] = {}
        for name, part in self.largest.named_modules():
            if isinstance(part, nn.Conv2d):
                kernels = [module.get_submodule(name).weight.shape[-1] for module in modules]  # type: ignore[index]
                self._kernels[name] = sorted({int(k) for k in kernels}, reverse=True)
                for larger, smaller in pairwise(self._kernels[name]) if transform else ():
                    key = _transform_name(name, larger, smaller)
                    self.transforms[key] = nn.Parameter(torch.eye(smaller**2))

    @torch.no_grad()
    def sort_channels(self, kept: Sequence[nn.Module] = ()) -> None:
        """Put the channels inside of bottlenecks in order of importance, so that narrow ones keep the best.

        Once-for-All (arXiv 1908.09791, section 3.3): importance is the L1 norm of the weights that read a channel. As
        in its code, channels that a narrower module has already stay among those that it has, and the bottlenecks of
        squeeze-and-excitation are sorted too.

        Args:
            kept: Modules, cut out of this one, that compute what they did, as the largest one does; on any device.
        """
        for name, module in self.largest.named_modules():
            for axes in getattr(module, "hidden_axes", list)():
                state = module.state_dict()  # shares memory with the module
                *_, reader = axes
                weight, axis = state[reader], axes[reader]
                widths = {part.get_submodule(name).state_dict()[reader].shape[axis] for part in kept}
                importance = weight.abs().sum([i for i in range(weight.ndim) if i != axis])
                bounds = sorted({0, *widths, len(importance)})
                order = torch.cat(
                    [a + importance[a:b].argsort(descending=True, stable=True) for a, b in pairwise(bounds)]
                )
                for tensor, its_axis in axes.items():
                    state[tensor].copy_(state[tensor].index_select(its_axis, order))

    def state(self, key: Hashable, make: Callable[[], nn.Module]) -> dict[str, Tensor]:
        """State of a module: views of the shared tensors, or differentiable functions of them.

        Args:
            key: Of the module; equal keys make equal modules.
            make: Makes it, called once a key on the meta device.

        Raises:
            InvalidArchitecture: It is larger than all that the weights were made for, or of another structure.
        """
        plan = self._planned(key, make)[1]
        names = {id(part): name for name, part in self.largest.named_modules()} if self.transforms else {}
        return {name: self._cut(cut, names.get(id(cut.owner), "")) for name, cut in plan.items()}

    def forward(
        self,
        x: Tensor,
        key: Hashable,
        make: Callable[[], nn.Module],
        replaced: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Tensor:
        """Output of a module with the weights that are cut for it, or with those that are given in place of some.

        Batch-norm statistics are views, so those that training mode moves stay. Other arguments are as in `state`.
        """
        module, _ = self._planned(key, make)
        state = {**self.state(key, make), **replaced}
        constants = {name: value.to(x.device) for name, value in module.named_buffers() if name not in state}
        module.train(self.training)
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.train(self.training and self.dropout)
        out: Tensor = functional_call(module, {**constants, **state}, (x,))
        return out

    def _planned(self, key: Hashable, make: Callable[[], nn.Module]) -> tuple[nn.Module, dict[str, _Cut]]:
        if key not in self._plans:
            module = hollow(make)
            self._plans[key] = (module, self._plan(module))
        return self._plans[key]

    def _plan(self, module: nn.Module) -> dict[str, _Cut]:
        """Where each tensor of a module's state lies."""
        if structure(module) != structure(self.largest):
            raise InvalidArchitecture("a module has another structure than those that share these weights")
        plan = {}
        shared = self.largest.state_dict()
        for name, wanted in module.state_dict().items():
            if any(a > b for a, b in zip(wanted.shape, shared[name].shape, strict=True)):
                raise InvalidArchitecture(
                    f"{name} is {tuple(wanted.shape)}, more than the {tuple(shared[name].shape)} shared"
                )
            path, _, attribute = name.rpartition(".")
            kernels: tuple[int, ...] = ()
            if path in self._kernels and attribute == "weight":
                size = int(wanted.shape[-1])
                kernels = tuple(k for k in self._kernels[path] if k >= size)
                if kernels[-1] != size:
                    raise InvalidArchitecture(f"{name} has a kernel of {size}, shared are {self._kernels[path]}")
            parent, _, layer = path.rpartition(".")
            parts = getattr(self.largest.get_submodule(parent), "parts", {}).get(layer, 1)
            plan[name] = _Cut(self.largest.get_submodule(path), attribute, wanted.shape, parts, kernels)
        return plan

    def _cut(self, cut: _Cut, name: str) -> Tensor:
        value: Tensor = getattr(cut.owner, cut.attribute)
        if value.shape == cut.shape and len(cut.kernels) < 2:
            return value
        if cut.parts > 1:
            rows = value.view(cut.parts, -1, *value.shape[1:])[:, : cut.shape[0] // cut.parts].flatten(0, 1)
            return rows[(slice(None), *(slice(n) for n in cut.shape[1:]))]
        channels = cut.shape[:2] if cut.kernels else cut.shape
        value = value[tuple(slice(n) for n in channels)]
        for larger, smaller in pairwise(cut.kernels):
            value = centre(value, smaller)
            key = _transform_name(name, larger, smaller)
            if key in self.transforms:
                value = (value.flatten(2) @ self.transforms[key].T).view(value.shape)
        return value


def hollow(make: Callable[[], nn.Module]) -> nn.Module:
    """A module with its weights and statistics on the meta device, so that they take no memory."""
    with torch.device("meta"):
        module = make()
    held = module.state_dict()
    if any(name not in held for name, _ in module.named_buffers()):
        with torch.random.fork_rng(devices=[]):
            module = make()  # tensors that are no part of the state are computed when it is made
        for name, value in module.state_dict(keep_vars=True).items():
            path, _, attribute = name.rpartition(".")
            empty = value.detach().to("meta")
            own = nn.Parameter(empty) if isinstance(value, nn.Parameter) else empty
            setattr(module.get_submodule(path), attribute, own)
    return module


def centre(kernel: Float[Tensor, "o i k k"], size: int) -> Float[Tensor, "o i s s"]:
    """The middle of a kernel, of `size` rows and columns."""
    start = (kernel.shape[-1] - size) // 2
    return kernel[..., start : start + size, start : start + size]


def _transform_name(layer: str, larger: int, smaller: int) -> str:
    return f"{layer.replace('.', '-')}-{larger}to{smaller}"


def _union(modules: Sequence[nn.Module], makers: Sequence[Callable[[], nn.Module]]) -> nn.Module:
    """The module with the most weights; tensors that are smaller than another module's are continued at random."""
    most = max(range(len(modules)), key=lambda i: sum(p.numel() for p in modules[i].parameters()))
    largest = makers[most]()
    states = [module.state_dict() for module in modules]
    for name, value in largest.state_dict(keep_vars=True).items():
        shape = tuple(map(max, zip(*(state[name].shape for state in states), strict=True)))
        if shape != tuple(value.shape):
            path, _, attribute = name.rpartition(".")
            setattr(largest.get_submodule(path), attribute, _grown(value, shape))
    return largest


def _grown(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A larger tensor around a given one, with values of its mean and deviation elsewhere."""
    data = value.detach()
    deviation = float(data.std(correction=0)) if math.prod(data.shape) > 1 else 0.0
    grown = torch.randn(shape) * deviation + data.mean()
    grown[tuple(slice(n) for n in data.shape)] = data
    return nn.Parameter(grown) if isinstance(value, nn.Parameter) else grown
