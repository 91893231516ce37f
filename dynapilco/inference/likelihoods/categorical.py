"""One of C classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributions

from dynapilco.core.errors import UserError
from dynapilco.inference.likelihoods.base import register_likelihood
from dynapilco.inference.likelihoods.discrete import DiscreteLikelihood


@register_likelihood("categorical", "softmax")
@dataclass(frozen=True)
class Categorical(DiscreteLikelihood):
    """y ~ softmax(f): a target column holds class numbers 0, ..., C - 1 and takes C columns of f.

    Attributes
    ----------
    classes : int or None
        C. None: the network's output width, for one target column.
    """

    classes: int | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and not (isinstance(self.classes, int) and self.classes >= 2):
            raise UserError(f"classes={self.classes!r}: expected a whole number of at least 2, or None")

    def network_outputs(self, outputs: int) -> int:
        """C columns of f for each target column."""
        if self.classes is None:
            raise UserError("likelihood Categorical: give classes=..., the width of the network follows from it")
        return outputs * self.classes

    def target_columns(self, width: int) -> int:
        """One where the classes are read off the width, else width / C."""
        if width < 2 or (self.classes is not None and width % self.classes):
            raise UserError(
                f"likelihood Categorical: an output of width {width} does not fit classes={self.classes!r}; expected "
                "one logit for each class (for two classes and one logit: likelihood='bernoulli')"
            )
        return 1 if self.classes is None else width // self.classes

    def for_network(self, width: int) -> Categorical:
        """With ``classes`` read off the width, where they are not given: so that targets can be checked."""
        return replace(self, classes=width) if self.classes is None else self

    def distribution(self, noise: Tensor, f: Tensor) -> distributions.Categorical:
        """Of f (S, B, out * C) -> batch shape (S, B, out)."""
        return distributions.Categorical(logits=self._logits(f))

    def log_prob(self, raw: Tensor, f: Tensor, y: Tensor) -> Tensor:
        """Log probability of the classes y (B, out) or (S, B, out) under f (S, B, out * C) -> (S, B)."""
        logits = self._logits(f)
        index = y.long().expand(logits.shape[:-1]).unsqueeze(-1)
        try:
            chosen = logits.gather(-1, index).squeeze(-1)
        except (IndexError, RuntimeError) as error:  # prepare cannot know C where it is read off the width
            if int(index.max()) < logits.shape[-1]:
                raise
            raise UserError(
                f"y holds class {int(index.max())}, the network has outputs for {logits.shape[-1]} classes only"
            ) from error
        return (chosen - logits.logsumexp(-1)).sum(-1)

    def prepare(self, y: Tensor, outputs: int) -> Tensor:
        """Class numbers (..., N, out) as integers; (N,) is taken where there is one column.

        Raises
        ------
        UserError
            For probabilities or one-hot rows, class numbers below 0, and those of C or more where C is known.
        """
        if y.dim() > 1 and y.shape[-1] != outputs:
            raise UserError(
                f"y has {y.shape[-1]} columns, expected {outputs} of class numbers; one-hot rows become class numbers "
                "by y.argmax(-1)"
            )
        y = super().prepare(y, outputs)
        top = torch.inf if self.classes is None else self.classes
        names = "class numbers from 0 on" if self.classes is None else f"class numbers 0 to {self.classes - 1}"
        self._refuse(y, (y < 0) | (y >= top), names)
        return y.long()

    def _logits(self, f: Tensor) -> Tensor:
        """Logits of f as (S, B, out, C)."""
        return f.unflatten(-1, (-1, self.classes or f.shape[-1]))
