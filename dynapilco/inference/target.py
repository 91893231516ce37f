"""The potential energy that all methods descend or sample: owned here, so that nobody else scales by N."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.draws import Draw, columns, make_draw
from dynapilco.inference.likelihoods import Likelihood
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.priors import Prior

NOISE_RATE = 3.0
"""Noise parameters learn this much faster than weights: a sigma that lags behind blurs every prediction."""


@dataclass(frozen=True)
class BayesianModel:
    """A network, a likelihood and a prior: everything but data.

    A member's parameters come in two vectors: ``params`` (n), the Bayesian weights, and ``points`` (k + m), which are
    only ever point-estimated (or sampled as nuisance parameters): k raw noise parameters of the likelihood, then m
    excluded weights.

    Attributes
    ----------
    network : StackedNetwork
    likelihood : Likelihood
    prior : Prior
    outputs : int
        Number of target columns.
    """

    network: StackedNetwork
    likelihood: Likelihood
    prior: Prior
    outputs: int

    def __post_init__(self) -> None:
        self.prior.check(self.network.layout)

    @cached_property
    def noise_size(self) -> int:
        """k, the number of raw noise parameters of a member."""
        return self.likelihood.init(1, self.outputs).shape[-1]

    def split_points(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Raw noise parameters (S, k) and excluded weights (S, m) of points (S, k + m)."""
        m = self.network.excluded.total
        return points[..., : points.shape[-1] - m], points[..., points.shape[-1] - m :]

    def full(self, params: Tensor, points: Tensor) -> Tensor:
        """The network's flat parameters (S, n_full)."""
        return self.network.assemble(params, self.split_points(points)[1])

    def initial(self, size: int, generator: torch.Generator, *, own: bool = True) -> tuple[Tensor, Tensor]:
        """Starting params (size, n) and points (size, k + m): the module's own weights, then re-initialised copies.

        Parameters
        ----------
        own : bool
            Let the first member start at the module's own weights.
        """
        first = self.network.own_parameters().unsqueeze(0).cpu() if own else None
        fresh = self.network.fresh_parameters(size - int(own), generator).cpu()
        flat = fresh if first is None else torch.cat([first, fresh])
        params, excluded = self.network.divide(flat)
        return self._place(params.clone(), excluded, generator)

    def initial_from_prior(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Starting params (size, n) drawn from the prior, and points (size, k + m)."""
        _, excluded = self.network.divide(self.network.own_parameters().expand(size, -1).cpu())
        return self._place(self.prior.sample(self.network.layout, size, generator), excluded, generator)

    def _place(self, params: Tensor, excluded: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        dtype = self.network.own_parameters().dtype
        points = torch.cat([self.likelihood.init(params.shape[0], self.outputs).to(dtype), excluded], dim=-1)
        return params.to(generator.device, dtype), points.to(generator.device, dtype)

    def point_rates(self, points: Tensor) -> Tensor:
        """Factor on the learning rate of each entry of points, (k + m,)."""
        rates = torch.ones(points.shape[-1], device=points.device, dtype=points.dtype)
        rates[: points.shape[-1] - self.network.excluded.total] = NOISE_RATE
        return rates

    def functions(self, params: Tensor, points: Tensor, masks: tuple[Tensor | None, ...] | None = None) -> Draw:
        """The draw whose functions have params (S, n) (with masks: (1, n)) and points (S, k + m)."""
        raw, excluded = self.split_points(points)
        full = self.network.assemble(params, excluded[: params.shape[0]])
        return make_draw(self.network, full, self.likelihood.constrain(raw), self.likelihood, masks)


@dataclass(frozen=True)
class Batch:
    """Some or all rows of a data set, seen by S members, with log-likelihoods scaled up to all N rows.

    Attributes
    ----------
    model : BayesianModel
    x, y : Tensor
        (B, *in) and (B, out), shared by all members, or (R, B, *in) and (R, B, out): R data sets, of which S / R
        consecutive members share each.
    factor : float
        N / B.
    weights : Tensor or None
        Row weights (B,) or (R, B).
    temperature : float
    size : Tensor
        N as each data set counts it, () or (R,).
    index : Tensor or None
        Numbers of these rows among the N; None for all.
    """

    model: BayesianModel
    x: Tensor
    y: Tensor
    factor: float
    weights: Tensor | None
    temperature: float
    size: Tensor
    index: Tensor | None = None
    _copies: dict[int, tuple[Tensor, Tensor, Tensor | None, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """B."""
        return self.y.shape[self.row_axis]

    @property
    def row_axis(self) -> int:
        """0 for shared data, 1 for own data."""
        return self.y.dim() - 2

    def rows_of(self, members: int) -> Tensor:
        """N for each of ``members`` members, (S,): divide a potential by it to get nats a row."""
        return self._for(members)[3]

    def outputs(self, params: Tensor, points: Tensor) -> Tensor:
        """Network outputs (S, B, *out) of params (S, n) and points (S, k + m)."""
        network, flat = self.model.network, self.model.full(params, points)
        x = self._for(params.shape[0])[0]
        return network.shared(flat, x) if self.row_axis == 0 else network.each(flat, x)

    def log_likelihood(
        self, f: Tensor, points: Tensor, *, y: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Log-likelihood of all N rows as these rows estimate it, (S,).

        Parameters
        ----------
        f : Tensor
            Outputs (S, B, *out).
        points : Tensor
            (S, k + m).
        y : Tensor, optional
            Other targets, (S, B, out).
        weights : Tensor, optional
            Each member's own row weights, (S, B), beside those of the data.
        """
        _, own, data_weights, _ = self._for(f.shape[0])
        if data_weights is None and weights is None:
            raw = self.model.split_points(points)[0]
            total = self.model.likelihood.total_log_prob(raw, columns(f), own if y is None else y)
            return total if self.factor == 1.0 else total * self.factor
        rows = self.row_log_likelihood(f, points, own if y is None else y)
        for factor in (data_weights, weights):
            rows = rows if factor is None else rows * factor
        return rows.sum(-1) * self.factor

    def row_log_likelihood(self, f: Tensor, points: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood of each row, (S, B), for outputs f (S, B, *out)."""
        y = self.targets_of(f.shape[0]) if y is None else y
        return self.model.likelihood.log_prob(self.model.split_points(points)[0], columns(f), y)

    def targets_of(self, members: int) -> Tensor:
        """Y as ``members`` members see it: (B, out) or (S, B, out)."""
        return self._for(members)[1]

    def inputs_of(self, members: int) -> Tensor:
        """X as ``members`` members see it: (B, *in) or (S, B, *in)."""
        return self._for(members)[0]

    def select(self, rows: Tensor, axis: int = -1) -> Tensor:
        """Of a tensor with an entry for each of the N rows along ``axis``, those of this batch."""
        return rows if self.index is None else rows.index_select(axis, self.index)

    def log_prior(self, params: Tensor, points: Tensor, shift: Tensor | None = None) -> Tensor:
        """Log p(params - shift) plus the weak prior on noise parameters, (S,)."""
        centred = params if shift is None else params - shift
        weights = self.model.prior.log_prob(centred, self.model.network.layout)
        raw = self.model.split_points(points)[0]
        return weights + self.model.likelihood.log_prior(raw) if raw.shape[-1] else weights

    def potential(self, params: Tensor, points: Tensor, shift: Tensor | None = None) -> Tensor:
        """U = -(N/B) sum log p(y | x, theta) / T - log p(theta - shift) / T, shape (S,).

        Parameters
        ----------
        params : Tensor
            (S, n).
        points : Tensor
            (S, k + m).
        shift : Tensor, optional
            Anchors (S, n): the prior is centred there.
        """
        fit = self.log_likelihood(self.outputs(params, points), points)
        return (fit + self.log_prior(params, points, shift)) * (-1 / self.temperature)

    def _for(self, members: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """x, y, weights and N as ``members`` members see them; repeated once where several share a data set."""
        if members not in self._copies:
            self._copies[members] = self._repeat(members)
        return self._copies[members]

    def _repeat(self, members: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        if self.row_axis == 0:
            return self.x, self.y, self.weights, self.size.expand(members)
        sets = self.y.shape[0]
        if members % sets:
            raise UserError(f"{members} members cannot share {sets} data sets evenly")
        each = members // sets
        x, y, n = (t if each == 1 else t.repeat_interleave(each, 0) for t in (self.x, self.y, self.size.expand(sets)))
        weights = self.weights
        if weights is not None and weights.dim() == 2 and each > 1:
            weights = weights.repeat_interleave(each, 0)
        return x, y, weights, n


class Target:
    """A model and its data.

    Parameters
    ----------
    model : BayesianModel
    x, y : Tensor
        Data (N, *in) and (N, out), shared by all members, or (R, N, *in) and (R, N, out), R data sets for equal shares
        of the members.
    weights : Tensor, optional
        Row weights (N,) or (R, N); rows of weight 0 do not count towards N.
    temperature : float
        T above 0; 1 is the Bayes posterior.
    rows : int, optional
        N, where these rows are a batch of a data set of N rows; by default the number of rows given.

    Raises
    ------
    UserError
        For empty, mismatched or non-finite data, or a temperature that is not above 0.
    """

    def __init__(
        self,
        model: BayesianModel,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None = None,
        temperature: float = 1.0,
        rows: int | None = None,
    ) -> None:
        y = model.likelihood.prepare(y, model.outputs)
        _check_data(x, y, weights, temperature)
        self.model, self.temperature = model, temperature
        held = y.shape[y.dim() - 2]
        self.rows = held if rows is None else rows
        dtype = model.network.own_parameters().dtype
        size = torch.tensor(float(self.rows), device=y.device) if weights is None else weights.sum(-1)
        self.all = Batch(model, x, y, self.rows / held, weights, temperature, size.to(dtype))

    @property
    def whole(self) -> bool:
        """Whether all N rows are here, and not a batch that stands for them."""
        return self.rows == self.all.rows

    def noise_factors(self, members: int) -> Tensor | None:
        """w^-1/2 for each row (0 where w is 0), (N, 1) or (S, N, 1): the noise of a row that counts w times."""
        weights = self.all._for(members)[2]
        if weights is None:
            return None
        return torch.where(weights > 0, weights.clamp_min(1e-12).rsqrt(), 0.0).unsqueeze(-1)

    @property
    def sets(self) -> int:
        """R, the number of data sets."""
        return 1 if self.all.row_axis == 0 else self.all.y.shape[0]

    def potential(self, params: Tensor, points: Tensor, index: Tensor | None = None) -> Tensor:
        """U of params (S, n) and points (S, k + m) as the rows ``index`` (or all) estimate it, (S,)."""
        return self.batch(index).potential(params, points)

    def batch(self, index: Tensor | None = None) -> Batch:
        """The rows ``index`` (B,), or all of them."""
        if index is None:
            return self.all
        axis, whole = self.all.row_axis, self.all
        weights = None if whole.weights is None else whole.weights.index_select(-1, index)
        return Batch(
            self.model, whole.x.index_select(axis, index), whole.y.index_select(axis, index),
            self.rows / index.shape[0], weights, self.temperature, whole.size, index,
        )  # fmt: skip


def _check_data(x: Tensor, y: Tensor, weights: Tensor | None, temperature: float) -> None:
    axis = y.dim() - 2
    if axis not in (0, 1) or x.shape[: axis + 1] != y.shape[: axis + 1]:
        raise UserError(f"x {tuple(x.shape)} and y {tuple(y.shape)}: expected (N, *) or (S, N, *) with equal rows")
    if y.shape[axis] == 0:
        raise UserError("the data set is empty: expected at least one row")
    for name, tensor in (("x", x), ("y", y)):
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} holds NaN or infinite values in {int((~torch.isfinite(tensor)).sum())} places")
    if weights is not None and weights.shape[-1] != y.shape[axis]:
        raise UserError(f"weights {tuple(weights.shape)}: expected one for each of {y.shape[axis]} rows")
    if weights is not None and not (torch.isfinite(weights).all() and weights.min() >= 0 and weights.sum(-1).min() > 0):
        raise UserError("weights: expected finite numbers of at least 0, not all of them 0")
    if not temperature > 0:
        raise UserError(f"temperature={temperature!r}: expected a number above 0")
