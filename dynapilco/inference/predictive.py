"""What a posterior predicts at some inputs: the equal mixture of its functions, with its uncertainty taken apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from dynapilco.core.errors import UserError
from dynapilco.inference.random import global_generator_from

BISECTIONS = 60
SAMPLES = 4096


@dataclass(frozen=True)
class Predictive:
    """The predictive distribution of B rows with out target columns: p(y|x) = mean over s of p(y | f_s(x)).

    Attributes
    ----------
    distribution : Distribution
        Each function's own, batch shape (S, B, out).
    generator : torch.Generator
        Used where a method is given none.
    """

    distribution: Distribution
    generator: torch.Generator

    @property
    def size(self) -> int:
        """S."""
        return self.distribution.batch_shape[0]

    @property
    def mean(self) -> Tensor:
        """Expected target, (B, out)."""
        return self.distribution.mean.mean(0)

    @property
    def epistemic(self) -> Tensor:
        """Variance of the functions' means, (B, out): what more data would remove."""
        return self.distribution.mean.var(0, unbiased=False)

    @property
    def aleatoric(self) -> Tensor:
        """Mean of the functions' own variances, (B, out): noise that stays."""
        return self.distribution.variance.mean(0)

    @property
    def variance(self) -> Tensor:
        """Epistemic + aleatoric, (B, out)."""
        return self.epistemic + self.aleatoric

    @property
    def std(self) -> Tensor:
        """Square root of the variance, (B, out)."""
        return self.variance.sqrt()

    def log_prob(self, y: Tensor) -> Tensor:
        """Log density of each row's targets under the mixture, (B,), nats; the columns of a row are joint.

        Parameters
        ----------
        y : Tensor
            (B, out), or (B,) where there is one column.
        """
        rows = self.distribution.log_prob(self._columns(y)).sum(-1)
        return torch.logsumexp(rows, 0) - math.log(self.size)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` targets for each row, (n, B, out): functions in turn, each with its own noise."""
        if n < 1:
            raise UserError(f"n={n!r}: expected at least 1 sample")
        generator = generator or self.generator
        rounds = math.ceil(n / self.size)
        with global_generator_from(generator):
            samples = self.distribution.sample(torch.Size([rounds])).flatten(0, 1)
        order = torch.randperm(samples.shape[0], generator=generator, device=generator.device)[:n]
        return samples[order.to(samples.device)]

    def quantile(self, q: float | Tensor) -> Tensor:
        """Quantile ``q`` of each row and column: (B, out), or (len(q), B, out) for several.

        By bisection of the mixture's distribution function where the likelihood has one, else from samples.
        """
        levels = torch.as_tensor(q, dtype=self.mean.dtype, device=self.mean.device)
        if levels.numel() == 0 or not bool(((levels > 0) & (levels < 1)).all()):
            raise UserError(f"q={q!r}: quantile levels lie strictly between 0 and 1")
        found = self._bisect(levels.reshape(-1)) if self._has_cdf() else self._from_samples(levels.reshape(-1))
        return found.reshape(*levels.shape, *found.shape[1:])

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Central interval of probability ``level``: lower and upper ends, (B, out) each."""
        if not 0 < level < 1:
            raise UserError(f"level={level!r}: expected a probability strictly between 0 and 1")
        low, high = self.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2]))
        return low, high

    def cdf(self, y: Tensor) -> Tensor:
        """Mixture's distribution function at y (B, out), column by column."""
        return self.distribution.cdf(self._columns(y)).mean(0)

    def _columns(self, y: Tensor) -> Tensor:
        rows, out = self.distribution.batch_shape[1:3]
        if y.shape == (rows,) and out == 1:
            y = y.unsqueeze(-1)
        if y.shape != (rows, out):
            raise UserError(f"y has shape {tuple(y.shape)}: expected ({rows}, {out}), one row for each input")
        return y

    def _has_cdf(self) -> bool:
        try:
            self.distribution.cdf(self.distribution.mean)
        except NotImplementedError:
            return False
        return True

    def _bisect(self, levels: Tensor) -> Tensor:
        center, spread = self.distribution.mean, self.distribution.variance.sqrt()
        reach = 1 / torch.minimum(levels, 1 - levels).sqrt().amin()  # Chebyshev: each function's quantile lies within
        low = (center - reach * spread).amin(0).expand(len(levels), *center.shape[1:])
        high = (center + reach * spread).amax(0).expand_as(low)
        levels = levels.reshape(-1, 1, 1)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            below = torch.stack([self.distribution.cdf(m).mean(0) for m in middle]) < levels
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def _from_samples(self, levels: Tensor) -> Tensor:
        return torch.quantile(self.sample(SAMPLES), levels, dim=0)


@dataclass(frozen=True)
class ClassPredictive(Predictive):
    """Prediction of classes: probabilities, and uncertainty in nats instead of variances.

    (Depeweg et al. 2018: entropy = mutual information + expected entropy.)
    """

    @property
    def probabilities(self) -> Tensor:
        """Of the classes, (B, C) for one categorical column; (B, columns, C) for several; (B, out) for Bernoulli."""
        probs = self.distribution.probs.mean(0)  # pyright: ignore[reportAttributeAccessIssue]
        single = isinstance(self.distribution, Categorical) and probs.shape[-2] == 1
        return probs.squeeze(-2) if single else probs

    @property
    def mean(self) -> Tensor:
        """The probabilities."""
        return self.probabilities

    @property
    def entropy(self) -> Tensor:
        """Entropy of the mixture, (B, out): total uncertainty."""
        probs = self.distribution.probs.mean(0)  # pyright: ignore[reportAttributeAccessIssue]
        return type(self.distribution)(probs).entropy()

    @property
    def aleatoric(self) -> Tensor:
        """Expected entropy of a function, (B, out)."""
        return self.distribution.entropy().mean(0)

    @property
    def epistemic(self) -> Tensor:
        """Mutual information of target and function, (B, out), at least 0."""
        return (self.entropy - self.aleatoric).clamp_min(0.0)

    mutual_information = epistemic
    expected_entropy = aleatoric

    @property
    def variance(self) -> Tensor:
        """Of 0/1 targets under the mixture, in the shape of the probabilities."""
        return self.probabilities * (1 - self.probabilities)

    def quantile(self, q: float | Tensor) -> Tensor:
        """Classes have no order: raises ``UserError`` that says what to use."""
        raise UserError("quantile: classes have no order; use .probabilities, .sample(n) or .log_prob(y)")


def predictive_of(distribution: Distribution, generator: torch.Generator) -> Predictive:
    """The face for a distribution of batch shape (S, B, out): classes or numbers."""
    cls = ClassPredictive if isinstance(distribution, Categorical | Bernoulli) else Predictive
    return cls(distribution, generator)
