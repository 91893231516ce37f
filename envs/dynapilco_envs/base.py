"""What every environment here shares: the scalar and the vector environment around a task.

A *task* (`SwingUp`) is the system and its aim: constants, ODE, reward, rule of success, picture. `SwingUpEnv`
steps one of it, `SwingUpVectorEnv` a batch; both through the same functions.
"""

import math
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .draw import Canvas
from .integrate import zero_order_hold

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Observation = npt.NDArray[np.float32]


class SwingUp:
    """A swing-up task: the system, the start, the reward and the rule of success.

    Parameters
    ----------
    render_mode
        None or "rgb_array".
    sensor_noise_std
        Standard deviation of the Gaussian noise of the observations, a scalar or shape (D,), in the units of
        the state. Reward, success and `state` stay those of the true state.
    friction
        Friction coefficient, in the unit that the environment's file gives; None for the task's own. Zero
        makes the system without input conserve its `energy`.

    Raises
    ------
    ValueError
        If an argument is none of these.
    """

    dt: ClassVar[float]
    """Control step in s; the action is held over it."""
    length: ClassVar[float]
    """Length of the pole in m, from the pivot to the tip (of both links, where there are two)."""
    horizon: ClassVar[int]
    """Steps in a trial."""
    state_names: ClassVar[tuple[str, ...]]
    state_units: ClassVar[tuple[str, ...]]
    action_names: ClassVar[tuple[str, ...]]
    action_units: ClassVar[tuple[str, ...]]
    action_limit: ClassVar[float]
    """Bound on the absolute action, in `action_units`."""
    angle_indices: ClassVar[tuple[int, ...]]
    """Components of the state that are angles: 0 hanging, pi upright, not wrapped."""
    position_velocity_pairs: ClassVar[tuple[tuple[int, int], ...]]
    """Pairs (i, j) of components such that j is the time derivative of i."""
    start_std: ClassVar[FloatArray]
    """Shape (D,). The start is Gaussian and independent, hanging at rest on average."""
    friction: float
    """Friction coefficient of the system."""

    metadata: dict[str, Any]

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        sensor_noise_std: npt.ArrayLike = 0.0,
        friction: float | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {render_mode!r}, expected None or 'rgb_array'")
        if friction is not None:
            if not (math.isfinite(friction) and friction >= 0):
                raise ValueError(f"friction is {friction}, expected a finite number, not negative")
            self.friction = float(friction)
        self.render_mode = render_mode
        self.sensor_noise_std = _noise_std(sensor_noise_std, len(self.state_names))

    @property
    def start_mean(self) -> FloatArray:
        """Shape (D,): hanging at rest."""
        return np.zeros(len(self.state_names))

    def derivative(self, state: Any, action: Any, xp: Any) -> tuple[Any, ...]:
        """Time derivative of each component of the state.

        Parameters
        ----------
        state
            A sequence of D components, numbers or arrays of one shape, in `state_units`.
        action
            A sequence of M components, in `action_units`.
        xp
            A namespace with `sin` and `cos` for them (math, numpy, torch).

        Returns
        -------
        D components, in `state_units` per second.
        """
        raise NotImplementedError

    def energy(self, state: Any, xp: Any) -> Any:
        """Mechanical energy in J, zero with everything at the height of the pivot and at rest.

        Parameters
        ----------
        state
            Shape (..., D).
        xp
            The namespace of `state`: numpy or torch.

        Returns
        -------
        Shape (...).
        """
        raise NotImplementedError

    @staticmethod
    def reward(state: Any, action: Any, next_state: Any, xp: Any) -> Any:
        """Reward of a step, of the true state after it. A pure function, differentiable in torch.

        Parameters
        ----------
        state, next_state
            Shape (..., D), before and after the step.
        action
            Shape (..., M).
        xp
            The namespace of the arrays: numpy or torch.

        Returns
        -------
        Shape (...), in (0, 1].
        """
        raise NotImplementedError

    @staticmethod
    def success(states: Any, xp: Any) -> Any:
        """Whether a trial succeeded: what must hold does so at each of the last round(1/dt) states.

        Parameters
        ----------
        states
            Shape (..., T, D): the true states of a trial in their order, with or without the first.
        xp
            The namespace of the array: numpy or torch.

        Returns
        -------
        Shape (...), bool.

        Raises
        ------
        ValueError
            If there are fewer than round(1/dt) states.
        """
        raise NotImplementedError

    def draw(self, state: FloatArray, action: FloatArray) -> Canvas:
        """Draw a state (D,) and the action (M,) that led to it."""
        raise NotImplementedError

    def _spaces(self) -> tuple[Any, Any]:
        dimension, actions = len(self.state_names), len(self.action_names)
        return (
            Box(-np.inf, np.inf, (dimension,), np.float32),
            Box(-self.action_limit, self.action_limit, (actions,), np.float32),
        )

    def _checked_action(self, action: Any, shape: tuple[int, ...]) -> FloatArray:
        """Convert an action to float64 within the box; raises ValueError on a wrong shape or a NaN."""
        action = np.asarray(action, dtype=np.float64)
        if action.shape != shape:
            raise ValueError(f"action has shape {action.shape}, expected {shape}")
        if not np.isfinite(action).all():
            raise ValueError(f"action is {action}, expected finite numbers")
        return action.clip(-self.action_limit, self.action_limit)

    def _sample_start(self, generator: np.random.Generator) -> FloatArray:
        return self.start_mean + self.start_std * generator.standard_normal(len(self.state_names))

    def _sense(self, state: FloatArray, generator: np.random.Generator) -> Observation:
        """Observe a state (D,), with the noise of the sensors where they have any."""
        if self.sensor_noise_std.any():
            state = state + self.sensor_noise_std * generator.standard_normal(state.size)
        return state.astype(np.float32)


class SwingUpEnv(SwingUp, gymnasium.Env[Observation, Observation]):
    """One swing-up environment.

    The observation is the state as float32 plus the noise of the sensors; the action is in `action_units`,
    float32, and clipped to the box. An episode never terminates; `gymnasium.make` truncates it after
    `horizon` steps. The info of reset and step holds the true state under "state", float64.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space, self.action_space = self._spaces()
        self._state = self.start_mean
        self._action = np.zeros(len(self.action_names))

    @property
    def state(self) -> FloatArray:
        """The true state, shape (D,), float64; hanging at rest before the first reset."""
        return self._state

    @state.setter
    def state(self, state: npt.ArrayLike) -> None:
        self._state = _checked_state(state, (len(self.state_names),))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw a start; see `gymnasium.Env.reset`. There are no options."""
        super().reset(seed=seed)
        self._state = self._sample_start(self.np_random)
        self._action = np.zeros(len(self.action_names))
        return self._sense(self._state, self.np_random), {"state": self._state.copy()}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Hold an action over `dt`; see `gymnasium.Env.step`.

        Parameters
        ----------
        action
            Shape (M,), in `action_units`.

        Returns
        -------
        Observation (D,), reward, False, False, and the info with the true "state".

        Raises
        ------
        ValueError
            If the action has another shape or is not finite.
        """
        before, self._action = self._state, self._checked_action(action, (len(self.action_names),))
        self._state = zero_order_hold(self.derivative, before, self._action, self.dt)
        reward = float(self.reward(before, self._action, self._state, np))
        observation = self._sense(self._state, self.np_random)
        return observation, reward, False, False, {"state": self._state.copy()}

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return a picture of the true state and of the last action, shape (320, 480, 3), uint8."""
        if self.render_mode is None:
            _warn_of_render_mode(self.spec)
            return None
        return self.draw(self._state, self._action).image()


class SwingUpVectorEnv(SwingUp, VectorEnv[Observation, Observation, np.ndarray]):
    """A batch of one swing-up environment, integrated together.

    It equals as many `SwingUpEnv`s: states and observations bit for bit, rewards to rounding (numpy's
    exponential rounds by the position in the array). Environment i has its own generator, seeded with
    `seed + i`. One that reached `max_episode_steps` starts anew in the same step
    (`AutoresetMode.SAME_STEP`): its last observation and info are in the info under "final_obs" and
    "final_info".

    Parameters
    ----------
    num_envs
        Size of the batch, positive.
    max_episode_steps
        Steps until truncation, positive; None for `horizon`.
    **kwargs
        As for `SwingUp`.

    Raises
    ------
    ValueError
        If an argument is none of these.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_envs = _positive_integer("num_envs", num_envs)
        steps = self.horizon if max_episode_steps is None else max_episode_steps
        self.max_episode_steps = _positive_integer("max_episode_steps", steps)
        self.single_observation_space, self.single_action_space = self._spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state = np.tile(self.start_mean, (num_envs, 1))
        self._action = np.zeros((num_envs, len(self.action_names)))
        self._observations = self._state.astype(np.float32)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        seeded = [seeding.np_random() for _ in range(num_envs)]
        self._generators, self._seeds = [pair[0] for pair in seeded], [pair[1] for pair in seeded]

    @property
    def state(self) -> FloatArray:
        """The true states, shape (B, D), float64; hanging at rest before the first reset."""
        return self._state

    @state.setter
    def state(self, state: npt.ArrayLike) -> None:
        self._state = _checked_state(state, (self.num_envs, len(self.state_names)))

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:
        """The generator of each environment."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:
        """The seed of each environment's generator."""
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draw the starts.

        Parameters
        ----------
        seed
            Environment i is seeded with `seed + i`, or with item i of a list; None seeds nothing.
        options
            "reset_mask", bool of shape (B,): reset only these; the others go on, their observations stay.

        Returns
        -------
        Observations (B, D) and the info with the true "state" (B, D).

        Raises
        ------
        ValueError
            If a list of seeds or the mask has another length, or the mask is not bool or all False.
        """
        mask = self._reset_mask(options or {})
        self._seed(seed, mask)
        self._restart(mask)
        self._observe(mask)
        return self._observations.copy(), {"state": self._state.copy(), "_state": mask.copy()}

    def step(self, actions: Any) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Hold the actions over `dt`; see `gymnasium.vector.VectorEnv.step`.

        Parameters
        ----------
        actions
            Shape (B, M), in `action_units`.

        Returns
        -------
        Observations (B, D), rewards (B,), all False, truncations (B,), and the info with the true "state".

        Raises
        ------
        ValueError
            If the actions have another shape or are not finite.
        """
        self._action = self._checked_action(actions, (self.num_envs, len(self.action_names)))
        before = self._state
        self._state = zero_order_hold(self.derivative, before, self._action, self.dt)
        rewards = self.reward(before, self._action, self._state, np)
        self._steps += 1
        truncated = self._steps >= self.max_episode_steps
        self._observe(np.ones(self.num_envs, dtype=bool))
        info = {}
        if truncated.any():
            info = self._final_info(truncated)
            self._restart(truncated)
            self._observe(truncated)
        info |= {"state": self._state.copy(), "_state": np.ones(self.num_envs, dtype=bool)}
        return self._observations.copy(), rewards, np.zeros(self.num_envs, dtype=bool), truncated, info

    def render(self) -> tuple[npt.NDArray[np.uint8], ...] | None:
        """Return a picture of each environment, see `SwingUpEnv.render`."""
        if self.render_mode is None:
            _warn_of_render_mode(self.spec)
            return None
        pairs = zip(self._state, self._action, strict=True)
        return tuple(self.draw(state, action).image() for state, action in pairs)

    def _reset_mask(self, options: dict[str, Any]) -> BoolArray:
        mask = options.get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"options['reset_mask'] is {mask}, expected bool of shape ({self.num_envs},), not all False"
            )
        return mask

    def _seed(self, seed: int | list[int | None] | None, mask: BoolArray) -> None:
        if seed is None:
            return
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} items, expected an integer or {self.num_envs} items")
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self._generators[i], self._seeds[i] = seeding.np_random(seeds[i])

    def _restart(self, mask: BoolArray) -> None:
        """Draw a start where the mask says; the array is a new one, since the old one may be in use."""
        self._state, self._action = self._state.copy(), self._action.copy()
        self._steps[mask], self._action[mask] = 0, 0.0
        for i in np.flatnonzero(mask):
            self._state[i] = self._sample_start(self._generators[i])

    def _observe(self, mask: BoolArray) -> None:
        for i in np.flatnonzero(mask):
            self._observations[i] = self._sense(self._state[i], self._generators[i])

    def _final_info(self, truncated: BoolArray) -> dict[str, Any]:
        """Return the last observations and states of the finished episodes, as gymnasium lays them out."""
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(truncated):
            final[i] = self._observations[i].copy()
        state = np.where(truncated[:, None], self._state, 0.0)
        return {
            "final_obs": final,
            "_final_obs": truncated.copy(),
            "final_info": {"state": state, "_state": truncated.copy()},
            "_final_info": truncated.copy(),
        }


def last_second(states: Any, dt: float) -> Any:
    """Return the last round(1/dt) of states (..., T, D); raises ValueError where there are fewer."""
    rows = round(1 / dt)
    if states.ndim < 2 or states.shape[-2] < rows:
        raise ValueError(f"states has shape {tuple(states.shape)}, expected (..., T, D) with T at least {rows}")
    return states[..., -rows:, :]


def _noise_std(sensor_noise_std: npt.ArrayLike, dimension: int) -> FloatArray:
    std = np.asarray(sensor_noise_std, dtype=np.float64)
    if std.shape not in ((), (dimension,)) or not np.isfinite(std).all() or (std < 0).any():
        raise ValueError(f"sensor_noise_std is {sensor_noise_std}, expected finite, not negative, one or {dimension}")
    return np.full(dimension, std)


def _checked_state(state: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Copy a state; raises ValueError where it has another shape or is not finite."""
    array = np.array(state, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"state is {state}, expected finite numbers in shape {shape}")
    return array


def _positive_integer(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a positive integer")
    return int(value)


def _warn_of_render_mode(spec: Any) -> None:
    name = "an environment" if spec is None else spec.id
    gymnasium.logger.warn(
        f"You are calling render method of {name} without specifying any render mode. "
        'You can specify the render_mode at initialization, e.g. gym.make(id, render_mode="rgb_array")'
    )
