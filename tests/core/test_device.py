"""Choosing a device."""

import pytest
import torch

from dynapilco.core.device import resolve_device
from dynapilco.core.errors import UserError


def test_known_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "cuda:99", "quantum"])
def test_devices_that_are_not_there_are_named_in_the_error(name):
    with pytest.raises(UserError, match="is not available here") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)
