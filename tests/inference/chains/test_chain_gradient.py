"""The written-out gradient of dense networks against autograd, and the curvature found by differences."""

import pytest
import torch
from torch import nn

from dynapilco.inference import BayesianModel, FanInNormal, Gaussian, NormalPrior, StackedNetwork, Target, fused, mlp
from dynapilco.inference.chains.curvature import largest_curvature, row_curvature
from dynapilco.inference.chains.gradient import AutogradPotential, DensePotential, dense_reason, make_potential
from tests.inference.harness import gen, rand

S, N = 4, 30
needs_kernel = pytest.mark.skipif(not fused.available(), reason="needs the compiled kernel")


def problem(dtype=torch.float32, own_data=False, weights=False, temperature=1.0, fixed=None):
    net = mlp(3, 2, (7, 5)).to(dtype)
    model = BayesianModel(StackedNetwork(net), Gaussian(fixed=fixed), FanInNormal(), 2)
    lead = (2,) if own_data else ()
    x, y = rand(*lead, N, 3, seed=1).to(dtype), rand(*lead, N, 2, seed=2).to(dtype)
    w = rand(*lead, N, seed=3).abs().to(dtype) if weights else None
    target = Target(model, x, y, w, temperature)
    params, points = model.initial(S, gen())
    points = points + 0.3 * rand(*points.shape, seed=4).to(points)
    return target, params, points


@needs_kernel
@pytest.mark.parametrize("own_data", [False, True])
@pytest.mark.parametrize("extra", ["plain", "weights", "temperature", "fixed", "minibatch", "perturbed"])
def test_the_kernel_path_equals_autograd_in_double_precision(own_data, extra):
    """Relative to the largest entry: sums of some hundred float32 terms round to about 1e-6."""
    options = {"weights": extra == "weights", "temperature": 2.5 if extra == "temperature" else 1.0}
    fixed = 0.3 if extra == "fixed" else None
    target, params, points = problem(own_data=own_data, fixed=fixed, **options)
    wide, _, _ = problem(torch.float64, own_data=own_data, fixed=fixed, **options)
    wide = Target(wide.model, target.all.x.double(), target.all.y.double(),
                  None if target.all.weights is None else target.all.weights.double(), target.temperature)  # fmt: skip
    index = torch.arange(11) if extra == "minibatch" else None
    batch, wide_batch = target.batch(index), wide.batch(index)
    shift = rand(*params.shape, seed=5).float() if extra == "perturbed" else None
    errors = rand(S, N, 2, seed=6).float() if extra == "perturbed" else None
    excluded, position = points[:, :0], torch.cat([params, points], -1)
    fast = make_potential(batch, excluded, shift, errors)
    assert isinstance(fast, DensePotential)
    doubled = [None if t is None else t.double() for t in (shift, errors)]
    slow = AutogradPotential(wide_batch, excluded.double(), *doubled)
    for at in (position, position * 1.1):  # the second call writes over the buffers of the first
        values, gradient = fast(at)
        expected, wanted = slow(at.double())
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-5)
        assert (gradient - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_what_the_kernel_does_not_serve_goes_to_autograd():
    target, _, points = problem(torch.float64)
    assert "float32" in dense_reason(target.batch(), points[:, :0])
    assert isinstance(make_potential(target.batch(), points[:, :0]), AutogradPotential)
    model = BayesianModel(StackedNetwork(mlp(3, 2, (7,)), exclude=["0.bias"]), Gaussian(), NormalPrior(), 2)
    batch = Target(model, target.all.x.float(), target.all.y.float()).batch()
    assert "excluded" in dense_reason(batch, model.split_points(model.initial(S, gen())[1])[1])


def test_errors_move_the_targets_for_weights_alone():
    """One residual y + sigma e - f in the gradient of weights, y - f in that of sigma: written out for f = w x + b."""
    model = BayesianModel(StackedNetwork(nn.Sequential(nn.Linear(1, 1)).double()), Gaussian(), NormalPrior(), 1)
    x, y, e = rand(N, 1, seed=1), rand(N, 1, seed=2), rand(1, N, 1, seed=3)
    position = torch.tensor([[0.7, -0.2, 0.1]], dtype=torch.float64)
    _, gradient = make_potential(Target(model, x, y).batch(), position[:, :0], None, e)(position)
    sigma = 0.005 + torch.nn.functional.softplus(position[0, 2])
    r = 0.7 * x - 0.2 - y
    moved = r - sigma * e[0]
    slope = (N / sigma - r.square().sum() / sigma**3) * torch.sigmoid(position[0, 2])
    slope = slope + (position[0, 2] - model.likelihood.init(1, 1)[0, 0]) / 9
    wanted = [(moved * x).sum() / sigma**2 + 0.7, moved.sum() / sigma**2 - 0.2, slope]
    torch.testing.assert_close(gradient[0], torch.stack(wanted), rtol=1e-6, atol=1e-6)


def quadratic(hessians):
    def potential(position):
        gradient = (hessians @ position.unsqueeze(-1)).squeeze(-1)
        return 0.5 * (gradient * position).sum(-1), gradient

    return potential


def test_curvature_of_a_quadratic():
    """Power iteration to 1 % where the gap is a factor 3; rows of a diagonal Hessian exactly."""
    basis = torch.linalg.qr(rand(3, 6, 6, seed=1))[0]
    sizes = torch.tensor([1e4, 3e3, 100.0, 1.0, 0.1, 0.01], dtype=torch.float64) * torch.tensor([[1.0], [7.0], [0.2]])
    hessians = basis @ torch.diag_embed(sizes) @ basis.transpose(1, 2)
    found = largest_curvature(quadratic(hessians), rand(3, 6, seed=2), 1.0, gen())
    torch.testing.assert_close(found, sizes[:, :1], rtol=0.01, atol=0)
    scale = rand(3, 6, seed=3).abs() + 0.5
    scaled = torch.linalg.eigvalsh(scale.unsqueeze(1) * hessians * scale.unsqueeze(2))[:, -1:]
    found = largest_curvature(quadratic(hessians), rand(3, 6, seed=2), scale, gen())
    torch.testing.assert_close(found, scaled, rtol=0.05, atol=0)
    rows = row_curvature(quadratic(torch.diag_embed(sizes)), rand(3, 6, seed=4), sizes[:, :1], gen())
    torch.testing.assert_close(rows, sizes, rtol=1e-4, atol=0)
