"""A method's state as parameters and buffers of a module, so that torch moves, lists and saves it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from dynapilco.inference.method import State


class StateHolder(nn.Module):
    """Holds the tensors of a state: trainable ones as ``nn.Parameter``, all others as buffers.

    Parameters
    ----------
    trainable : collection of str
        Names of the tensors that a user's optimiser may train.
    """

    def __init__(self, trainable: Collection[str]) -> None:
        super().__init__()
        self.trainable = frozenset(trainable)

    def live(self) -> State:
        """The tensors themselves: gradients reach the parameters."""
        return {**dict(self._parameters), **dict(self._buffers)}  # pyright: ignore[reportReturnType]

    def plain(self) -> State:
        """The same storage without gradients: what a fit changes in place."""
        return {name: tensor.detach() for name, tensor in self.live().items()}

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over whatever tensors the saved state had: a fit adds to those of a fresh one."""
        held = self.live()["params"]
        saved = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        if "params" not in saved or saved["params"].shape != held.shape:
            error_msgs.append(f"{prefix}params: expected shape {tuple(held.shape)}")
            return
        self.store({name: tensor.to(held.device) for name, tensor in saved.items()})

    @torch.no_grad()
    def store(self, state: State) -> None:
        """Take over ``state``; tensors of the same shape keep their identity, so optimisers stay attached."""
        for name in set(self.live()) - set(state):
            delattr(self, name)
        for name, tensor in state.items():
            held: Tensor | None = self.live().get(name)
            if held is not None and held.shape == tensor.shape and held.dtype == tensor.dtype:
                if held.data_ptr() != tensor.data_ptr():
                    held.copy_(tensor)
                continue
            if held is not None:
                delattr(self, name)
            if name in self.trainable:
                self.register_parameter(name, nn.Parameter(tensor.detach().clone()))
            else:
                self.register_buffer(name, tensor.detach().clone())
