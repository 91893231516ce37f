"""Damped adjoints: what they do to gradients, and that both engines do the same."""

import pytest
import torch

from dynapilco.inference.stack import DenseStack
from dynapilco.rollout import Damping, fused
from dynapilco.rollout.damping import damp
from dynapilco.rollout.fused.engine import _torch_segment


def gradient(x, damping, weight):
    x = x.clone().requires_grad_()
    y = damp(x, damping)
    assert torch.equal(y, x)  # the forward pass is untouched
    (g,) = torch.autograd.grad((y * weight).sum(), x)
    return g


def test_decay_multiplies_the_adjoint():
    x, w = torch.randn(5, 3), torch.randn(5, 3)
    torch.testing.assert_close(gradient(x, Damping(0.8, 0.0, torch.ones(3)), w), 0.8 * w)


def test_limit_bounds_the_norm_in_scaled_coordinates_and_keeps_the_direction():
    torch_generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(50, 3, generator=torch_generator), torch.randn(50, 3, generator=torch_generator)
    scale = torch.tensor([1.0, 0.1, 2.0])
    g = gradient(x, Damping(1.0, 2.0, scale), w)
    norm = (w * scale).norm(dim=1)
    assert (norm > 2).any()
    assert (norm < 2).any()
    torch.testing.assert_close((g * scale).norm(dim=1), norm.clamp_max(2.0))
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(g, w), torch.ones(50))


def test_nan_is_not_hidden():
    w = torch.tensor([[float("nan"), 1.0], [1.0, 1.0]])
    g = gradient(torch.zeros(2, 2), Damping(0.9, 0.5, torch.ones(2)), w)
    assert g[0].isnan().any()
    assert g[1].isfinite().all()


def test_no_damping_is_the_plain_gradient():
    x, w = torch.randn(4, 2), torch.randn(4, 2)
    assert torch.equal(gradient(x, None, w), w)
    torch.testing.assert_close(gradient(x, Damping(1.0, 0.0, torch.ones(2)), w), w)


@pytest.mark.parametrize(("decay", "limit"), [(0.9, 0.0), (1.0, 0.3), (0.8, 0.2)])
def test_the_kernel_damps_like_torch(decay, limit):
    if not fused.available():
        pytest.skip(f"the fused kernel is not available: {fused.unavailable_reason()}")
    generator = torch.Generator().manual_seed(1)

    def normal(*size):
        return 0.6 * torch.randn(size, generator=generator)

    model = DenseStack((normal(3, 7, 24), normal(3, 24, 4)), (normal(3, 24), normal(3, 4)), (None,))
    damping = Damping(decay, limit, torch.tensor([1.0, 0.5, 2.0, 1.0]))
    plan = fused.SegmentPlan(
        model, (2,), torch.eye(4), 0.3 * torch.eye(4), torch.zeros(1), 2 * torch.ones(1), 3, damping
    )
    parts = [normal(1, 6, 16), normal(1, 16, 1), normal(1, 16), normal(1, 1)]
    noises = (normal(12, 1, 3, 10, 1), normal(12, 1, 3, 10, 4), 0.1 * normal(12, 1, 3, 10, 4))
    start, found = normal(1, 3, 10, 4), []
    for run in ("fused", "torch"):
        leaves = [p.clone().requires_grad_() for p in (start, *parts)]
        policy = DenseStack((leaves[1], leaves[2]), (leaves[3], leaves[4]), (None,))
        if run == "fused":
            states, actions = fused.fused_segment(plan, policy, leaves[0], *noises, length=12)
        else:
            states, actions = _torch_segment(plan, policy, leaves[0], *noises)
        found.append(torch.autograd.grad(states.square().mean() + actions.mean(), leaves))
    for g, h in zip(*found, strict=True):
        torch.testing.assert_close(g, h, rtol=2e-4, atol=2e-5 * float(h.abs().max()))
    undamped = fused.SegmentPlan(model, (2,), torch.eye(4), 0.3 * torch.eye(4), torch.zeros(1), 2 * torch.ones(1), 3)
    leaves = [p.clone().requires_grad_() for p in (start, *parts)]
    policy = DenseStack((leaves[1], leaves[2]), (leaves[3], leaves[4]), (None,))
    states, actions = fused.fused_segment(undamped, policy, leaves[0], *noises, length=12)
    plain = torch.autograd.grad(states.square().mean() + actions.mean(), leaves)
    assert not torch.allclose(plain[1], found[0][1], rtol=1e-2)
