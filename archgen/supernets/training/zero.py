"""Updates by DeepSpeed ZeRO: momenta, or gradients too, are divided among the processes (arXiv 1910.02054)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidOption, MissingExtra
from archgen.supernets.training.updates import MOMENTUM, Updates, statistics


class ZeroUpdates(Updates):
    """ZeRO of stage 1 or 2, with or without offload of the momenta to the CPU, as accelerate's configuration says.

    All weights lie in one flat tensor, so those that a step does not use have a gradient of 0 where they otherwise
    have none: they go on by their momentum, and decay. A training by single paths is thus another one than without
    DeepSpeed; where each step uses all weights it is the same.

    Stage 3 does not do: it gathers the weights of a layer when that layer is called, and supernets cut weights out of
    layers that they do not call. It was run with two processes on CPUs, by DeepSpeed 0.19; on GPUs never.

    Args:
        module: What is trained.
        optimizer: Its SGD with momentum.
        accelerator: The `accelerate.Accelerator` of the processes.
        clip: Largest norm of the gradient; replaces that of the configuration.
        options: As in `Updates`; no fp16.

    Raises:
        MissingExtra: An older DeepSpeed, that applies the gradients of each backward pass by themselves.
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Any, clip: float, **options: Any
    ) -> None:
        super().__init__(module, optimizer, **options)
        config = accelerator.state.deepspeed_plugin.deepspeed_config
        config["train_micro_batch_size_per_gpu"] = 1  # it only counts images by this
        config["managed_gradient_accumulation"] = False  # a step has as many backward passes as the strategy wants
        config["gradient_clipping"] = clip
        config["zero_force_ds_cpu_optimizer"] = False  # offloads SGD, not its own Adam
        self._engine, self.optimizer = accelerator.prepare(module, optimizer)
        if not hasattr(self._engine, "managed_gradient_accumulation"):  # it would keep the last backward pass alone
            raise MissingExtra("ZeRO needs DeepSpeed 0.19 or later: pip install -U deepspeed")
        self.forget()

    def backward(self, loss: Float[Tensor, ""]) -> None:
        with torch.autocast(self.device.type, enabled=False):  # it takes the mean over processes
            self._engine.backward(loss * (self.processes.weight * self.processes.count))

    def of(self, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        raise InvalidOption("the training strategy looks at gradients, which ZeRO divides; train without DeepSpeed")

    def clear(self) -> None:
        """Nothing: a step, also one that is left out, leaves no gradients."""

    def apply(self, clip: float, *, sound: bool = True) -> float:
        """As in `Updates`, but for a loss that is not finite with a gradient that is: the weights move, to be rolled
        back."""
        if self.processes.count > 1:
            self._average(statistics(self.module))
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def forget(self) -> None:
        self._set_momenta({})

    def _momenta(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        return {name: safe_get_full_optimizer_state(p, MOMENTUM) for name, p in self.module.named_parameters()}

    def _set_momenta(self, momenta: Mapping[str, Tensor]) -> None:
        """And take over the weights of the module, which may have been changed by others."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        zero = self._engine.optimizer
        for flat in zero.single_partition_of_fp32_groups:
            zero.optimizer.state[flat][MOMENTUM] = torch.zeros_like(flat)
        # it links all parameters to their momenta in the first step of the first group, when the others have none
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()
        for name, parameter in self.module.named_parameters():
            safe_set_full_fp32_param(parameter, parameter.detach())
            if name in momenta:
                safe_set_full_optimizer_state(parameter, momenta[name], MOMENTUM)
