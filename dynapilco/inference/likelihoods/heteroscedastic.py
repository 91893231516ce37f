"""Gaussian noise whose variance the network predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, distributions
from torch.nn.functional import softplus

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import Likelihood, register_likelihood


@register_likelihood("heteroscedastic", "heteroscedastic_gaussian")
@dataclass(frozen=True)
class HeteroscedasticGaussian(Likelihood):
    """y ~ N(m, v), where the network's output is (m, l), out columns each, and log v is l kept within soft bounds.

    log v = low + softplus(l' - low) with l' = high - softplus(high - l) (Chua et al. 2018, appendix A.1): the gradient
    never vanishes entirely, and v stays bounded far from the data. There is nothing to learn beside the network; the
    constrained noise is a factor on sqrt(v), 1 unless a draw was rescaled.

    Attributes
    ----------
    min_log_variance, max_log_variance : float
        low and high, in units of the (standardised) target squared.
    """

    min_log_variance: float = -10.0
    max_log_variance: float = 2.0

    def __post_init__(self) -> None:
        if not -math.inf < self.min_log_variance < self.max_log_variance < math.inf:
            raise UserError(
                f"min_log_variance={self.min_log_variance!r}, max_log_variance={self.max_log_variance!r}: "
                "expected finite numbers, the first below the second"
            )

    def network_outputs(self, outputs: int) -> int:
        """Two columns for each target."""
        return 2 * outputs

    def target_columns(self, width: int) -> int:
        """Half of the width."""
        if width % 2:
            raise UserError(
                f"likelihood {type(self).__name__}: the network has {width} outputs, expected an even number (a mean "
                "and a log-variance for each target column)"
            )
        return width // 2

    def init(self, members: int, outputs: int) -> Tensor:
        """Nothing: (members, 0)."""
        return torch.zeros(members, 0)

    def constrain(self, raw: Tensor) -> Tensor:
        """The factor 1, (S, 1)."""
        return raw.new_ones(raw.shape[0], 1)

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Log density of each row, summed over outputs: f (S, B, 2 out), y (B, out) or (S, B, out) -> (S, B)."""
        mean, log_variance = self._parts(f)
        per_output = (y - mean).square() * (-log_variance).exp() + log_variance
        return -0.5 * (per_output.sum(-1) + math.log(2 * math.pi) * mean.shape[-1])

    def distribution(self, noise: Tensor, f: Tensor) -> distributions.Normal:
        """Of f (S, B, 2 out), noise (S, out) or (S, 1) -> batch shape (S, B, out)."""
        mean, log_variance = self._parts(f)
        return distributions.Normal(mean, (0.5 * log_variance).exp() * noise.unsqueeze(-2))

    def fold(self, noise: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mean columns and the factor are rescaled; the log-variance columns stay as they are."""
        scale, shift = torch.broadcast_tensors(torch.as_tensor(scale), torch.as_tensor(shift))
        if scale.dim() != 1:
            raise UserError(f"fold: scale has shape {tuple(scale.shape)}, expected (out,), one for each target column")
        left = torch.ones_like(scale), torch.zeros_like(shift)
        return noise * scale.abs(), torch.cat([scale, left[0]]), torch.cat([shift, left[1]])

    def _parts(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and bounded log-variance, (S, B, out) each."""
        mean, free = f.chunk(2, dim=-1)
        below = self.max_log_variance - softplus(self.max_log_variance - free)
        return mean, self.min_log_variance + softplus(below - self.min_log_variance)
