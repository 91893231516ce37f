"""Which outputs have normal noise, and which are logits of yes-or-no targets."""

from __future__ import annotations

from dataclasses import dataclass

from dynapilco.inference.likelihoods import Bernoulli, Gaussian, Joint, Likelihood


@dataclass(frozen=True)
class Kinds:
    """Output columns by the likelihood of their targets.

    Attributes
    ----------
    normal, binary : list of int
        Columns with Gaussian noise, and logits of Bernoulli targets.
    """

    normal: list[int]
    binary: list[int]

    @classmethod
    def of(cls, likelihood: Likelihood, outputs: int) -> Kinds | None:
        """Those of a likelihood of ``outputs`` columns; None where it holds a column of another kind."""
        if isinstance(likelihood, Gaussian):
            return cls(list(range(outputs)), [])
        if isinstance(likelihood, Bernoulli):
            return cls([], list(range(outputs)))
        if not isinstance(likelihood, Joint):
            return None
        normal: list[int] = []
        binary: list[int] = []
        first = 0
        for block in likelihood.parts:
            kind = cls.of(block.likelihood, block.columns)
            if kind is None:
                return None
            normal += [first + o for o in kind.normal]
            binary += [first + o for o in kind.binary]
            first += block.columns
        return cls(normal, binary)
