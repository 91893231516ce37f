"""A prior of its own for each group of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.layout import ParameterLayout
from dynapilco.inference.likelihoods.feedback import plain_spec
from dynapilco.inference.priors.base import Prior, make_prior, register_prior
from dynapilco.inference.priors.normal import diagonal_normal
from dynapilco.inference.priors.partial import PartialLayout, whole_of


@register_prior("per_layer")
@dataclass(frozen=True)
class PerLayer(Prior):
    """The first pattern that matches a parameter's name gives its prior.

    Attributes
    ----------
    layers : mapping of str to prior
        Patterns as in ``fnmatch`` (``"0.*"``, ``"*.bias"``); a prior is an object, a ``torch.distributions`` object, a
        name, or a pair (name, options). Kept as a tuple of pairs.

    Examples
    --------
    >>> from dynapilco.inference.priors import PerLayer
    >>> PerLayer({"*.bias": ("normal", {"scale": 0.5}), "*": "horseshoe"}).layers
    (('*.bias', ('normal', (('scale', 0.5),))), ('*', 'horseshoe'))
    """

    layers: Mapping[str, Any] | tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        pairs = tuple(self.layers.items() if isinstance(self.layers, Mapping) else self.layers)
        if not pairs or not all(isinstance(p, tuple | list) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
            raise UserError(f"layers={self.layers!r}: expected patterns of parameter names, each with its prior")
        object.__setattr__(self, "layers", tuple((pattern, plain_spec(spec)) for pattern, spec in pairs))
        _ = self.priors  # raises for unknown names and wrong supports

    @cached_property
    def priors(self) -> tuple[tuple[str, Prior], ...]:
        """Patterns and their priors, made."""
        pairs: Any = self.layers
        return tuple((pattern, make_prior(spec)) for pattern, spec in pairs)

    @cached_property
    def gaussian(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Exactly N(0, diag(std^2)): all of the priors are."""
        return all(prior.gaussian for _, prior in self.priors)

    def log_prob(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """Sum over groups: params (S, n) -> (S,)."""
        if self.gaussian:
            return diagonal_normal(self, params, layout)
        terms = [prior.log_prob(group.take(params), group.layout) for prior, group in _groups(self, layout)]
        return torch.stack(terms).sum(0)

    def sample(self, layout: ParameterLayout, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size, n) parameter vectors."""
        groups = _groups(self, layout)
        return _assemble([(group, prior.sample(group.layout, size, generator)) for prior, group in groups])

    def std(self, layout: ParameterLayout) -> Tensor:
        """Each parameter's own, (n,)."""
        return _assemble([(group, prior.std(group.layout)) for prior, group in _groups(self, layout)])

    def curvature(self, params: Tensor, layout: ParameterLayout) -> Tensor:
        """Each parameter's own: params (S, n) -> (S, n)."""
        groups = _groups(self, layout)
        return _assemble([(group, prior.curvature(group.take(params), group.layout)) for prior, group in groups])


@dataclass(frozen=True)
class _Group:
    """The parameters of one prior: their layout, and where they lie in the whole vector."""

    layout: PartialLayout
    slices: tuple[slice, ...]

    def take(self, params: Tensor) -> Tensor:
        """(..., n) -> (..., n_group)."""
        return torch.cat([params[..., place] for place in self.slices], -1)


def _assemble(pieces: list[tuple[_Group, Tensor]]) -> Tensor:
    """Groups (..., n_group) as one vector (..., n)."""
    found = [
        (place.start, part)
        for group, values in pieces
        for place, part in zip(group.slices, values.split(group.layout.sizes, dim=-1), strict=True)
    ]
    return torch.cat([part for _, part in sorted(found, key=lambda pair: pair[0])], -1)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # cached: an inference tensor would fail in a later fit
def _groups(prior: PerLayer, layout: ParameterLayout) -> tuple[tuple[Prior, _Group], ...]:
    """Raises ``UserError`` where a parameter matches no pattern."""
    patterns = [pattern for pattern, _ in prior.priors]
    owner = {n: next((i for i, p in enumerate(patterns) if fnmatchcase(n, p)), None) for n in layout.names}
    lost = [name for name, found in owner.items() if found is None]
    if lost:
        raise UserError(
            f"prior PerLayer: no pattern matches {', '.join(lost)}; the patterns are {', '.join(patterns)} (add '*' "
            "for the rest)"
        )
    places, shapes = layout.slices(), dict(zip(layout.names, layout.shapes, strict=True))
    groups = []
    for index, (_, own) in enumerate(prior.priors):
        names = tuple(name for name in layout.names if owner[name] == index)
        if names:
            part = PartialLayout(names, tuple(shapes[name] for name in names), whole_of(layout))
            groups.append((own, _Group(part, tuple(places[name] for name in names))))
    return tuple(groups)
