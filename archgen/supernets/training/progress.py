"""How far a training is: weights, momenta and steps, kept in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from archgen import artifacts
from archgen.errors import InvalidCheckpoint

HALF = 0.5


class Memory(Protocol):
    """What a training learns besides weights."""

    @property
    def restarted(self) -> bool:
        """Whether the last step changed weights by itself, so that momenta mean nothing any more."""

    def state(self) -> dict[str, Tensor]:
        """All of it, by name."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""


class TrainingProgress:
    """The state of a training; read from its file when there is one.

    Args:
        module: What is trained.
        optimizer: Its SGD with momentum.
        path: File to read and write; None for memory alone.
        memory: What else the training knows, kept with it.

    Raises:
        InvalidCheckpoint: The file is truncated or of another network.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        path: Path | None,
        memory: Memory | None = None,
    ) -> None:
        self.module, self.optimizer, self.path, self.memory = module, optimizer, path, memory
        self.steps = 0
        """Steps that were made."""
        self.scale = 1.0
        """Of the learning rate: 1, or a half after a roll-back."""
        if path is not None and path.exists():
            self._load(artifacts.read_tensors(path))
        self._kept = self._state()

    def keep(self) -> None:
        """Remember this state, in the file too where there is one."""
        self._kept = self._state()
        if self.path is not None:
            artifacts.write_tensors(self.path, self._kept)

    def roll_back(self) -> bool:
        """Go back to the last state that was kept and halve the learning rate; False where that was done before."""
        if self.scale < 1:
            return False
        self._load(self._kept)
        self.scale = HALF
        return True

    def _state(self) -> dict[str, Tensor]:
        state = {f"module.{name}": value.detach().clone() for name, value in self.module.state_dict().items()}
        state |= {f"momentum.{name}": value.clone() for name, value in self._momenta()}
        if self.memory is not None:
            state |= {f"memory.{name}": value.clone() for name, value in self.memory.state().items()}
        return state | {"steps": torch.tensor(self.steps), "scale": torch.tensor(self.scale)}

    def _momenta(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.module.named_parameters():
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                yield name, momentum

    def _load(self, state: dict[str, Tensor]) -> None:
        steps, scale = state.get("steps"), state.get("scale")
        if steps is None or scale is None or steps.numel() != 1 or scale.numel() != 1:
            raise InvalidCheckpoint(f"{self.path} does not say how far it was trained; remove it to start anew")
        weights = {name[7:]: value for name, value in state.items() if name.startswith("module.")}
        artifacts.load_weights(self.module, weights, str(self.path))
        for name, parameter in self.module.named_parameters():
            momentum = state.get(f"momentum.{name}")
            if momentum is None:
                self.optimizer.state.pop(parameter, None)
                continue
            if momentum.shape != parameter.shape:
                raise InvalidCheckpoint(
                    f"{self.path}: the momentum of {name} has another shape; remove it to start anew"
                )
            self.optimizer.state[parameter]["momentum_buffer"] = momentum.clone().to(parameter.device)
        if self.memory is not None:
            known = {name[7:]: value.clone() for name, value in state.items() if name.startswith("memory.")}
            own = self.memory.state()
            if {name: value.shape for name, value in known.items()} != {name: v.shape for name, v in own.items()}:
                raise InvalidCheckpoint(f"{self.path} is of another training strategy; remove it to start anew")
            self.memory.load_state(known)
        self.steps, self.scale = int(steps), float(scale)
