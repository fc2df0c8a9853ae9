"""From the losses of a step to moved weights: precision, processes, clipping, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidCheckpoint
from archgen.supernets.base import Norm
from archgen.supernets.training.gradients import Gradients
from archgen.supernets.training.precision import Precision
from archgen.supernets.training.processes import Batch, Processes

MOMENTUM = "momentum_buffer"


def image_format(device: torch.device) -> torch.memory_format:
    """How images are stored for training: channels last, but not on CPUs that have AVX2 and no AVX-512.

    There the convolutions of oneDNN in torch 2.13 write beyond their memory in the backward pass when channels are few
    and last (`free(): invalid next size`, seen on an AMD EPYC); without oneDNN, or with channels first, they do not.
    """
    unsafe = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.contiguous_format if unsafe else torch.channels_last


class Updates(Gradients):
    """Gradients are averaged over the whole batch after all backward passes of a step, then applied.

    Single paths leave most weights of a supernet without a gradient, and each step others, so gradients are not
    averaged by hooks in the backward pass, as `DistributedDataParallel` does, but all at once: those that any process
    has. Parts of unequal size count by their images. The moving statistics of batch normalisation become the mean of
    those of the processes, so that weights and statistics are the same in all.

    Args:
        module: What is trained; on the device where it is trained.
        optimizer: Of its parameters.
        processes: Which train together.
        precision: Of the forward passes.
        channels_last: Whether images and the weights of convolutions are stored channels last, which GPUs with
            half-precision units want, and which saves a quarter to a half of a step on a CPU
            (`experiments/channels_last.py`). Where `image_format` forbids it they are not.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        processes: Processes | None = None,
        precision: str = "no",
        channels_last: bool = True,
    ) -> None:
        self.module, self.optimizer = module, optimizer
        self.processes, self.precision = processes or Processes(), Precision(precision)
        self.parameters = list(module.parameters())  # to walk through a supernet's modules takes a tenth of a step
        self.device = self.parameters[0].device if self.parameters else torch.device("cpu")
        """Where the module is."""
        self.format = image_format(self.device) if channels_last else torch.contiguous_format
        """How images and the weights of convolutions are stored."""
        module.to(memory_format=self.format)  # type: ignore[call-overload]

    def batch(self, batch: Batch) -> Batch:
        """The part of a batch that is this process's, on its device."""
        x, y = self.processes.share(batch)
        x, y = x.to(self.device), y.to(self.device)
        return (x.contiguous(memory_format=self.format) if x.ndim == 4 else x), y

    def backward(self, loss: Float[Tensor, ""]) -> None:
        if self.precision.dtype is None:
            return super().backward(loss)
        with torch.autocast(self.device.type, enabled=False):
            return super().backward(loss * self.precision.scale)

    def of(self, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        found = super().of(parameters)
        if self.processes.count > 1:
            found = [gradient.clone() for gradient in found]
            self._average(found)
        return found if self.precision.scale == 1 else [gradient / self.precision.scale for gradient in found]

    def fewest(self, images: int) -> int:
        return self.processes.whole // self.processes.count if self.processes.count > 1 else images

    def gather(self, values: Float[Tensor, "b ..."]) -> Float[Tensor, "n ..."]:
        if self.processes.count == 1:
            return values
        everywhere = values.new_zeros(self.processes.whole, *values.shape[1:])
        everywhere[self.processes.part] = values
        return self.processes.sum(everywhere)

    def mean(self, losses: Mapping[str, float]) -> dict[str, float]:
        """Losses over the whole batch from those over the parts."""
        if self.processes.count == 1:
            return dict(losses)
        values = torch.tensor(list(losses.values()), dtype=torch.float64, device=self.device)
        total = self.processes.sum(values * self.processes.weight)
        return dict(zip(losses, total.tolist(), strict=True))

    def clear(self) -> None:
        """Begin a step without gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def apply(self, clip: float, *, sound: bool = True) -> float:
        """Move the weights, where the gradient is finite.

        Args:
            clip: Largest norm of the gradient.
            sound: Whether the losses are finite; the weights stay as they are where they are not.

        Returns:
            The norm of the gradient before it was clipped; 0 where it overflowed in fp16 and the step was left out.
        """
        if self.processes.count > 1:
            self._average_all()
        gradients = super().of(self.parameters)
        if self.precision.scale != 1:
            torch._foreach_div_(gradients, self.precision.scale)
        norm = float(nn.utils.clip_grad_norm_([p for p in self.parameters if p.grad is not None], clip))
        if sound and math.isfinite(norm):
            self.optimizer.step()
            self.precision.succeeded()
        elif sound and self.precision.overflowed():
            return 0.0
        return norm

    def forget(self) -> None:
        """Begin with new momenta, since the weights were changed by others."""
        self.optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Momenta and the scale of the losses, by name; all processes must call it."""
        found = {f"momentum.{name}": value.clone() for name, value in self._momenta().items()}
        return found | {f"precision.{name}": value for name, value in self.precision.state().items()}

    def load_state(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Take what `state` gave, after the module has its weights.

        Raises:
            InvalidCheckpoint: A momentum of another shape; `origin` is named.
        """
        found = {}
        for name, parameter in self.module.named_parameters():
            momentum = state.get(f"momentum.{name}")
            if momentum is not None and momentum.shape != parameter.shape:
                raise InvalidCheckpoint(f"{origin}: the momentum of {name} has another shape; remove it to start anew")
            if momentum is not None:
                found[name] = momentum.clone().to(parameter.device)
        self._set_momenta(found)
        self.precision.load_state({name[10:]: v for name, v in state.items() if name.startswith("precision.")})

    def _momenta(self) -> dict[str, Tensor]:
        states = {name: self.optimizer.state.get(p, {}).get(MOMENTUM) for name, p in self.module.named_parameters()}
        return {name: momentum for name, momentum in states.items() if momentum is not None}

    def _set_momenta(self, momenta: Mapping[str, Tensor]) -> None:
        for name, parameter in self.module.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter][MOMENTUM] = momenta[name]
            else:
                self.optimizer.state.pop(parameter, None)

    def _average_all(self) -> None:
        """Gradients that any process has, and the moving statistics."""
        parameters = [p for p in self.parameters if p.requires_grad]
        exist = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        for p, times in zip(parameters, self.processes.sum(exist).tolist(), strict=True):
            if times > 0 and p.grad is None:
                p.grad = torch.zeros_like(p)
        self._average([*super().of(parameters), *statistics(self.module)])

    def _average(self, tensors: Sequence[Tensor]) -> None:
        """Over the whole batch, in place and in one message."""
        if not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors]) * self.processes.weight
        parts = torch.split(self.processes.sum(flat), [t.numel() for t in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def statistics(module: nn.Module) -> list[Tensor]:
    """The moving means and variances of batch normalisation."""
    norms = [m for m in module.modules() if isinstance(m, Norm)]
    return [value for m in norms for value in (m.running_mean, m.running_var) if value is not None]
