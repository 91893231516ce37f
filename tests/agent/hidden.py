"""A pendulum that shows where it is, not how fast it turns."""

import gymnasium
import numpy as np
from gymnasium import spaces


class HiddenPendulum(gymnasium.Env):
    """``dynapilco/PendulumSwingUp-v0`` (hanging at 0, torque up to 2.5 N m, 0.1 s) seen as [cos, sin] of its angle.

    It pays for the height of the tip, more broadly than the original: 1 at the top, exp(-2) at the bottom.
    """

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float64)
    horizon, dt = 40, 0.1

    def __init__(self):
        self.inner = gymnasium.make("dynapilco/PendulumSwingUp-v0").unwrapped
        self.action_space = self.inner.action_space

    def reset(self, *, seed=None, options=None):
        return self._see(self.inner.reset(seed=seed)[0]), {}

    def step(self, action):
        state, _, *rest = self.inner.step(action)
        seen = self._see(state)
        return seen, float(tip(None, action, seen, np)), *rest

    @staticmethod
    def _see(state):
        return np.array([np.cos(state[0]), np.sin(state[0])])


def tip(state, action, after, xp):
    """exp(-d^2 / 2) of the distance d from the tip to its highest place."""
    return xp.exp(-0.5 * ((after[..., 0] + 1) ** 2 + after[..., 1] ** 2))
