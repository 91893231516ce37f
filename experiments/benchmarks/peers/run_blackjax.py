"""blackjax: transitions of HMC, 50 leapfrogs, 8 chains, full batch, float32, compiled; one step is one transition of
all chains. ``_vmap`` batches the chains, ``_map`` runs one after the other inside the compiled function.
"""

from __future__ import annotations

import os

import worker

# Both are needed: without NPROC, XLA's pool takes a second core for the larger products (CPU time 1.4 x wall seen).
os.environ["NPROC"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import blackjax
import jax
import jax.numpy as jnp
import workload

Params = list[tuple[jax.Array, jax.Array]]


def hmc(rows: int, batched: bool) -> worker.Run:
    """Transitions on the first ``rows`` rows; returns the last transition's mean acceptance rate."""
    x, y = (jnp.asarray(part) for part in workload.data(rows))

    def log_density(params: Params) -> jax.Array:
        f = x
        for index, (weight, bias) in enumerate(params):
            f = f @ weight.T + bias
            f = jnp.tanh(f) if index < len(params) - 1 else f
        prior = sum(jnp.square(part).sum() for layer in params for part in layer)
        return -0.5 * (jnp.square((f - y) / workload.SIGMA).sum() + prior)

    starts = [(jnp.asarray(w), jnp.asarray(b)) for w, b in workload.chain_starts()]
    size = sum(w.size + b.size for w, b in workload.weights())
    kernel = blackjax.hmc(log_density, workload.HMC_STEP, jnp.ones(size), workload.LEAPFROGS)
    state = jax.vmap(kernel.init)(starts)
    key = jax.random.key(workload.SEED)

    @jax.jit
    def transition(key: jax.Array, state: blackjax.mcmc.hmc.HMCState) -> tuple:
        key, own = jax.random.split(key)
        keys = jax.random.split(own, workload.CHAINS)
        if batched:
            state, info = jax.vmap(kernel.step)(keys, state)
        else:
            state, info = jax.lax.map(lambda pair: kernel.step(*pair), (keys, state))
        return key, state, info.acceptance_rate.mean()

    def run(steps: int) -> float:
        nonlocal key, state
        accepted = jnp.zeros(())
        for _ in range(steps):
            key, state, accepted = transition(key, state)
        return float(jax.block_until_ready(accepted))

    return run


def workloads() -> dict:
    """By rows and by the way of the chains."""
    ways = {"vmap": True, "map": False}
    return {
        f"hmc_8_n{rows}_{way}": lambda rows=rows, batched=batched: hmc(rows, batched)
        for rows in workload.HMC_ROWS
        for way, batched in ways.items()
    }


WORKLOADS = workloads()

if __name__ == "__main__":
    worker.main(WORKLOADS, __doc__)
