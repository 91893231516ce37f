"""Where units are dropped in any module.

To drop input unit j of a layer is to scale column j of its weight, whatever the layer: input channel j of a
convolution, embedding dimension j of an attention block's projections, row j of an embedding, column j of a recurrent
layer's matrices. So a mask over units is a distribution over weights (Gal & Ghahramani 2016), and one mask is one
fixed function.

The units of every weight layer are dropped but those of the first one (in the order of definition), which reads the
inputs, and of embeddings, whose units are the tokens. Norms, biases, bare parameters and excluded or frozen weights
are never touched. A weight that occurs twice gets one mask; where it reads the inputs first and hidden units later it
is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dynapilco.inference.dropout.layers import Reading, Units, readings_of
from dynapilco.inference.network import StackedNetwork


@dataclass(frozen=True)
class Site:
    """A vector of units that one mask is drawn for.

    Attributes
    ----------
    weights : tuple of str
        Names of the parameters that it scales.
    width : int
        Number of units.
    """

    weights: tuple[str, ...]
    width: int


@dataclass(frozen=True, eq=False)
class DropoutSites:
    """All sites of a network.

    Attributes
    ----------
    sites : tuple of Site
    unit : Tensor
        For each Bayesian weight (n,) the number of its unit, sites one after another; the last number (``units``)
        stands for weights that are never dropped.
    site : Tensor
        For each Bayesian weight (n,) the number of its site; ``len(sites)`` for none.
    """

    sites: tuple[Site, ...]
    unit: Tensor
    site: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters that are scaled."""
        return tuple(name for site in self.sites for name in site.weights)

    @property
    def widths(self) -> list[int]:
        """Units of each site."""
        return [site.width for site in self.sites]

    def number(self, weight: str) -> int | None:
        """Number of the site that scales the parameter ``weight``, or None."""
        return next((i for i, site in enumerate(self.sites) if weight in site.weights), None)

    def scale(self, params: Tensor, masks: tuple[Tensor, ...]) -> Tensor:
        """Weights under masks: params (*lead, n), masks (*lead, width) one a site -> (*lead, n), by broadcasting."""
        factors = torch.cat([*masks, masks[0].new_ones(*masks[0].shape[:-1], 1)], dim=-1)
        return params * factors.index_select(-1, self.unit)

    def spread(self, values: Tensor, rest: float) -> Tensor:
        """Give each weight the value of its site: values (*lead, sites) -> (*lead, n); ``rest`` where it has none."""
        padded = torch.cat([values, values.new_full((*values.shape[:-1], 1), rest)], dim=-1)
        return padded.index_select(-1, self.site)


_CACHE: WeakKeyDictionary[StackedNetwork, dict[tuple[bool, torch.device], DropoutSites]] = WeakKeyDictionary()


def find_sites(network: StackedNetwork, device: torch.device | str = "cpu", *, inputs: bool = False) -> DropoutSites:
    """The sites of ``network``; with ``inputs`` also those of the first weight layer and of embeddings."""
    known, key = _CACHE.setdefault(network, {}), (inputs, torch.device(device))
    if key not in known:
        known[key] = _build(network, _readings(network.module, inputs), key[1])
    return known[key]


def _readings(module: nn.Module, inputs: bool) -> list[tuple[Reading, Units]]:
    """Readings that are dropped, with their units by the full name of the parameter."""
    full = {id(p): name for name, p in module.named_parameters()}
    found, first = [], True
    for _, layer in module.named_modules(remove_duplicate=False):
        readings = readings_of(layer)
        for reading in readings:
            if inputs or not (reading.data or (first and reading.entry)):
                own = {name: getattr(layer, name) for name in reading.units}
                units = {full[id(p)]: reading.units[name] for name, p in own.items() if id(p) in full}
                found.append((reading, units))
        first = first and not readings
    return found


def _build(network: StackedNetwork, readings: list[tuple[Reading, Units]], device: torch.device) -> DropoutSites:
    layout, sites, chosen = network.layout, [], {}
    for reading, units in readings:
        names = tuple(name for name in units if name in layout.names and name not in chosen)
        if names:
            chosen |= {name: (len(sites), units[name]) for name in names}
            sites.append(Site(names, reading.width))
    starts = [0, *accumulate(site.width for site in sites)]
    unit = torch.full((layout.total,), starts[-1])
    number = torch.full((layout.total,), len(sites))
    for name, place in layout.slices().items():
        if name in chosen:
            site, own = chosen[name]
            unit[place], number[place] = starts[site] + own.flatten(), site
    return DropoutSites(tuple(sites), unit.to(device), number.to(device))
