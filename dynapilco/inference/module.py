"""One line makes any ``nn.Module`` Bayesian."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, overload

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from dynapilco.core.errors import UserError
from dynapilco.core.seeding import derive, torch_generator
from dynapilco.inference import saving
from dynapilco.inference.data import as_tensors
from dynapilco.inference.draws import Draw
from dynapilco.inference.fitting import Callback, FitReport
from dynapilco.inference.holder import StateHolder
from dynapilco.inference.likelihoods import Likelihood, make_likelihood
from dynapilco.inference.loss_method import LossMethod
from dynapilco.inference.method import InferenceMethod, State, make_method, name_of
from dynapilco.inference.network import StackedNetwork
from dynapilco.inference.own_loop import OwnLoop
from dynapilco.inference.predictive import Predictive, predictive_of
from dynapilco.inference.priors import Prior, make_prior
from dynapilco.inference.resumable import DivergenceError, fit_with_checkpoints
from dynapilco.inference.target import BayesianModel, Target
from dynapilco.inference.widths import check_width, guess_outputs, linear_width

DRAWS = 100
"""Functions that a prediction averages over, where neither the user nor the method says otherwise."""


class WeightLogProbs(NamedTuple):
    """Log densities of weight samples, (samples,) each, nats."""

    posterior: Tensor
    prior: Tensor


class BayesianModule(nn.Module):
    """A posterior over the weights of any ``nn.Module``, by a method that is one word.

    ``net`` itself is never changed: it keeps its weights, stays deterministic and pickles as before.

    Parameters
    ----------
    net : nn.Module
        Takes (B, *in), returns (B, *out). Every trainable parameter becomes Bayesian, or the constructor raises.
    inference : str or InferenceMethod
        A name out of ``METHODS``, or a method object such as ``HMC(step_size=0.01)``.
    likelihood : str or Likelihood
        How targets scatter around the network's output.
    prior : str, Prior, torch.distributions.Distribution or mapping
        Over the weights; a mapping gives patterns of parameter names their own.
    inference_kwargs, likelihood_kwargs, prior_kwargs : mapping, optional
        Options of the parts that are given by name.
    exclude : str or sequence of str
        Names or patterns of parameters that stay point estimates.
    outputs : int, optional
        Number of target columns; by default taken from the last layer of ``net``.
    engine : str
        ``"auto"``, ``"dense"``, ``"vmap"`` or ``"loop"``: how S networks are evaluated at once.
    seed : int
        All randomness follows from it and from the order of calls.

    Raises
    ------
    UserError
        For unknown names and options, and for modules that the method or the engine cannot treat, with the reason.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from dynapilco.inference import BayesianModule
    >>> x = torch.linspace(-1, 1, 40).unsqueeze(-1)
    >>> net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> bnn = BayesianModule(net, inference="ensemble", inference_kwargs={"members": 4, "cold_steps": 100})
    >>> report = bnn.fit(x, torch.sin(3 * x))
    >>> bnn(x, samples=3).shape
    torch.Size([3, 40, 1])
    >>> p = bnn.predict(x)
    >>> p.mean.shape, p.epistemic.shape, p.log_prob(torch.sin(3 * x)).shape
    (torch.Size([40, 1]), torch.Size([40, 1]), torch.Size([40]))
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        net: nn.Module,
        inference: str | InferenceMethod = "ensemble",
        likelihood: str | Likelihood = "gaussian",
        prior: str | Prior | Distribution | Mapping[str, Any] = "fan_in_normal",
        *,
        inference_kwargs: Mapping[str, Any] | None = None,
        likelihood_kwargs: Mapping[str, Any] | None = None,
        prior_kwargs: Mapping[str, Any] | None = None,
        exclude: str | Sequence[str] = (),
        outputs: int | None = None,
        engine: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.method = make_method(inference, dict(inference_kwargs or {}))
        self.seed, self.calls, self.fits = seed, 0, 0
        exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        network = StackedNetwork(net, engine, exclude)
        observed = make_likelihood(likelihood, **(likelihood_kwargs or {}))
        columns = guess_outputs(net, observed) if outputs is None else outputs
        width = linear_width(net)
        observed = observed if width is None else observed.for_network(width)
        self.model = BayesianModel(network, observed, make_prior(prior, **(prior_kwargs or {})), columns)
        self.method.check(self.model)
        self.settings = saving.describe(self, exclude, engine)
        self.holder = StateHolder(self.method.trainable_names if isinstance(self.method, LossMethod) else ())
        self.holder.store(self.method.init(self.model, self._generator("init")))
        self.loop: OwnLoop | None = None

    @property
    def state(self) -> State:
        """All that was learned, as named tensors (views; see ``InferenceMethod``)."""
        return self.holder.plain()

    @property
    def device(self) -> torch.device:
        """Where the state lives."""
        return self.holder.live()["params"].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the state."""
        return self.holder.live()["params"].dtype

    @torch.inference_mode(False)
    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        weights: Tensor | None = None,
        steps: int | None = None,
        callback: Callback | None = None,
        progress: bool = False,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 500,
    ) -> FitReport:
        """Fit to all of the data; a second call goes on from where the first one ended (also when the data have grown).

        Parameters
        ----------
        x, y : Tensor or array
            (N, *in) and (N, *out); or ``x`` alone: a DataLoader, a Dataset or an iterable of (x, y) batches.
        weights : Tensor, optional
            Row weights (N,).
        steps : int, optional
            Updates; by default the method's ``cold_steps``, later its ``warm_steps``.
        callback : callable, optional
            ``callback(done, steps, metrics)`` every 50 updates; metrics is a dict that ``wandb.log`` takes.
        progress : bool
            Show a progress bar.
        checkpoint : path, optional
            A folder, written every ``checkpoint_every`` updates. A fit that was interrupted goes on from it when the
            same call is made again, and ends with the same numbers, bit for bit.

        Raises
        ------
        UserError
            For bad data, before anything is done.
        DivergenceError
            Where numbers go bad: the last good state is kept, the message names method and step.
        """
        target = self._target(x, y, weights)
        steps = self.method.steps(warm=self.fits > 0) if steps is None else steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise UserError(f"steps={steps!r}: expected a whole number of at least 1")
        state = {name: tensor.clone() for name, tensor in self.state.items()}  # an interrupted fit changes nothing
        try:
            report = fit_with_checkpoints(
                self, state, target, derive(self.seed, "fit", self.fits), steps,
                callback=callback, progress=progress, folder=checkpoint, every=checkpoint_every,
            )  # fmt: skip
        except DivergenceError:
            self.holder.store(state)
            raise
        self.holder.store(state)
        self.fits += 1
        self.loop = None
        return report

    def begin(self, rows: int, steps: int) -> None:
        """Announce a loop of your own: ``steps`` calls of :meth:`step` on batches of a data set of ``rows`` rows."""
        self.loop = OwnLoop(self.method, rows, steps)

    @torch.inference_mode(False)
    def step(self, x: Any, y: Any = None) -> dict[str, float]:
        """One update on a batch, in your own loop; call :meth:`begin` first, so that N and the schedule are known.

        After the last update of the announced run the method concludes its fit on this batch; call :meth:`finish` with
        all data where that matters (Laplace).

        Returns
        -------
        dict
            ``potential``, nats a row, and the method's own metrics.

        Raises
        ------
        DivergenceError
            Where numbers go bad: the last good state is kept.
        """
        if self.loop is None:
            raise UserError("step: call begin(rows=N, steps=T) first: N scales the batches, T sets the schedules")
        target, state = self._target(x, y, None, self.loop.rows, check=self.loop.done == 0), self.state
        try:
            metrics = self.loop.step(state, target, self._generator("step"))
        except DivergenceError:
            self.holder.store(state)
            raise
        self.holder.store(state)
        self.fits += self.loop.finished
        return metrics

    @torch.inference_mode(False)
    def finish(self, x: Any, y: Any = None) -> None:
        """Conclude a loop of your own on all of the data (Laplace: the curvature)."""
        state = self.state
        self.method.finish(state, self._target(x, y, None), self._generator("finish"))
        self.holder.store(state)

    def loss(self, x: Any, y: Any = None, *, rows: int | None = None) -> Tensor:
        """The method's loss, a scalar in nats a row, differentiable in ``self.parameters()``.

        For variational methods it is (KL + expected negative log-likelihood of all N rows) / N.

        Parameters
        ----------
        x, y : Tensor
            A batch.
        rows : int, optional
            N; by default that of :meth:`begin`, or the size of the batch itself.

        Raises
        ------
        UserError
            For methods that have no loss (MCMC, Laplace, ...), saying what to call instead.
        """
        if not isinstance(self.method, LossMethod):
            raise UserError(
                f"inference {name_of(self.method)!r} has no loss to minimise: call fit(x, y), or begin() and step(x, y)"
            )
        if rows is None and self.loop is not None:
            rows = self.loop.rows
        batch = self._target(x, y, None, rows).batch()
        state = self.holder.live()
        if self.method.loss_needs():
            raise UserError(f"loss: {', '.join(self.method.loss_needs())} needs the whole data set: call fit(x, y)")
        values = self.method.loss(state, batch, self._generator("loss"))
        return (values / batch.rows_of(values.shape[0])).mean()

    def draw(self, size: int | None = None, *, generator: torch.Generator | None = None) -> Draw:
        """``size`` fixed functions from the posterior."""
        size = self.method.natural_draws(DRAWS, DRAWS) if size is None else size
        if size < 1:
            raise UserError(f"draw: size={size!r}, expected at least 1")
        return self.method.draw(self.model, self.state, size, generator or self._generator("draw"))

    def predict(self, x: Any, samples: int | None = None, *, generator: torch.Generator | None = None) -> Predictive:
        """The predictive distribution at x (B, *in), as a mixture of ``samples`` functions."""
        draw = self.draw(samples, generator=generator)
        with torch.no_grad():
            return predictive_of(draw.predictive(self._inputs(x)), self._generator("predict"))

    @overload
    def forward(self, x: Any, samples: int = 1, *, log_probs: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, x: Any, samples: int = 1, *, log_probs: Literal[True]) -> tuple[Tensor, WeightLogProbs]: ...

    def forward(self, x: Any, samples: int = 1, *, log_probs: bool = False) -> Tensor | tuple[Tensor, WeightLogProbs]:
        """Outputs of ``samples`` functions, (samples, B, *out).

        Parameters
        ----------
        log_probs : bool
            Return beside them the log densities of the weights of each sample under posterior and prior, (samples,)
            each: for variational methods (``inference="bbb"``).
        """
        if samples < 1:
            raise UserError(f"samples={samples!r}: expected at least 1")
        if not log_probs:
            return self.draw(samples)(self._inputs(x))
        weights: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = getattr(self.method, "weights", None)
        if weights is None:
            raise UserError(
                f"log_probs=True: inference {name_of(self.method)!r} has no density of weights; take inference='bbb'"
            )
        params, points, posterior = weights(self.state, samples, self._generator("draw"))
        prior = self.model.prior.log_prob(params, self.model.network.layout)
        return self.model.functions(params, points)(self._inputs(x)), WeightLogProbs(posterior, prior)

    def kl_divergence(self) -> Tensor:
        """KL(q || prior) of each member, (S,), nats: analytic where registered, by Monte Carlo otherwise.

        Raises
        ------
        UserError
            For methods whose posterior has no density.
        """
        kl: Callable[..., Tensor] | None = getattr(self.method, "kl", None)
        if kl is None:
            raise UserError(
                f"inference {name_of(self.method)!r} has no variational density: kl_divergence() is for inference='bbb'"
            )
        return kl(self.model, self.holder.live(), self._generator("kl"))

    def save(self, path: str | Path) -> None:
        """Write settings (JSON) and state (safetensors) to a folder; nothing is pickled."""
        saving.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, net: nn.Module, **parts: Any) -> Self:
        """Read what :meth:`save` wrote; ``net`` is the module that was wrapped (its weights do not matter).

        Parameters
        ----------
        **parts
            ``inference``, ``likelihood`` or ``prior`` objects of your own that cannot be named in a file.
        """
        return saving.load(cls, Path(path), net, parts)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.model.network.module._apply(fn)
        return super()._apply(fn, recurse)

    def _generator(self, purpose: str) -> torch.Generator:
        self.calls += 1
        device = "cpu" if not hasattr(self, "holder") or not self.holder.live() else self.device
        return torch_generator(self.seed, f"bnn/{purpose}", self.calls, device=device)

    def get_extra_state(self) -> Tensor:
        """Counters, for ``state_dict``."""
        return torch.tensor([self.calls, self.fits])

    def set_extra_state(self, state: Tensor) -> None:
        """Take counters over from a ``state_dict``."""
        self.calls, self.fits = (int(number) for number in state)

    def _inputs(self, x: Any) -> Tensor:
        x = torch.as_tensor(x)
        x = x.to(self.device, self.dtype if x.is_floating_point() else x.dtype)
        if x.dim() == 0 or not torch.isfinite(x).all():
            raise UserError(f"x has shape {tuple(x.shape)}: expected finite inputs (B, *in)")
        check_width(self.model, self.holder.plain(), x[:1])
        return x

    def _target(self, x: Any, y: Any, weights: Tensor | None, rows: int | None = None, check: bool = True) -> Target:
        data = x if y is None else (x, y)
        inputs, targets = (t.clone() if t.is_inference() else t for t in as_tensors(data, self.dtype, self.device))
        if targets.dim() == 1:
            targets = targets.unsqueeze(-1)
        targets = targets.flatten(1)
        if rows is not None and rows < len(inputs):
            raise UserError(f"rows={rows!r}: N cannot be smaller than the batch of {len(inputs)} rows")
        if check:
            check_width(self.model, self.holder.plain(), inputs[:1])
        weights = None if weights is None else torch.as_tensor(weights).to(self.device, self.dtype)
        return Target(self.model, inputs, targets, weights, self.method.temperature, rows=rows)
