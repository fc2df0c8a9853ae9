"""How far a training is: weights, momenta and steps, kept in memory and in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, RunConflict
from archgen.supernets.training.updates import Updates

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

    It has no trace of how many processes train: each reads it, the first one writes it.

    Args:
        updates: What is trained, with momenta.
        path: File to read and write; None for memory alone.
        memory: What else the training knows, kept with it.

    Raises:
        InvalidCheckpoint: The file is truncated or of another network.
        RunConflict: Not all processes read the same file.
    """

    def __init__(self, updates: Updates, path: Path | None, memory: Memory | None = None) -> None:
        self.updates, self.path, self.memory = updates, path, memory
        self.steps = 0
        """Steps that were made."""
        self.scale = 1.0
        """Of the learning rate: 1, or a half after a roll-back."""
        self.ended = False
        """Whether the training was ended before its schedule was."""
        if path is not None and path.exists():
            self._load(artifacts.read_tensors(path))
        if not updates.processes.agree(self.steps):
            raise RunConflict(f"{path} is not the same for all processes; put it on a disk that all of them see")
        self._kept = self._state()

    def keep(self) -> None:
        """Remember this state, in the file too where there is one."""
        self._kept = self._state()
        if self.path is not None and self.updates.processes.rank == 0:
            artifacts.write_tensors(self.path, self._kept)

    def roll_back(self) -> bool:
        """Go back to the last state that was kept and halve the learning rate; False where that was done before."""
        if self.scale < 1:
            return False
        self._load(self._kept)
        self.scale = HALF
        return True

    def _state(self) -> dict[str, Tensor]:
        weights = self.updates.module.state_dict()
        state = {f"module.{name}": value.detach().clone() for name, value in weights.items()}
        state |= self.updates.state()
        if self.memory is not None:
            state |= {f"memory.{name}": value.clone() for name, value in self.memory.state().items()}
        state |= {"steps": torch.tensor(self.steps), "scale": torch.tensor(self.scale)}
        return state | {"ended": torch.tensor(True)} if self.ended else state

    def _load(self, state: dict[str, Tensor]) -> None:
        steps, scale = state.get("steps"), state.get("scale")
        if steps is None or scale is None or steps.numel() != 1 or scale.numel() != 1:
            raise InvalidCheckpoint(f"{self.path} does not say how far it was trained; remove it to start anew")
        weights = {name[7:]: value for name, value in state.items() if name.startswith("module.")}
        artifacts.load_weights(self.updates.module, weights, str(self.path))
        self.updates.load_state(state, str(self.path))
        if self.memory is not None:
            known = {name[7:]: value.clone() for name, value in state.items() if name.startswith("memory.")}
            own = self.memory.state()
            if {name: value.shape for name, value in known.items()} != {name: v.shape for name, v in own.items()}:
                raise InvalidCheckpoint(
                    f"{self.path} is of another training strategy, or version; remove it to start anew"
                )
            self.memory.load_state(known)
        self.steps, self.scale, self.ended = int(steps), float(scale), "ended" in state
