"""Laplace approximation: a normal distribution around a maximum of the posterior.

    mu = argmin U(theta),    q(theta) = N(mu, T H^-1),    H = sum_i J_i^T Lambda_i J_i + P

with J_i the Jacobian of the outputs at row i, Lambda_i = -d^2 log p(y_i | f_i) / df_i^2 and P the curvature of the
prior (MacKay 1992, "A practical Bayesian framework for backpropagation networks"; generalised Gauss-Newton: Foresee &
Hagan 1997). H belongs to the linearised network, so that predicting with that is consistent (Immer, Korzepa & Bauer
2021, "Improving predictions of Bayesian neural nets via local linearization"):

    f_s(x) = f(x; mu) + J(x) delta_s,    delta_s ~ N(0, T H^-1).

H is kept in full, by Kronecker factors of each layer (Ritter, Botev & Barber 2018) or by its diagonal; over all weights
or those of the last layer, where the linearised network is the network (Kristiadi, Hein & Hennig 2020). With several
members: a mixture of such normals (Eschenhagen et al. 2021). The fit is Adam's on U; noise parameters go to their
optimum along with the weights and stay there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.curvature.plan import STRUCTURES, SUBSETS, Plan, make_plan, plan_refusal
from dynapilco.inference.draws import Draw, LinearisedDraw, spread, trunk_draw
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import MOST_SETS, Metrics, State, register_inference, require_one_of
from dynapilco.inference.target import Batch, BayesianModel, Target


@register_inference("laplace")
@dataclass(frozen=True)
class Laplace(LossMethod):
    """Hyper-parameters of a Laplace approximation; see also ``InferenceMethod`` and ``LossMethod``.

    Attributes
    ----------
    structure : str
        Of H: ``"full"``, ``"kfac"`` (other layers than Linear and convolution: diagonal), ``"diagonal"``, or
        ``"auto"``: full up to 3,000 weights, else Kronecker factors.
    subset : str
        ``"all"`` weights, those of the ``"last_layer"``, or ``"auto"``: all up to 3,000, else the last layer.
    linearised : bool
        Draw functions of the linearised network; False draws weights, which under-fits far from mu.
    """

    cold_steps: int = 1500
    warm_steps: int = 700
    structure: str = "auto"
    subset: str = "auto"
    linearised: bool = True

    has_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "structure", STRUCTURES)
        require_one_of(self, "subset", SUBSETS)
        if not isinstance(self.linearised, bool):
            raise UserError(f"linearised={self.linearised!r}: expected True or False")

    def plan(self, model: BayesianModel) -> Plan:
        """Which parameters H is about, and its structure."""
        return make_plan(model.network, self.subset, self.structure)

    def refusal(self, model: BayesianModel) -> str | None:
        """A last layer that cannot be told apart, or a matrix too large to keep."""
        return plan_refusal(model.network, self.subset, self.structure)

    def loss_needs(self) -> list[str]:
        """The curvature."""
        return ["the curvature of inference 'laplace'"]

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """All different, at most ``most``."""
        return min(most, particles)

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """The module's own initial weights, further members re-initialised; the curvature is the prior's."""
        self.check(model)
        params, points = model.initial(replicas * self.members, generator)
        return {"params": params, "points": points, **self.plan(model).prior(model, params, self.temperature)}

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Zero Adam's moments, and try the plan on a few rows."""
        super().begin(state, target, generator)
        self.plan(target.model).check(target, state["params"], state["points"])

    def loss(self, state: State, batch: Batch, generator: torch.Generator) -> Tensor:
        """U, (S,)."""
        return batch.potential(state["params"], state["points"])

    def finish(self, state: State, target: Target, generator: torch.Generator) -> None:
        """The curvature at the end of the fit, over all rows."""
        state.update(self.plan(target.model).posterior(target, state["params"], state["points"]))

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` functions; members of a mixture in equal shares."""
        members = spread(state["params"].shape[0], size, generator)
        plan, params, points = self.plan(model), state["params"].detach().clone(), state["points"].detach()[members]
        deltas = plan.sample(state, members, generator)
        raw, excluded = model.split_points(points)
        noise = model.likelihood.constrain(raw)
        single = params.shape[0] == 1
        if plan.layer is not None and single:
            named = plan.layout.split(deltas)
            mean = model.network.layout.split(params)
            heads = {name: mean[name] + delta for name, delta in named.items()}
            return trunk_draw(model.network, plan.layer, model.full(params, points[:1]), heads, noise, model.likelihood)
        deltas = plan.scatter(deltas, model.network.layout)
        if plan.layer is not None or not self.linearised:
            return model.functions(params[members] + deltas, points)
        centre = model.full(params if single else params[members], points[:1] if single else points)
        tangents = model.network.assemble(deltas, torch.zeros_like(excluded))
        return LinearisedDraw(size, noise, model.likelihood, network=model.network, centre=centre, tangents=tangents)

    def metrics(self, state: State) -> Metrics:
        """Largest jitter of a Cholesky factor, and share of weights whose prior curvature was raised."""
        found = {"floored": float(state["curvature_floored"].max())}
        jitter = state.get("curvature_jitter")
        return found if jitter is None else {**found, "jitter": float(jitter.max())}
