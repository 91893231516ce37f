"""The search for a start: Adam towards the mode, or towards something close to a draw from the posterior.

A chain that starts at the mode has to find the spread of every direction about which the data say nothing, and the
noise that a network of many weights has fitted away; in a stiff posterior it does not live long enough for that. With
``start="randomised"`` chain m therefore descends

    -log p(y + sigma_m e_m | x, theta) - log p(theta - a_m),    e_m ~ N(0, 1),  a_m ~ prior

with sigma_m learned from the true targets: the minimiser is a posterior draw where the model is linear (randomise then
optimise, Bardsley et al. 2014; Pearce et al. 2020), and sigma does not collapse. Errors e need a Gaussian likelihood
and the whole data set, anchors a a Gaussian prior; where one is missing, that part is left out. ``start="map"``
descends U. Either way the chain then samples U itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.adam import adam_begin, adam_step
from dynapilco.inference.chains.gradient import make_potential, perturbed_potential
from dynapilco.inference.likelihoods import Gaussian
from dynapilco.inference.method import State
from dynapilco.inference.target import Batch, BayesianModel, Target

STARTS = ("randomised", "map")


def start_of(model: BayesianModel, members: int, start: str, temperature: float, generator: torch.Generator) -> State:
    """Fresh ``params`` and ``points`` of ``members`` chains, and their ``anchors``."""
    if start == "map" or not model.prior.gaussian:  # anchors under heavy tails can lie anywhere
        params, points = model.initial(members, generator)
        return {"params": params, "points": points}
    params, points = model.initial_from_prior(members, generator)
    params = params * temperature**0.5
    return {"params": params, "points": points, "anchors": params.clone()}


def begin_search(state: State, target: Target, start: str, generator: torch.Generator) -> None:
    """Draw the errors of this fit's targets, and zero Adam's moments."""
    adam_begin(state, ("params", "points"))
    state.pop("errors", None)
    if start == "map" or not isinstance(target.model.likelihood, Gaussian) or not target.whole:
        return
    params, y = state["params"], target.all.y
    shape = (params.shape[0], target.rows, y.shape[-1])
    errors = torch.randn(shape, generator=generator, device=params.device, dtype=y.dtype)
    factors = target.noise_factors(params.shape[0])
    state["errors"] = (errors if factors is None else errors * factors) * target.temperature**0.5


def end_search(state: State) -> None:
    """Forget what only the search needs."""
    for name in [n for n in state if n == "errors" or n.startswith("adam_")]:
        del state[name]


def search_step(state: State, batch: Batch, rate: float) -> Tensor:
    """One update of Adam on U / N of weights, noise parameters and excluded weights; return U, (S,)."""
    values, gradients = _gradients(state, batch)
    rows = batch.rows_of(values.shape[0]).unsqueeze(-1)
    scaled = {name: (grad / rows).to(state[name].dtype) for name, grad in gradients.items() if grad.shape[-1]}
    adam_step(state, scaled, rate, {"points": batch.model.point_rates(state["points"])})
    return values


def _gradients(state: State, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """U (S,) and its gradients in ``params`` and ``points``, excluded weights among them."""
    names, anchors, errors = ("params", "points"), state.get("anchors"), state.get("errors")
    errors = None if errors is None else batch.select(errors, axis=1)
    excluded = batch.model.split_points(state["points"])[1]
    if excluded.shape[-1] == 0:
        position = torch.cat([state[name] for name in names], dim=-1)
        values, gradient = make_potential(batch, excluded, anchors, errors)(position)
        pieces = gradient.split([state[name].shape[-1] for name in names], dim=-1)
        return values, dict(zip(names, pieces, strict=True))
    leaves = {name: state[name].detach().requires_grad_(True) for name in names}
    with torch.enable_grad():
        values = perturbed_potential(batch, leaves["params"], leaves["points"], anchors, errors)
        grads = torch.autograd.grad(values.sum(), list(leaves.values()))
    return values.detach(), dict(zip(names, grads, strict=True))
