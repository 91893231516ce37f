"""Squared gradients of single rows, summed: the diagonal of the empirical Fisher matrix.

For a stack of linear layers z = a W + b the gradient of row i is the outer product of its input a_i and of the
gradient d_i in z, hence sum_i g_i^2 = (a^2)^T d^2: two matrix products and no gradient of a single row. Any other
module is evaluated with a copy of the weights for every row, in chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynapilco.inference.stack import ACTIVATIONS
from dynapilco.inference.target import Batch

CHUNK = 2**22
"""Numbers in the gradients of the rows that are held at once."""


def squared_gradients(batch: Batch, params: Tensor, points: Tensor, chunk: int = CHUNK) -> Tensor:
    """(N/B) sum_i w_i (d log p(y_i | x_i, theta) / d theta)^2 over the batch's rows.

    Parameters
    ----------
    batch : Batch
        With row weights w or without (w = 1).
    params : Tensor
        (S, n).
    points : Tensor
        (S, k + m).
    chunk : int
        How many numbers the gradients of single rows may take up at once (modules that are no plain stack).

    Returns
    -------
    Tensor
        (S, n).
    """
    params, points = params.detach(), points.detach()
    plan = batch.model.network.dense_plan
    if plan is not None:
        return _dense(batch, params, points, plan[0]) * batch.factor
    return _by_rows(batch, params, points, chunk) * batch.factor


def _dense(batch: Batch, params: Tensor, points: Tensor, layers: tuple[str, ...]) -> Tensor:
    network, members = batch.model.network, params.shape[0]
    flat = batch.model.full(params, points)
    stack, x = network.dense(flat), batch.inputs_of(members)
    h, inputs, outputs = x if x.dim() == 3 else x.expand(members, *x.shape), [], []
    with torch.enable_grad():
        for layer, (w, b) in enumerate(zip(stack.weights, stack.biases, strict=True)):
            h = ACTIVATIONS[stack.activation](h) if layer else h
            inputs.append(h.detach())
            h = torch.baddbmm(b.unsqueeze(1), h, w).requires_grad_(True)
            outputs.append(h)
        total = batch.row_log_likelihood(h, points).sum()
        errors = torch.autograd.grad(total, outputs)
    weights = _weights(batch, members)
    named = {}
    for name, a, d in zip(layers, inputs, errors, strict=True):
        d = d.square() if weights is None else d.square() * weights.unsqueeze(-1)
        named[f"{name}.weight"] = d.transpose(-1, -2) @ a.square()
        named[f"{name}.bias"] = d.sum(-2)
    return network.divide(network.full.join(named))[0]


def _by_rows(batch: Batch, params: Tensor, points: Tensor, chunk: int) -> Tensor:
    members, n = params.shape
    total, weights = torch.zeros_like(params), _weights(batch, members)
    size = max(1, chunk // (members * n))
    for start in range(0, batch.rows, size):
        rows = slice(start, min(start + size, batch.rows))
        squares = _row_gradients(batch, params, points, rows).square()
        if weights is not None:
            squares = squares * weights[..., rows].expand(members, -1).unsqueeze(-1)
        total += squares.sum(1)
    return total


def _row_gradients(batch: Batch, params: Tensor, points: Tensor, rows: slice) -> Tensor:
    """Gradients of the rows' log-likelihoods, (S, rows, n): every row sees a copy of the weights of its own."""
    members, n = params.shape
    x, y = (_own_rows(t, batch, members, rows) for t in (batch.inputs_of(members), batch.targets_of(members)))
    count = rows.stop - rows.start
    copies = params.repeat_interleave(count, 0).requires_grad_(True)
    own_points = points.repeat_interleave(count, 0)
    with torch.enable_grad():
        f = batch.model.network.each(batch.model.full(copies, own_points), x)
        total = batch.row_log_likelihood(f, own_points, y).sum()
        (found,) = torch.autograd.grad(total, copies)
    return found.view(members, count, n)


def _own_rows(tensor: Tensor, batch: Batch, members: int, rows: slice) -> Tensor:
    """The rows of x or y as batches of one row each, (S * rows, 1, *)."""
    if batch.row_axis == 0:
        tensor = tensor.expand(members, *tensor.shape)
    return tensor[:, rows].flatten(0, 1).unsqueeze(1)


def _weights(batch: Batch, members: int) -> Tensor | None:
    """Row weights, (1, B) or (S, B), or None."""
    if batch.weights is None or batch.weights.dim() == 1:
        return None if batch.weights is None else batch.weights.unsqueeze(0)
    return batch.weights.repeat_interleave(members // batch.weights.shape[0], 0)
