"""Markov chains as inference methods: search for a start, burn in, sample, keep samples evenly."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.adam import cosine_rate
from dynapilco.inference.chains.gradient import PotentialFunction, make_potential
from dynapilco.inference.chains.samples import forget_samples, keep_sample, pick, stored_samples
from dynapilco.inference.chains.schedule import ChainPlan, Moment, Schedule, make_plan
from dynapilco.inference.chains.search import STARTS, begin_search, end_search, search_step, start_of
from dynapilco.inference.draws import Draw
from dynapilco.inference.method import (
    MOST_SETS,
    Clock,
    InferenceMethod,
    Metrics,
    State,
    require_at_least,
    require_one_of,
    require_positive,
)
from dynapilco.inference.target import Batch, BayesianModel, Target

CONSTANT = Schedule()


@dataclass(frozen=True)
class ChainMethod(InferenceMethod):
    """Hyper-parameters of all Markov chains; see also ``InferenceMethod``.

    A fit of K updates is: a search of ``search * K`` updates of Adam, then moves of the chain, one an update. The share
    ``burn_in`` of the moves serves adaptation; from the rest ``keep`` samples of each chain are stored. Weights and
    the likelihood's noise parameters are sampled together; excluded weights move in the search alone. When the data
    grow, chains go on from where they stand with a shorter search, and samples of older data are dropped.

    Attributes
    ----------
    members : int
        Chains for each data set.
    search, warm_search : float
        Share of the updates of a cold or warm fit that Adam gets, in [0, 1).
    start : str
        ``"randomised"``: the search fits perturbed targets under a prior centred on a draw from it, so that chains
        start spread out and near the posterior (``chains/search.py``). ``"map"``: it descends the potential itself.
    learning_rate : float
        Peak rate of Adam in the search.
    burn_in : float
        In [0, 1).
    keep : int
        Samples of each chain.
    """

    members: int = 8
    search: float = 0.4
    warm_search: float = 0.3
    start: str = "randomised"
    learning_rate: float = 0.02
    burn_in: float = 0.4
    keep: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(self, "start", STARTS)
        require_positive(self, "learning_rate")
        require_at_least(self, 1, "keep")
        for name in ("search", "warm_search", "burn_in"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r}: expected a share in [0, 1)")

    @abstractmethod
    def prepare(
        self, state: State, potential: PotentialFunction, position: Tensor, batch: Batch, generator: torch.Generator
    ) -> None:
        """Set up what moves need, now that the search is over and the chains stand at ``position`` (S, n + k)."""

    @abstractmethod
    def move(
        self,
        state: State,
        potential: PotentialFunction,
        position: Tensor,
        batch: Batch,
        when: Moment,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Move all chains once: their potentials U (S,) and new positions (S, n + k)."""

    def schedule_of_moves(self) -> Schedule:
        """How the step size goes over the moves."""
        return CONSTANT

    def init(self, model: BayesianModel, generator: torch.Generator, replicas: int = 1) -> State:
        """Starts of the search, one a chain."""
        state = start_of(model, replicas * self.members, self.start, self.temperature, generator)
        state["fits"] = torch.zeros((), dtype=torch.int64, device=state["params"].device)
        return state

    def begin(self, state: State, target: Target, generator: torch.Generator) -> None:
        """Forget the samples and Adam's moments."""
        state["fits"].add_(1)
        begin_search(state, target, self.start, generator)
        forget_samples(state, self.keep)

    def plan(self, state: State, steps: int) -> ChainPlan:
        """What each of the ``steps`` updates of the present fit is for."""
        search = self.warm_search if int(state["fits"]) > 1 else self.search
        return make_plan(steps, search, self.burn_in, self.keep, self.schedule_of_moves())

    def step(self, state: State, batch: Batch, clock: Clock, generator: torch.Generator) -> Tensor:
        """An update of the search, or a move of the chains."""
        plan = self.plan(state, clock.steps)
        if clock.done < plan.search:
            return search_step(state, batch, cosine_rate(self.learning_rate, clock.done, plan.search))
        number = clock.done - plan.search
        raw, excluded = batch.model.split_points(state["points"])
        position, potential = torch.cat([state["params"], raw], dim=-1), make_potential(batch, excluded)
        if number == 0:
            end_search(state)
            self.prepare(state, potential, position, batch, generator)
        values, position = self.move(state, potential, position, batch, Moment(number, plan), generator)
        _write(state, position)
        keep_sample(state, plan.slots[number])
        return values

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` samples, spread evenly over chains and, within each, over time."""
        params, points = stored_samples(state)
        rows = pick(params.shape[0], params.shape[1], size, generator)
        return model.functions(params[rows[:, 0], rows[:, 1]], points[rows[:, 0], rows[:, 1]])

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """All different, at most ``most``."""
        return min(particles, self.members * self.keep, most)

    def metrics(self, state: State) -> Metrics:
        """Samples kept so far, of each chain."""
        return {"samples": float(state["kept"])} if "kept" in state else {}


@torch.no_grad()
def _write(state: State, position: Tensor) -> None:
    """Put positions (S, n + k) into the state; excluded weights stay."""
    weights = state["params"].shape[-1]
    state["params"].copy_(position[:, :weights])
    state["points"][:, : position.shape[-1] - weights] = position[:, weights:]
