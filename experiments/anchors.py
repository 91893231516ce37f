"""What uniformly random actions earn: the low anchors of normalised scores.

    python experiments/anchors.py --episodes 1000

Every documented task, or those that are named: mean return of so many trials under independent, uniformly random
actions, with its 95 % interval. The numbers stand in dynapilco/compare/stats/anchors.py, rounded.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np

import dynapilco_envs  # registers its tasks
from dynapilco.compare.stats.anchors import DOCUMENTED
from dynapilco.core.intervals import mean_interval

assert dynapilco_envs.TASKS


def main() -> None:
    """A line for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-id", nargs="+", default=list(DOCUMENTED))
    parser.add_argument("--episodes", type=int, default=1000)
    arguments = parser.parse_args()
    for task in arguments.env_id:
        mean, low, high = mean_interval(random_returns(task, arguments.episodes))
        print(f"{task}: {mean:.4g} ({low:.4g} to {high:.4g}, {arguments.episodes} episodes)", flush=True)


def random_returns(task: str, episodes: int) -> list[float]:
    """Returns of trials with seeds 0, 1, ..."""
    env = gymnasium.make(task)
    env.action_space.seed(0)
    found = []
    for seed in range(episodes):
        env.reset(seed=seed)
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, ended = total + float(reward), terminated or truncated
        found.append(total)
    env.close()
    assert np.isfinite(found).all()
    return found


if __name__ == "__main__":
    main()
