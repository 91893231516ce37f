"""Scores of predicted class probabilities.

Shapes: B examples, C classes; ``probabilities`` is (B, C) with rows that sum to one, ``labels`` is (B,) of integers in
[0, C).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics.checks import (
    Reduction,
    reduce,
    require_floats,
    require_reduction,
    require_shape,
    require_unit_interval,
)

ROW_SUM_TOLERANCE = 1e-3  # room for float16 and bfloat16 softmax rows
Bins = Literal["width", "mass"]


def _require_labels(labels: Tensor, count: int, classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f"labels is {got}: expected a tensor of integers")
    require_shape("labels", labels, (count,), "the number of examples")
    bad = int(((labels < 0) | (labels >= classes)).sum())
    if bad:
        raise UserError(f"labels has {bad} of {count} entries outside 0..{classes - 1}: expected class numbers")


def _require_classification(probabilities: Tensor, labels: Tensor) -> None:
    require_floats(probabilities=probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise UserError(f"probabilities has shape {tuple(probabilities.shape)}: expected (B, C) with C >= 2")
    require_unit_interval("probabilities", probabilities)
    off = (probabilities.sum(1) - 1).abs()
    if bool((off > ROW_SUM_TOLERANCE).any()):
        raise UserError(
            f"probabilities has {int((off > ROW_SUM_TOLERANCE).sum())} of {len(off)} rows that do not sum to one "
            f"(worst by {float(off.max()):.3g}): expected probabilities, not logits"
        )
    _require_labels(labels, *probabilities.shape)


def accuracy(probabilities: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Fraction of examples whose most probable class is the label; (B,) of 0 and 1 with ``reduction="none"``."""
    require_reduction(reduction)
    _require_classification(probabilities, labels)
    return reduce((probabilities.argmax(1) == labels).to(probabilities.dtype), reduction)


def nll_categorical(probabilities: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Negative log of the probability of the label, in nats; infinite where that probability is zero (no clipping)."""
    require_reduction(reduction)
    _require_classification(probabilities, labels)
    chosen = probabilities.gather(1, labels.long()[:, None])[:, 0]
    return reduce(-chosen.clamp(0, 1).log(), reduction)


def brier(probabilities: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Brier score: squared distance of the probabilities from the one-hot label, summed over all C classes.

    Brier (1950); between 0 and 2. For two classes it is twice the one-sided score (p - y)^2.
    """
    require_reduction(reduction)
    _require_classification(probabilities, labels)
    one_hot = torch.nn.functional.one_hot(labels.long(), probabilities.shape[1])
    return reduce((probabilities - one_hot).square().sum(1), reduction)


class ReliabilityBins(NamedTuple):
    """Non-empty bins of top-label confidence, in order of confidence; each tensor has one entry a bin."""

    confidence: Tensor
    """Mean probability of the predicted class."""
    accuracy: Tensor
    """Fraction of right predictions."""
    count: Tensor
    """Number of examples."""


def reliability_bins(probabilities: Tensor, labels: Tensor, bins: int = 15, kind: Bins = "width") -> ReliabilityBins:
    """Group examples by the probability of their predicted class.

    Parameters
    ----------
    probabilities : Tensor, shape (B, C)
    labels : Tensor, shape (B,)
    bins : int
    kind : {"width", "mass"}
        "width": intervals ((m-1)/M, m/M] (Guo et al. 2017). "mass": edges at the quantiles of the
        confidence (Nixon et al. 2019); equal confidences share a bin, so the result never depends on row order.
    """
    if not isinstance(bins, int) or bins < 1:
        raise UserError(f"bins is {bins!r}: expected an integer of at least 1")
    if kind not in ("width", "mass"):
        raise UserError(f"kind is {kind!r}: expected 'width' or 'mass'")
    _require_classification(probabilities, labels)
    confidence, predicted = probabilities.double().clamp(0, 1).max(1)
    steps = torch.arange(1, bins, device=confidence.device)
    edges = steps / bins if kind == "width" else confidence.sort().values[steps * (len(confidence) - 1) // bins]
    index = torch.bucketize(confidence, edges.double())
    right = (predicted == labels).double()
    count = torch.bincount(index, minlength=bins)
    full = count > 0
    sums = [torch.bincount(index, weights=w, minlength=bins)[full] / count[full] for w in (confidence, right)]
    return ReliabilityBins(sums[0], sums[1], count[full])


def ece(probabilities: Tensor, labels: Tensor, bins: int = 15, kind: Bins = "width") -> Tensor:
    r"""Expected calibration error of the top label: :math:`\sum_m \frac{n_m}{B} |acc_m - conf_m|`, a scalar in [0, 1].

    Guo et al. (2017). Parameters as in :func:`reliability_bins`. Biased upwards when bins hold few examples.
    """
    binned = reliability_bins(probabilities, labels, bins, kind)
    share = binned.count / binned.count.sum()
    return (share * (binned.accuracy - binned.confidence).abs()).sum()


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing their average rank; float64."""
    _, inverse, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[inverse]


def auroc(scores: Tensor, labels: Tensor) -> Tensor:
    """Area under the ROC curve: probability that a positive scores above a negative, ties counting one half.

    The Mann-Whitney statistic by average ranks (Hanley and McNeil 1982), O(B log B).

    Parameters
    ----------
    scores : Tensor, shape (B,)
        Any real score, higher for class 1 (e.g. an uncertainty, for detecting errors or foreign inputs).
    labels : Tensor, shape (B,)
        0 or 1 (or bool).

    Returns
    -------
    Tensor
        Scalar in [0, 1].

    Raises
    ------
    UserError
        Only one of the two classes is present: the area is undefined.
    """
    require_floats(scores=scores)
    require_shape("scores", scores, (scores.numel(),), "one score for each example")
    _require_labels(labels, len(scores), 2)
    positive = labels.bool()
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        raise UserError(f"labels has {n_positive} positives and {n_negative} negatives: expected at least one of each")
    rank_sum = _ranks(scores)[positive].sum()
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def auroc_macro(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean over classes of the one-versus-rest AUROC of that class's probability; every class must be present."""
    _require_classification(probabilities, labels)
    classes = probabilities.shape[1]
    present = torch.bincount(labels.long(), minlength=classes)
    missing = (present == 0).nonzero()[:, 0].tolist()
    if missing:
        raise UserError(f"labels has no example of class {missing}: expected every one of the {classes} classes")
    areas = [auroc(probabilities[:, c], (labels == c).long()) for c in range(classes)]
    return torch.stack(areas).mean()
