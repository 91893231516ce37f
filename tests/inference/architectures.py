"""A short fit of any method on a small module of any architecture, with the checks that every method has to pass."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dynapilco.inference import METHODS, BayesianModel, StackedNetwork, Target, fit
from dynapilco.inference.examples import Example
from dynapilco.inference.matrix import COLUMNS, example_likelihood, example_prior
from dynapilco.inference.random import global_generator_from
from tests.inference.harness import gen

ROWS, DRAWS, STEPS = 8, 3, 4

MANDATORY = (
    "MLP", "Conv1d", "Conv2d", "Conv3d", "LayerNorm", "GroupNorm", "MultiheadAttention", "TransformerEncoder",
    "tied weights", "layer used twice",
)  # fmt: skip
"""Architectures that no method may refuse with its default options."""

OTHERWISE: dict[str, Any] = {"members": 2}
FAST: dict[str, list[dict[str, Any]]] = {
    "bbb": [
        {"members": 2},
        {"estimator": "local", "members": 2},
        {"estimator": "flipout", "samples": 3},
        {"posterior": "low_rank_normal"},
        {"posterior": "student_t"},
        {"posterior": "full_normal"},
    ],
    "ensemble": [{"members": 2}, {"members": 2, "kind": "prior"}, {"members": 2, "kind": "bootstrap", "batch_size": 3}],
    "hmc": [{"members": 2, "leapfrogs": 2, "keep": 2}],
    "laplace": [
        {},
        {"structure": "kfac", "subset": "all"},
        {"structure": "diagonal", "subset": "all", "linearised": False},
        {"subset": "last_layer"},
    ],
    "mc_dropout": [{"members": 2}, {"drop_inputs": True, "rate": 0.3, "samples": 2}],
    "concrete_dropout": [{"members": 2}, {"drop_inputs": True}],
    "sghmc": [{"members": 2, "keep": 2}],
    "sgld": [{"members": 2, "keep": 2}, {"members": 2, "keep": 2, "preconditioned": True, "batch_size": 3}],
}
"""Options by method that make a fit short; the first are the default ones but for sizes."""


def variants(name: str) -> list[dict[str, Any]]:
    return FAST.get(name, [OTHERWISE])


def targets(likelihood: str, rows: int = ROWS) -> Tensor:
    """Random targets (rows, columns) in the support of the likelihood."""
    real, uniform = torch.randn(rows, 1, generator=gen(2)), torch.rand(rows, 1, generator=gen(3))
    classes = (3 * uniform).floor()
    own = {"bernoulli": classes.clamp(max=1), "categorical": classes.long(), "poisson": classes}
    return torch.cat([real, own["bernoulli"]], -1) if likelihood == "joint" else own.get(likelihood, real)


def build(example: Example, likelihood: str = "gaussian", prior: str = "fan_in_normal"):
    """The user's module and the model of it."""
    observed, columns = example_likelihood(likelihood), COLUMNS.get(likelihood, 1)
    with global_generator_from(gen(11)):
        module = example.build(observed.network_outputs(columns))
    return module, BayesianModel(StackedNetwork(module), observed, example_prior(prior), columns)


def run(
    name: str,
    options: dict[str, Any],
    example: Example,
    likelihood: str = "gaussian",
    prior: str = "fan_in_normal",
    steps: int = STEPS,
    wild: bool = False,
) -> None:
    """Fit and draw, and check what every method owes; raises ``UserError`` where the method refuses.

    ``wild``: weights may be so large (heavy tails of a prior, after two steps) that the fit reports divergence and that
    densities and slopes underflow; the functions are finite all the same.
    """
    method = METHODS[name](**options)
    module, model = build(example, likelihood, prior)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    method.check(model)
    state = method.init(model, gen(1))
    x, y = example.inputs(ROWS, gen(4)), targets(likelihood)
    report = fit(method, state, Target(model, x, y), gen(5), steps=steps)
    assert wild or (not report.diverged and math.isfinite(report.potential))
    check_draw(method.draw(model, state, DRAWS, gen(6)), x, y, model, wild)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert module.training


def check_draw(draw, x: Tensor, y: Tensor, model: BayesianModel, wild: bool) -> None:
    """Shapes, fixed functions, ``each``, finite densities of the targets, gradients to x."""
    width = model.likelihood.network_outputs(model.outputs)
    with torch.no_grad():
        f = draw(x)
        assert f.shape == (DRAWS, ROWS, width)
        assert torch.isfinite(f).all()
        assert torch.equal(draw(x), f)
        several = torch.stack([x, x.flip(0), x])
        wanted, size = torch.stack([f[0], f[1].flip(0), f[2]]), max(1.0, float(f.abs().max()))
        torch.testing.assert_close(draw.each(several), wanted, atol=1e-5 * size, rtol=1e-5)
        if wild:
            return
        densities = draw.predictive(x).log_prob(y)
        assert densities.shape[:2] == (DRAWS, ROWS) and torch.isfinite(densities).all()
    if x.is_floating_point():
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(draw(leaf).square().sum(), leaf)
        assert torch.isfinite(slope).all() and slope.abs().sum() > 0
