"""Choosing where tensors live."""

from __future__ import annotations

import torch

from dynapilco.core.errors import UserError


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... into a device that is there.

    Raises
    ------
    UserError
        When the device is unknown or this machine does not have it.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).item()  # the meta device has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device={str(device)!r} is not available here: expected 'auto', 'cpu' or a device that torch finds"
        ) from error
    return resolved
