"""Does the model know what it does not know? Scores on an episode that it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dynapilco.dynamics.model import DynamicsDraw
from dynapilco.dynamics.transitions import Transitions

LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class OneStepScore:
    """Scores of one-step predictions.

    Attributes
    ----------
    coverage : float
        Share of (transition, output) pairs inside the central 95 % predictive interval.
    nll : float
        Mean negative log density of a transition's outputs, each in units of ``unit``; nats.
    crps : float
        Mean continuous ranked probability score of an output, in units of ``unit``.
    sharpness : float
        Mean width of an output's central 95 % predictive interval, in units of ``unit``.
    pit : Tensor
        Probability integral transform of every output, (T, O): the predictive probability of a value below the one that
        came; uniform where the model is calibrated (Dawid 1984). On the CPU.
    columns : tuple of int
        State column that each of the O outputs moves.
    brier : float or None
        Mean squared difference between the probability of a yes and the answer, 0 or 1 (Brier 1950); None where
        nothing is learned as yes or no.
    """

    coverage: float
    nll: float
    crps: float
    sharpness: float
    pit: Tensor
    columns: tuple[int, ...]
    brier: float | None = None


@dataclass(frozen=True)
class HorizonScore:
    """Scores of the imagined particles against the trial that followed, means over its (step, column) pairs.

    Attributes
    ----------
    coverage : float
        Share inside the particles' central 95 % interval.
    nll : float
        Negative log density under the Gaussian with the particles' mean and standard deviation; nats, in units of
        ``unit``.
    crps : float
        Continuous ranked probability score of the particles, in units of ``unit``.
    sharpness : float
        Width of the central 95 % interval, in units of ``unit``.
    """

    coverage: float
    nll: float
    crps: float
    sharpness: float


def one_step(
    draw: DynamicsDraw, episode: Transitions, unit: Tensor, generator: torch.Generator, samples: int = 200
) -> OneStepScore:
    """Score one-step predictions of the state with epistemic spread (functions) and noise (each function's own).

    Outputs about unseen columns, as a learned reward, are left out; answers of yes or no have a score of their own.

    Parameters
    ----------
    draw : DynamicsDraw
    episode : Transitions
        T rows that the model was not fitted to.
    unit : Tensor
        Scale of each output, (O,): the model's target scale.
    generator : torch.Generator
    samples : int
        Noise samples per function.
    """
    x, u = (t.expand(draw.size, *t.shape) for t in (episode.states, episode.actions))
    mean = draw.outputs(x, u)
    std = draw.noise_std.unsqueeze(1).expand_as(mean)
    truth = draw.stepping.targets(episode.states, episode.next_states)
    brier = None
    if draw.geometry.binary:
        answers = list(draw.geometry.binary)
        logits = mean[..., [draw.stepping.columns.index(column) for column in answers]]
        brier = float((logits.sigmoid().mean(0) - episode.next_states[:, answers]).square().mean())
    columns = draw.stepping.columns
    if draw.geometry.unseen:
        of_state = [o for o, column in enumerate(columns) if column not in draw.geometry.unseen]
        columns = tuple(columns[o] for o in of_state)
        mean, std, truth, unit = mean[..., of_state], std[..., of_state], truth[..., of_state], unit[of_state]
    noise = torch.randn(samples, *mean.shape, generator=generator, device=mean.device)
    low, high = interval((mean + std * noise).flatten(0, 1))
    return OneStepScore(
        coverage=float(((truth >= low) & (truth <= high)).double().mean()),
        nll=float(-mixture_log_density(mean / unit, std / unit, truth / unit).mean()),
        crps=float(mixture_crps(mean / unit, std / unit, truth / unit).mean()),
        sharpness=float(((high - low) / unit).double().mean()),
        pit=mixture_cdf(mean, std, truth).cpu(),
        columns=tuple(columns),
        brier=brier,
    )


def mixture_log_density(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    """Log density (T,) of y (T, O) under the equal mixture of S Gaussians with mean, std (S, T, O)."""
    logs = -0.5 * ((y - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(logs.sum(-1), 0) - math.log(mean.shape[0])


def mixture_cdf(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    """Distribution function (T, O) at y (T, O), output by output, of the mixture of S Gaussians (S, T, O)."""
    return torch.special.ndtr((y - mean) / std).mean(0)


def mixture_crps(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    """Continuous ranked probability score (T, O) of y (T, O) under the equal mixture of S Gaussians (S, T, O).

    CRPS = E|X - y| - E|X - X'| / 2, both in closed form (Grimit et al. 2006, QJRMS 132:2925, eq. 5). The pairs of
    functions are summed one function at a time, so memory stays that of the mixture itself.
    """
    near = mean_distance(mean - y, std).mean(0)
    apart = torch.zeros_like(near)
    for m, s in zip(mean, std, strict=True):
        apart += mean_distance(mean - m, torch.hypot(std, s)).mean(0)
    return near - apart / (2 * len(mean))


def mean_distance(mean: Tensor, std: Tensor) -> Tensor:
    """E|X| of a Gaussian: 2 s phi(m / s) + m (2 Phi(m / s) - 1)."""
    z = mean / std
    return math.sqrt(2 / math.pi) * std * torch.exp(-0.5 * z.square()) + mean * torch.special.erf(z / math.sqrt(2))


def horizon(predicted: Tensor, observed: Tensor, unit: Tensor) -> HorizonScore:
    """Score the particles of an imagined trial; (step, column) pairs with fewer than two finite particles are left out.

    Parameters
    ----------
    predicted : Tensor
        Particle states (K, T, D), imagined from the start of the trial under the trial's policy.
    observed : Tensor
        What happened, (T, D).
    unit : Tensor
        Scale of each column, (D,).
    """
    low, high = interval(predicted)
    inside = (observed >= low) & (observed <= high)
    particles, seen = (predicted / unit).double(), (observed / unit).double()
    particles = torch.where(torch.isfinite(particles), particles, torch.nan)
    known = torch.isfinite(particles).sum(0) > 1
    mean = particles.nanmean(0)
    # the variance of the sample is that of the Gaussian; one of nothing, where all particles agree, has no density
    variance = (particles - mean).square().nanmean(0).clamp_min(1e-12)
    nll = 0.5 * ((seen - mean).square() / variance + variance.log() + math.log(2 * math.pi))
    return HorizonScore(
        coverage=float(inside.double().mean()),
        nll=_mean(nll, known),
        crps=_mean(particle_crps(particles, seen), known),
        sharpness=_mean(((high - low) / unit).double(), known),
    )


def particle_crps(particles: Tensor, y: Tensor) -> Tensor:
    """Fair continuous ranked probability score (T, D) of y (T, D) under particles (K, T, D); those with NaN left out.

    E|X - y| - sum_ij |x_i - x_j| / (2 K (K - 1)) (Ferro 2014, QJRMS 140:1917): as if there were endless particles, so
    methods with different numbers of them can be compared. Sorted, the double sum is one: 2 sum_i (2 i - K - 1) x_(i).
    """
    ordered = particles.sort(0).values  # NaN come last
    there = torch.isfinite(ordered)
    count = there.sum(0)
    rank = torch.arange(1, len(ordered) + 1, device=ordered.device, dtype=ordered.dtype).reshape(-1, 1, 1)
    pairs = 2 * torch.where(there, (2 * rank - count - 1) * ordered, 0.0).sum(0)
    return (particles - y).abs().nanmean(0) - pairs / (2 * count * (count - 1))


def _mean(values: Tensor, known: Tensor) -> float:
    return float(values[known].mean())


def interval(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Central 95 % interval over the first axis; samples with NaN are left out."""
    flat = samples.flatten(1).T.contiguous()
    levels = torch.tensor(LEVELS, device=samples.device, dtype=samples.dtype)
    low, high = torch.nanquantile(flat, levels, dim=1)
    return low.reshape(samples.shape[1:]), high.reshape(samples.shape[1:])


def spread(particles: Tensor) -> tuple[Tensor, Tensor]:
    """Split the spread of particles into what the functions disagree about and what is left.

    The law of total variance, with the unbiased estimators of one-way analysis of variance: the means of few particles
    lie apart even where the functions agree, by within / P, which is taken off.

    Parameters
    ----------
    particles : Tensor
        (T, S, P, D): P particles of each of S functions, P of at least 2; those with NaN are left out.

    Returns
    -------
    tuple of Tensor
        Epistemic and aleatoric standard deviation, (T, D) each. NaN where fewer than two particles of a function are
        left everywhere; epistemic 0 for a single function.
    """
    count = torch.isfinite(particles).sum(2).double()
    mean = particles.double().nanmean(2)
    within = (particles.double() - mean.unsqueeze(2)).square().nansum(2) / (count - 1)
    within = torch.where(count > 1, within, torch.nan)
    aleatoric = within.nanmean(1)
    if particles.shape[1] == 1:
        return torch.zeros_like(aleatoric), aleatoric.sqrt()
    means = torch.isfinite(mean).sum(1).double()
    between = (mean - mean.nanmean(1, keepdim=True)).square().nansum(1) / (means - 1)
    epistemic = between - (within / count).nanmean(1)
    return epistemic.clamp_min(0).sqrt(), aleatoric.sqrt()
