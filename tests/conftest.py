import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The tensors of the tests are tiny: threads would only wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_initial_weights():
    """Networks take their initial weights from the global generator: let no test depend on the order of tests."""
    torch.manual_seed(0)
