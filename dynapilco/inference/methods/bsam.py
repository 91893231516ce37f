"""bSAM: sharpness-aware minimisation as a Gaussian posterior, with two gradients a step.

With theta = omega + std eps, std^2 = T / (N s), and ell, delta of ``natural``,

    g = grad ell(theta),    e = rho g / s,    g_e = grad ell(omega + e)
    m <- beta1 m + (1 - beta1) (g_e + delta omega)
    omega <- omega - alpha m / s
    s <- beta2 s + (1 - beta2) (sqrt(s) |g| + delta + gamma)

(Moellenhoff & Khan 2023, "SAM as an optimal relaxation of Bayes", algorithm 1.)

|g| of a mean gradient over B rows is too small a curvature, as in Vadam: on a conjugate regression with N = 200 the
spread is a measured 3.08 times that of the mean-field optimum at B = 20 and 3.49 times at B = 200. With
``per_example``, the default, |g| is the root mean square of the rows' gradients: 1.05 times at B = 200 (``test_bsam``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.method import Clock, State, register_inference, require_at_least, require_positive
from dynapilco.inference.natural import NaturalMethod, gradients_at, mean_squares, memory_rate
from dynapilco.inference.target import Batch, BayesianModel, Target


@register_inference("bsam")
@dataclass(frozen=True)
class BSAM(NaturalMethod):
    """Hyper-parameters of bSAM; see also ``NaturalMethod``.

    Attributes
    ----------
    rho : float
        Radius of the adversarial step.
    damping : float
        gamma, added to the curvature.
    s0 : float
        Curvature that the first fit begins with, mean-loss units.
    clip_radius : float
        Most that an entry of m / s counts for in a step.
    per_example : bool
        Take |g| as the root mean square over rows of their gradients; False takes that of the batch's mean gradient.
    """

    learning_rate: float = 0.2
    rho: float = 0.01
    damping: float = 0.1
    s0: float = 1.0
    clip_radius: float = 0.1
    per_example: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "rho", "damping")
        require_positive(self, "s0", "clip_radius")

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """As every natural method; s holds delta already."""
        state = super().init(model, generator, replicas)
        return {**state, "curvature": state["delta"].clone()}

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """As every natural method; s begins at s0, or where the last fit left it."""
        super().begin(state, target, generator)
        if not state["curvature_updates"]:
            state["curvature"] = torch.full_like(state["params"], self.s0)

    def std(self, state: State) -> Tensor:
        """1 / sqrt(N s / T), (S, n)."""
        return (state["curvature"] * state["effective"]).rsqrt()

    @torch.no_grad()
    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of all members, at two gradients."""
        mean, s, delta, m = (state[k] for k in ("params", "curvature", "delta", "momentum"))
        theta = mean.unsqueeze(1) + self.std(state).unsqueeze(1) * self.noise(state, generator) * self.heat(clock)
        found = gradients_at(batch, theta, state["points"], learn=self.learns_points(batch, clock))
        ascent = self.rho * found.params / s.unsqueeze(1)
        descent = gradients_at(batch, mean.unsqueeze(1) + ascent, state["points"], learn=False).params.mean(1)
        if batch.model.prior.gaussian:
            descent.addcmul_(delta, mean)
        m.lerp_(descent, 1 - self.beta1)
        push = (m / s).clamp_(-self.clip_radius, self.clip_radius)
        mean.add_(push, alpha=-cosine_rate(self.learning_rate, clock.done, clock.steps))
        size = mean_squares(batch, theta, state["points"]).sqrt() if self.per_example else found.params.abs().mean(1)
        s.lerp_(s.sqrt() * size + delta + self.damping, memory_rate(self.beta2, clock))
        state["curvature_updates"] += 1
        self.move_points(state, batch, found.points, clock)
        return found.values
