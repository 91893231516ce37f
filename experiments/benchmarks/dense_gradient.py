"""Time the value and gradient of S stacked perceptrons beside the bare matrix products, one thread.

    python experiments/benchmarks/dense_gradient.py [--repeats 100]

The value is the potential of a Gaussian likelihood of unit variance, half the sum of squares, for each of S weight
sets on one shared batch. The ways, timed in turn so that a slow moment of the machine hits all of them:

    kernel     dynapilco.inference.fused.forward and backward, buffers reused
    apply      dense_apply under autograd
    autograd   batched matrix products (baddbmm) under autograd
    by hand    the same products with a backward pass written out, no autograd
    floor      the products alone into preallocated outputs: forward, to the inputs of all layers but the first, and
               to the weights
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dynapilco.core.seeding import torch_generator
from dynapilco.inference import fused
from dynapilco.inference.fused.reference import dense_reference, parameter_count

CASES = (
    (8, 200, (10, 50, 50, 8), "tanh"),
    (8, 1000, (10, 50, 50, 8), "tanh"),
    (10, 300, (6, 64, 64, 4), "tanh"),
    (1, 100, (10, 50, 50, 8), "tanh"),
    (200, 100, (13, 50, 1), "relu"),
)
Way = Callable[[], tuple[Tensor, Tensor]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    if not fused.available():
        print(f"no kernel, all in torch: {fused.unavailable_reason()}")
    print(f"torch {torch.__version__}, one thread; microseconds a set, median of {repeats} (smallest); sets a second")
    for case in CASES:
        times = interleaved(ways(*case), repeats)
        floor = statistics.median(times["floor"])
        print(f"S={case[0]} B={case[1]} {'-'.join(map(str, case[2]))} {case[3]}")
        for name, seconds in times.items():
            median, sets = statistics.median(seconds), case[0]
            spread = f"{1e6 * median / sets:8.1f} ({1e6 * min(seconds) / sets:.1f})"
            print(f"    {name:10s} {spread:20s} {sets / median:10.0f}/s {median / floor:8.2f} x floor")


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time the functions in turn, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 3):
        for name, function in functions.items():
            clock = time.perf_counter()
            function()
            if turn >= 3:
                times[name].append(time.perf_counter() - clock)
    return times


def ways(sets: int, rows: int, widths: tuple[int, ...], activation: str) -> dict[str, Callable[[], object]]:
    """The functions to time; those with a result are checked against one another."""
    generator = torch_generator(0, "benchmark")
    flat = 0.3 * torch.randn(sets, parameter_count(widths), generator=generator)
    x = torch.randn(rows, widths[0], generator=generator)
    y = torch.randn(rows, widths[-1], generator=generator)
    done: dict[str, Way] = {
        "kernel": by_kernel(flat, x, y, widths, activation),
        "apply": by_autograd(flat, x, y, lambda p: fused.dense_apply(p, x, widths, activation)),
        "autograd": by_autograd(flat, x, y, lambda p: dense_reference(p, x, widths, activation)),
        "by hand": by_hand(flat, x, y, widths, activation),
    }
    values, grads = zip(*(way() for way in done.values()), strict=True)
    for value, grad in zip(values, grads, strict=True):
        torch.testing.assert_close(value, values[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(grad, grads[0], rtol=1e-4, atol=1e-4 * float(grads[0].abs().max()))
    return {**done, "floor": products(sets, rows, widths, generator)}


def by_kernel(flat: Tensor, x: Tensor, y: Tensor, widths: tuple[int, ...], activation: str) -> Way:
    """The kernel without autograd."""
    saved: list[fused.Saved | None] = [None]
    residual = torch.empty(flat.shape[0], *y.shape)

    def way() -> tuple[Tensor, Tensor]:
        f, saved[0] = fused.forward(flat, x, widths, activation, saved=saved[0])
        torch.sub(f, y, out=residual)
        return 0.5 * residual.square().sum((1, 2)), fused.backward(saved[0], residual)

    return way


def by_autograd(flat: Tensor, x: Tensor, y: Tensor, function: Callable[[Tensor], Tensor]) -> Way:
    """Any function of the parameters under autograd."""
    leaf = flat.clone().requires_grad_()

    def way() -> tuple[Tensor, Tensor]:
        value = 0.5 * (function(leaf) - y).square().sum((1, 2))
        return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]

    return way


def by_hand(flat: Tensor, x: Tensor, y: Tensor, widths: tuple[int, ...], activation: str) -> Way:
    """Batched products with the backward pass written out."""
    sets, layers = flat.shape[0], list(pairwise(widths))
    grad = torch.empty_like(flat)
    weights, biases, grad_weights, grad_biases, at = [], [], [], [], 0
    for a, b in layers:
        for whole, w, c in ((flat, weights, biases), (grad, grad_weights, grad_biases)):
            w.append(whole[:, at : at + a * b].view(sets, b, a))
            c.append(whole[:, at + a * b : at + a * b + b])
        at += a * b + b

    def way() -> tuple[Tensor, Tensor]:
        inputs = [x.expand(sets, *x.shape)]
        for layer in range(len(layers)):
            z = torch.baddbmm(biases[layer].unsqueeze(1), inputs[-1], weights[layer].transpose(1, 2))
            if layer < len(layers) - 1:
                z = z.tanh_() if activation == "tanh" else z.relu_()
            inputs.append(z)
        g = inputs.pop() - y
        value = 0.5 * g.square().sum((1, 2))
        for layer in range(len(layers) - 1, -1, -1):
            grad_weights[layer].copy_(torch.bmm(g.transpose(1, 2), inputs[layer]))
            torch.sum(g, 1, out=grad_biases[layer])
            if layer > 0:
                h = inputs[layer]
                g = torch.bmm(g, weights[layer])
                g = g.mul_(1 - h * h) if activation == "tanh" else g.mul_(h > 0)
        return value, grad

    return way


def products(sets: int, rows: int, widths: tuple[int, ...], generator: torch.Generator) -> Callable[[], object]:
    """The matrix products alone."""
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    for layer, (a, b) in enumerate(pairwise(widths)):
        x = torch.randn(sets, rows, a, generator=generator)
        w = torch.randn(sets, b, a, generator=generator)
        g = torch.randn(sets, rows, b, generator=generator)
        calls.append((x, w.transpose(1, 2), torch.empty(sets, rows, b)))
        calls.append((g.transpose(1, 2), x, torch.empty(sets, b, a)))
        if layer > 0:
            calls.append((g, w, torch.empty(sets, rows, a)))

    def way() -> None:
        for left, right, out in calls:
            torch.bmm(left, right, out=out)

    return way


if __name__ == "__main__":
    main()
