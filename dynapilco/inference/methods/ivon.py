"""IVON: variational learning with a Hessian that is estimated by Stein's identity, at the cost of Adam.

With g^ = grad ell(theta) at theta = m + std eps (see ``natural`` for ell, delta and std^2 = T / (N (h + delta))),

    h^ = (g^ - g_bar) (theta - m) / std^2 = (g^ - g_bar) eps / std
    g <- beta1 g + (1 - beta1) g^,    g_bar = g / (1 - beta1^t)
    h <- beta2 h + (1 - beta2) h^ + (1 - beta2)^2 (h - h^)^2 / (2 (h + delta))
    m <- m - alpha (h0 + delta) (g_bar + delta m) / (h + delta)

(Shen et al. 2024, "Variational learning is effective for large deep networks", algorithm 1.) The last term of h keeps
h + delta above half of its last value, hence above 0 without clipping. Two things differ from the paper. g_bar, that of
the step before, in h^: a control variate of mean zero, without which a mean that is still far from its place fills h
with noise (``centred=False`` leaves it out). And beta2: the published 0.99999 remembers h0 for 1e5 steps; here it
follows from the number of steps. The fixed point is the mean-field optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.method import Clock, State, register_inference, require_positive
from dynapilco.inference.natural import NaturalMethod, gradients_at, memory_rate
from dynapilco.inference.target import Batch, Target


@register_inference("ivon")
@dataclass(frozen=True)
class IVON(NaturalMethod):
    """Hyper-parameters of IVON; see also ``NaturalMethod``.

    Attributes
    ----------
    h0 : float
        Curvature that the first fit begins with, mean-loss units: the first spread is 1 / sqrt(N (h0 + delta)).
    clip_radius : float
        Most that an entry of the mean's step counts for, before the rate.
    centred : bool
        Take g_bar off the gradient in h^; False is the paper.
    """

    prior_share: ClassVar[float] = 0.01

    h0: float = 1.0
    clip_radius: float = 1.0
    centred: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "h0", "clip_radius")

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """As every natural method; the curvature begins at h0, or where the last fit left it."""
        super().begin(state, target, generator)
        if not state["curvature_updates"]:
            state["curvature"] = torch.full_like(state["params"], self.h0)
        state["curvature"].clamp_(min=0)  # a negative estimate may lie below the smaller delta of grown data

    @torch.no_grad()
    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of all members."""
        mean, h, delta, g = (state[k] for k in ("params", "curvature", "delta", "momentum"))
        total = h + delta
        root = (total * state["effective"]).sqrt_().div_(self.heat(clock))
        noise = self.noise(state, generator)
        theta = torch.addcdiv(mean.unsqueeze(1), noise, root.unsqueeze(1))
        found = gradients_at(batch, theta, state["points"], learn=self.learns_points(batch, clock))
        gradient = found.params
        product = noise.mul_(gradient - g.unsqueeze(1) if self.centred else gradient)
        if self.samples > 1:
            gradient, product = gradient.mean(1, keepdim=True), product.mean(1, keepdim=True)
        rho = memory_rate(self.beta2, clock)
        change = product.squeeze(1).mul_(root).sub_(h)
        h.add_(change, alpha=rho).addcdiv_(change.square_(), total, value=0.5 * rho**2)
        g.lerp_(gradient.squeeze(1), (1 - self.beta1) / (1 - self.beta1 ** (clock.done + 1)))
        push = torch.addcmul(g, delta, mean) if batch.model.prior.gaussian else g.clone()
        rate = cosine_rate(self.learning_rate, clock.done, clock.steps)
        push.mul_(delta + self.h0).div_(torch.add(h, delta, out=total)).clamp_(-self.clip_radius, self.clip_radius)
        mean.add_(push, alpha=-rate)
        state["curvature_updates"] += 1
        self.move_points(state, batch, found.points, clock)
        return found.values
