import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The tensors of the tests are tiny: threads would only wait for one another."""
    torch.set_num_threads(1)
