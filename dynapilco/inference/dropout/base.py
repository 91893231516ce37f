"""What the dropout methods share: networks under masks, and draws."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import Draw, spread
from dynapilco.inference.dropout.masks import Rate, bernoulli_masks
from dynapilco.inference.dropout.sites import DropoutSites, find_sites
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import MOST_SETS, State, require_at_least
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.target import Batch, BayesianModel

Masks = tuple[Tensor, ...]


@dataclass(frozen=True)
class DropoutMethod(LossMethod):
    """Masks over units as the randomness of the weights; see ``dropout.sites`` for where.

    Attributes
    ----------
    samples : int
        Masks a step, each shared by all rows of the batch. Plain stacks of linear layers take a mask of its own for
        every row instead, at no cost, and do not look at this number.
    drop_inputs : bool
        Also drop the inputs of the first weight layer, and rows of embeddings.
    """

    samples: int = 4
    drop_inputs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "samples")

    @abstractmethod
    def rates(self, state: State, sites: DropoutSites) -> Sequence[Rate]:
        """Dropout rate of each site: a number, or a tensor (S, 1)."""

    def sites(self, model: BayesianModel, device: torch.device | str = "cpu") -> DropoutSites:
        """Where units are dropped."""
        return find_sites(model.network, device, inputs=self.drop_inputs)

    def dropped(self, model: BayesianModel) -> tuple[str, ...]:
        """Names of the weights whose input units are dropped; all others are point-estimated."""
        return self.sites(model).names

    def refusal(self, model: BayesianModel) -> str | None:
        """Needs at least one unit to drop."""
        if self.sites(model).sites:
            return None
        names = ", ".join(model.network.layout.names)
        return (
            f"finds no hidden unit to drop among the parameters {names}: it drops input units of linear, convolution, "
            "attention and recurrent layers behind the first one; drop_inputs=True drops those of the first one too"
        )

    def expected_fit(
        self, batch: Batch, params: Tensor, points: Tensor, masks: Callable[[DropoutSites, Sequence[int]], Masks]
    ) -> Tensor:
        """Log-likelihood of all N rows under fresh masks, (S,); ``masks(sites, lead)`` draws them, (*lead, width)."""
        members, sites = params.shape[0], self.sites(batch.model, params.device)
        if batch.model.network.dense_plan is not None:
            f = _dense_outputs(batch, params, points, sites, masks(sites, (members, batch.rows)))
            return batch.log_likelihood(f, points)
        thinned = sites.scale(params.unsqueeze(1), masks(sites, (members, self.samples))).flatten(0, 1)
        repeated = points.repeat_interleave(self.samples, 0)
        fit = batch.log_likelihood(batch.outputs(thinned, repeated), repeated)
        return fit.view(members, self.samples).mean(-1)

    def draw(self, model: BayesianModel, state: State, size: int, generator: torch.Generator) -> Draw:
        """``size`` masks: over one set of weights where the functions can share it, else folded into copies."""
        if size < 1:
            raise UserError(f"draw size {size}: expected at least 1")
        params, points = state["params"], state["points"]
        sites = self.sites(model, params.device)
        rates, members = self.rates(state, sites), params.shape[0]
        shared = members == 1 and model.network.dense_plan is not None and not self.drop_inputs
        if shared:
            masks = bernoulli_masks(rates, sites.widths, (size,), params, generator)
            return model.functions(params, points.expand(size, -1), _dense_masks(model.network, sites, masks)[1:])
        index = spread(members, size, generator)
        own = [rate[index] if isinstance(rate, Tensor) else rate for rate in rates]
        masks = bernoulli_masks(own, sites.widths, (size,), params, generator)
        return model.functions(sites.scale(params[index], masks), points[index])

    def natural_draws(self, particles: int, most: int = MOST_SETS) -> int:
        """A mask for each particle; with members, where each function is a full set of weights, at most ``most``."""
        return particles if self.members == 1 else min(particles, most)


def _dense_outputs(batch: Batch, params: Tensor, points: Tensor, sites: DropoutSites, masks: Masks) -> Tensor:
    """Outputs (S, B, out) of a plain stack under masks (S, B, width) of the rows' own."""
    network, x = batch.model.network, batch.inputs_of(params.shape[0])
    inputs, *hidden = _dense_masks(network, sites, masks)
    x = x if inputs is None else x * inputs
    return network.masked(batch.model.full(params, points), x, tuple(hidden))


def _dense_masks(network: StackedNetwork, sites: DropoutSites, masks: Masks) -> tuple[Tensor | None, ...]:
    """One mask (or None) for what each layer of a plain stack reads: the inputs, then the hidden layers."""
    assert network.dense_plan is not None
    numbers = [sites.number(f"{layer}.weight") for layer in network.dense_plan[0]]
    return tuple(None if number is None else masks[number] for number in numbers)
