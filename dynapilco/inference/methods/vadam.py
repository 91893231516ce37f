"""Vadam and VOGN: a Gaussian posterior from the running averages that Adam keeps anyway.

With theta = mu + std eps, std^2 = T / (N (s^ + delta)), g = grad ell(theta) (see ``natural``), and r_i the gradient of
row i's loss,

    s <- beta2 s + (1 - beta2) c,        c = (1/B) sum_i r_i^2  (VOGN, ``per_example``)  or  c = g^2  (Vadam)
    m <- beta1 m + (1 - beta1) (g + delta mu),    m^ = m / (1 - beta1^t),    s^ = s / (1 - beta2^t)
    mu <- mu - alpha m^ / (sqrt(s^) + delta)

(Khan et al. 2018, "Fast and scalable Bayesian deep learning by weight-perturbation in Adam", eqs. 9-12 and figure 1.)
The perturbation never enters mu. The square of a *mean* gradient over B rows is about B times too small a curvature:
Vadam's spread is right at B = 1 only, and on a conjugate regression with N = 200 a measured 3.10 times too wide at
B = 20 and 3.74 times at B = 200 (``test_vadam``); on full batches it is of no use. VOGN holds at every B and is the
default. Both divide the mean's step by the root, as Adam does: stationary points are the same, and stiff data need no
tuning.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.method import Clock, State, register_inference
from dynapilco.inference.natural import NaturalMethod, gradients_at, mean_squares, memory_rate
from dynapilco.inference.target import Batch


@register_inference("vadam", "vogn")
@dataclass(frozen=True)
class Vadam(NaturalMethod):
    """Hyper-parameters of Vadam and VOGN; see also ``NaturalMethod``.

    Attributes
    ----------
    per_example : bool
        Square the gradients of single rows (VOGN); False squares the gradient of the batch (Vadam: use batch_size=1).
    """

    per_example: bool = True

    @torch.no_grad()
    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """One update of all members."""
        mean, s, delta, m = (state[k] for k in ("params", "curvature", "delta", "momentum"))
        theta = mean.unsqueeze(1) + self.std(state).unsqueeze(1) * self.noise(state, generator) * self.heat(clock)
        found = gradients_at(batch, theta, state["points"], learn=self.learns_points(batch, clock))
        gradient = found.params.mean(1)
        squares = mean_squares(batch, theta, state["points"]) if self.per_example else found.params.square().mean(1)
        if batch.model.prior.gaussian:
            gradient.addcmul_(delta, mean)
        state["curvature_updates"] += 1
        rate = memory_rate(self.beta2, clock)
        # The corrected averages themselves are kept: s^ moves by (1 - beta2) / (1 - beta2^t), also over a warm start.
        s.lerp_(squares, (rate / (1 - (1 - rate) ** state["curvature_updates"])).to(s))
        m.lerp_(gradient, (1 - self.beta1) / (1 - self.beta1 ** (clock.done + 1)))
        mean.addcdiv_(m, s.sqrt().add_(delta), value=-cosine_rate(self.learning_rate, clock.done, clock.steps))
        self.move_points(state, batch, found.points, clock)
        return found.values
