"""Every method in double precision, and on a GPU where there is one."""

import pytest
import torch
from torch import nn

from dynapilco.inference import METHODS, BayesianModule

X = torch.linspace(-1, 1, 24).unsqueeze(-1)


def train(name, device="cpu", dtype=torch.float32):
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)).to(dtype)
    bnn = BayesianModule(net, name, inference_kwargs={"cold_steps": 24, "warm_steps": 12}).to(device)
    report = bnn.fit(X, torch.sin(X))
    assert not report.diverged
    x = X.to(device, dtype).requires_grad_(True)
    draw = bnn.draw(4)
    y = draw(x)
    assert (y.shape, y.dtype, y.device.type) == ((4, 24, 1), dtype, torch.device(device).type)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    p = bnn.predict(X)
    for tensor in (p.mean, p.epistemic, p.aleatoric, p.quantile(0.5), p.sample(3), p.log_prob(torch.sin(X).to(p.mean))):
        assert tensor.isfinite().all()
        assert tensor.device.type == torch.device(device).type
    for name_of_tensor, tensor in bnn.state.items():
        assert tensor.device.type == torch.device(device).type, name_of_tensor
        if name_of_tensor in ("params", "points"):
            assert tensor.dtype == dtype


@pytest.mark.parametrize("name", list(METHODS))
def test_double_precision(name):
    train(name, dtype=torch.float64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", list(METHODS))
def test_gpu(name):
    train(name, device="cuda")


def test_it_moves_like_any_module():
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))
    bnn = BayesianModule(net, "ensemble", inference_kwargs={"members": 2, "cold_steps": 10})
    bnn.fit(X, torch.sin(X))
    before = bnn.draw(2)(X)
    wide = bnn.double()
    assert wide.dtype == torch.float64
    assert {t.dtype for t in wide.state.values() if t.is_floating_point()} == {torch.float64}
    torch.testing.assert_close(wide.draw(2)(X.double()).sum(0), before.double().sum(0), atol=1e-5, rtol=0)
    assert net[0].weight.dtype == torch.float32
