"""``DynaPILCO``: stable-baselines3's face on the loop. It only delegates."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import safe_mean

from dynapilco.agent import state as checkpoints
from dynapilco.agent.acting import ActingPolicy
from dynapilco.agent.config import AUTO, AgentConfig, ExplorationConfig
from dynapilco.agent.config_file import as_of_old, build_config
from dynapilco.agent.environment import check_remade, check_same, describe, open_env, single_env
from dynapilco.agent.episode import OnStep
from dynapilco.agent.evaluation import Evaluation, evaluate
from dynapilco.agent.functions import check_functions, describe_functions, given_functions
from dynapilco.agent.loop import Loop
from dynapilco.agent.state import LoopState
from dynapilco.agent.understanding import understood
from dynapilco.core.device import resolve_device
from dynapilco.core.errors import CheckpointError, UserError
from dynapilco.dynamics import DynamicsConfig
from dynapilco.imagination import LearnedVectorEnv
from dynapilco.imagination.config import ImaginationConfig
from dynapilco.planning import PlanningConfig
from dynapilco.policies import POLICIES
from dynapilco.rollout import RolloutConfig, fused
from dynapilco.search import EvolutionConfig, SearchConfig
from dynapilco.tasks import StepFunction, Task, task_of
from dynapilco.tasks.angles import Pairs, pairs_text
from dynapilco.tracking.guard import Guarded, guard
from dynapilco.tracking.logger_sink import LoggerSink
from dynapilco.tracking.sink import Sink, Trial, TrialRow

SECTIONS = ("exploration", "dynamics", "rollout", "search", "evolution", "planning", "imagination")
WORDS = (
    *("policy", "inference", "inference_kwargs", "policy_kwargs", "controller", "controller_kwargs", "history"),
    *("angles", "on_env_error", "on_disagreement"),
)


class DynaPILCO(BaseAlgorithm):
    """Model-based policy search with Bayesian dynamics, with the names and habits of stable-baselines3.

    Parameters
    ----------
    policy : str
        ``"MlpPolicy"``, ``"RbfPolicy"``, ``"LinearPolicy"`` (or ``"mlp"``, ``"rbf"``, ``"linear"``).
    env : str or gymnasium.Env or DummyVecEnv
        A registered id, an environment, or a ``DummyVecEnv`` of one.
    inference : str
        Inference method of the dynamics model; see ``dynapilco list``.
    inference_kwargs : dict, optional
        Its options.
    policy_kwargs : dict, optional
        Options of the policy.
    exploration, dynamics, rollout, search, evolution, planning, imagination : dataclass or dict, optional
        Sections of :class:`AgentConfig`.
    controller : str
        ``"pathwise"`` or ``"evolution"`` (policy search with and without gradients), ``"auto"`` (one of them, by
        whether the reward has gradients), a planner (``"cem"``, ``"icem"``, ``"mppi"``, ``"random_shooting"``), or an
        algorithm of stable-baselines3, trained on imagined transitions (``"sac"``, ``"td3"``, ``"ddpg"``, ``"dqn"``,
        ``"ppo"``, ``"a2c"``).
    controller_kwargs : dict, optional
        Options of that algorithm.
    reward, margin, terminated : callable, optional
        What is known of the task, as functions of (state, action, next_state, xp), see
        :func:`~dynapilco.tasks.task_of`. They count before what the environment says, and what is not known is learned.
        A checkpoint does not hold them: hand them to :meth:`load` again.
    history : int
        Observations (with the actions between them) that a state holds; 1 where one observation tells all. With more,
        ``predict`` needs the ``state`` that it returned at the step before, as SB3's recurrent policies do.
    angles : str or sequence of (int, int) or (int, int, int)
        Which cosines and sines of the observation become angles in the model's state: ``"auto"``, ``"declared"``,
        ``"off"``, or observation columns (cosine, sine) or (cosine, sine, velocity), see :class:`AgentConfig`.
    on_env_error, on_disagreement : str
        ``"stop"`` or ``"continue"``, see :class:`AgentConfig`.
    seed : int or None
        None picks one (kept in ``config.seed``). Nothing global is seeded.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    tensorboard_log : str, optional
        Folder for TensorBoard's logs.
    verbose : int

    Raises
    ------
    UserError
        A ``ValueError`` that names the argument, the value and what was expected.

    Examples
    --------
    >>> from dynapilco import DynaPILCO
    >>> agent = DynaPILCO("MlpPolicy", "dynapilco/CartPoleSwingUp-v0", inference="random_features", seed=0)
    >>> agent = agent.learn(total_timesteps=360)  # doctest: +SKIP
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = dict.fromkeys(
        [*POLICIES, *(alias for name in POLICIES for alias in POLICIES.aliases_of(name))], ActingPolicy
    )

    def __init__(
        self,
        policy: str = "MlpPolicy",
        env: GymEnv | str | None = None,
        inference: str = "random_features",
        inference_kwargs: dict[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        exploration: ExplorationConfig | dict[str, Any] | None = None,
        dynamics: DynamicsConfig | dict[str, Any] | None = None,
        rollout: RolloutConfig | dict[str, Any] | None = None,
        search: SearchConfig | dict[str, Any] | None = None,
        controller: str = AUTO,
        evolution: EvolutionConfig | dict[str, Any] | None = None,
        controller_kwargs: dict[str, Any] | None = None,
        planning: PlanningConfig | dict[str, Any] | None = None,
        imagination: ImaginationConfig | dict[str, Any] | None = None,
        reward: StepFunction | None = None,
        margin: StepFunction | None = None,
        terminated: StepFunction | None = None,
        history: int = 1,
        angles: str | Pairs = AUTO,
        on_env_error: str = "stop",
        on_disagreement: str = "continue",
        env_kwargs: dict[str, Any] | None = None,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: str = "auto",
        render: bool = False,
        _init_setup_model: bool = True,
    ) -> None:
        config = build_config(
            {
                "policy": policy,
                "policy_kwargs": policy_kwargs or {},
                "inference": inference,
                "inference_kwargs": inference_kwargs or {},
                "env_kwargs": env_kwargs or {},
                "seed": secrets.randbelow(2**31) if seed is None else seed,
                "device": str(device),
                "exploration": exploration or {},
                "dynamics": dynamics or {},
                "rollout": rollout or {},
                "search": search or {},
                "controller": controller,
                "evolution": evolution or {},
                "controller_kwargs": controller_kwargs or {},
                "planning": planning or {},
                "imagination": imagination or {},
                "history": history,
                "angles": pairs_text(angles),
                "on_env_error": on_env_error,
                "on_disagreement": on_disagreement,
            }
        )
        resolved = resolve_device(device)
        fused.check_choice()
        env, env_id, kwargs = open_env(env, config.env_kwargs, render)
        config = replace(config, env_id=env_id, env_kwargs=kwargs)
        self.functions = given_functions(reward=reward, margin=margin, terminated=terminated)
        self._plain = task_of(single_env(env), **self.functions)
        self._in_trial, self._began_with = False, None
        self.config, self.render, self.checkpoint_dir = config, render, None
        self.sinks: list[Sink] = []
        super().__init__(
            config.policy,
            env,
            learning_rate=config.search.learning_rate,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=resolved,
            support_multi_env=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete),
        )
        self.seed = config.seed  # not handed to the base class, which would seed globally
        if _init_setup_model:
            self._setup_model()

    @classmethod
    def from_config(
        cls,
        config: AgentConfig,
        sinks: Sequence[Sink] = (),
        checkpoint_dir: Path | None = None,
        render: bool = False,
    ) -> DynaPILCO:
        """Build an agent from a configuration; see :meth:`attach` for the other arguments."""
        agent = cls(
            **_settings(config),
            env=config.env_id,
            env_kwargs=config.env_kwargs,
            seed=config.seed,
            device=config.device,
            render=render,
        )
        agent.config = replace(agent.config, total_timesteps=config.total_timesteps)
        agent.loop.config = agent.config
        return agent.attach(sinks=sinks, checkpoint_dir=checkpoint_dir)

    def attach(self, sinks: Sequence[Sink] = (), checkpoint_dir: Path | None = None) -> DynaPILCO:
        """Tell ``sinks`` what happens, and keep a checkpoint in ``checkpoint_dir`` after each trial; returns self.

        A sink that raises is reported once, as a warning, and left out from then on, unless it says ``required``.
        """
        self.sinks, self.checkpoint_dir = guard(sinks), checkpoint_dir
        self.loop.sinks = self.sinks
        return self

    # -- learning -----------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        self.loop = Loop(self.config, self._inner_env(), self._plain, self.device)
        self.policy = ActingPolicy(self.observation_space, self.action_space)
        self._follow_delivered()

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "DynaPILCO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> DynaPILCO:
        """Run whole trials until ``total_timesteps`` more environment steps are done.

        Parameters
        ----------
        total_timesteps : int
            Environment steps of this call; the last trial may go past it.
        callback : callable or BaseCallback or list, optional
            SB3 callbacks, called at every environment step; one that returns False ends the learning and drops the
            unfinished trial.
        log_interval : int
            Trials between dumps of the logger.
        tb_log_name : str
        reset_num_timesteps : bool
            False goes on counting where the last call ended.
        progress_bar : bool
            Show the live console (model fit, policy search, trials).

        Raises
        ------
        EnvironmentFault
            When the environment raises or gives bad numbers; the sound steps of the trial are kept and, where there is
            a folder for it, saved. ``on_env_error="continue"`` goes on with the next trial instead.
        UserError
            For a disagreement under ``on_disagreement="stop"``, and for a known function that fails on what happened;
            the trial is kept and saved, too.
        """
        if not isinstance(total_timesteps, (int, np.integer)) or total_timesteps < 1:
            raise UserError(f"total_timesteps={total_timesteps!r}: expected an integer of at least 1")
        goal, hooks = self._setup_learn(int(total_timesteps), callback, reset_num_timesteps, tb_log_name, False)
        shown = self._console() if progress_bar else []
        logged = Guarded(LoggerSink(self._dump))
        self.loop.sinks = [*self.sinks, *shown]
        hooks.on_training_start(locals(), globals())
        try:
            self._announce(goal)
            while self.num_timesteps < goal:
                if not self._run_trial(hooks, goal, log_interval, logged):
                    break
            hooks.on_training_end()
        finally:
            for sink in shown:
                sink.close()
            self.loop.sinks = self.sinks
        return self

    @property
    def engine(self) -> str:
        """What computes rollouts of dense networks here: ``"fused"`` (the compiled kernel) or ``"torch"``."""
        return "fused" if self.device.type == "cpu" and fused.available() else "torch"

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Go on with another environment object of the same task (same spaces, bounds, horizon and id).

        Raises
        ------
        CheckpointError
            For an environment of another task.
        """
        env, env_id, kwargs = open_env(env, {}, False)
        plain = task_of(single_env(env), **self.functions)
        task = understood(plain, self.config, self.loop.state.angles)
        check_same(describe(env_id, task), describe(self.config.env_id, self.task), "of this agent")
        super().set_env(env, force_reset)
        self._plain, self.config = plain, replace(self.config, env_kwargs=kwargs)
        self.loop = Loop(self.config, self._inner_env(), plain, self.device, self.loop.state)
        self.loop.sinks = self.sinks

    def _announce(self, goal: int) -> None:
        trials = self.loop.state.trials + -(-(goal - self.num_timesteps) // self.task.horizon)
        for sink in self.loop.sinks:
            sink.start(asdict(self.config), trials)
        for text in self._remarks():
            for sink in self.loop.sinks:
                sink.message(text)

    def _remarks(self) -> list[str]:
        """What a person should know about the engine."""
        said, reason = [], fused.unavailable_reason()
        if self.device.type == "cpu" and reason is not None:
            said.append(f"rollouts run in plain PyTorch, several times slower than the compiled kernel: {reason}")
        if self._began_with not in (None, self.engine):
            said.append(
                f"this run began with the {self._began_with} engine and goes on with {self.engine}: their numbers "
                "agree to rounding only, so it will not be the run that it would have been"
            )
        return said

    def _run_trial(self, hooks: Any, goal: int, log_interval: int, logged: Sink) -> bool:
        """One trial with SB3's callbacks; False when one of them asked to stop."""
        before = self.num_timesteps
        last = before + self.task.horizon >= goal
        hooks.on_rollout_start()

        stopped = False

        def on_step(done: int, ended: bool, info: dict[str, Any]) -> bool:
            nonlocal stopped
            self.num_timesteps = before + done
            hooks.update_locals({"infos": [info], "dones": np.array([ended])})
            self._update_info_buffer([info], np.array([ended]))
            for sink in self.loop.sinks:
                sink.progress(self.loop.state.trials, "environment", done, self.task.horizon, {})
            stopped = not hooks.on_step()
            return not stopped

        trial = self._guarded_trial(self.render and last, on_step)
        if trial is None:  # stopped half-way: as if it had never begun
            self.num_timesteps = before
            return False
        hooks.on_rollout_end()
        self._follow_delivered()
        if self.checkpoint_dir is not None:
            self.save(self.checkpoint_dir)
        for sink in self.loop.sinks:
            sink.trial(trial)
        if self.loop.state.trials % log_interval == 0:
            logged.trial(trial)
        if trial.fault is not None:  # everything of the trial is kept by now
            raise trial.fault
        return not stopped

    def _guarded_trial(self, record: bool, on_step: OnStep) -> Trial | None:
        self._in_trial = True
        try:
            return self.loop.run_trial(record=record, on_step=on_step)
        finally:
            self._in_trial = False

    def _dump(self, row: TrialRow) -> None:
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([e["r"] for e in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([e["l"] for e in self.ep_info_buffer]))
        for name, value in row.numbers().items():
            self.logger.record(f"trial/{name}", value)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def _follow_delivered(self) -> None:
        acting = self.policy
        assert isinstance(acting, ActingPolicy)
        acting.follow(self.loop.delivered_vectors(), len(self.task.geometry.unseen), self.task.stack, self.task.angles)

    def _console(self) -> list[Sink]:
        from dynapilco.tracking.console import ConsoleSink  # rich is imported only when it is shown

        return guard([ConsoleSink()])

    @property
    def task(self) -> Task:
        """What the environment asks for, as the model sees it."""
        return self.loop.task

    # -- results ------------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[TrialRow]:
        """One row for each finished trial."""
        return self.loop.state.history

    @property
    def delivered_trial(self) -> int | None:
        """The trial whose policy ``predict`` follows; None before the first policy trial."""
        state: LoopState = self.loop.state
        return None if state.delivered is None else state.policy_trials[state.delivered]

    def evaluate(self, episodes: int = 20) -> Evaluation:
        """Run fresh episodes of the delivered policy. They never enter the data nor choose anything.

        Raises
        ------
        UserError
            In the middle of a trial (from a callback): the environment would be reset. Use SB3's ``EvalCallback`` with
            an environment of its own there.
        """
        if self._in_trial:
            raise UserError("evaluate() in the middle of a trial would reset its environment: use EvalCallback there")
        controller = self.loop.delivered_controller("evaluation")
        return evaluate(self._inner_env(), self.task, controller, self.config.seed, episodes, self.loop.hear)

    def imagine(
        self, num_envs: int = 1, horizon: int | None = None, starts: str = "auto", follow: str = "draw", draws: int = 0
    ) -> LearnedVectorEnv:
        """The learned model as a Gymnasium vector environment; ``LearnedVecEnv`` gives it stable-baselines3's face.

        Parameters
        ----------
        num_envs : int
        horizon : int, optional
            Steps of an imagined episode; a whole trial by default.
        starts : str
            ``"reset"``, ``"replay"`` (at visited states), ``"mix"``, or ``"auto"`` (whole trials: reset, else replay).
        follow : str
            ``"draw"``: an environment keeps its function; ``"step"``: another one at every step.
        draws : int
            Functions; 0 takes as many as the inference method suits.

        Raises
        ------
        UserError
            Before the first model fit.
        """
        return self.loop.imagine(num_envs, horizon, starts, follow, draws, self.observation_space)

    # -- saving -------------------------------------------------------------------------------------------------

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Write a folder at exactly ``path``: safetensors and JSON, no pickle.

        During a trial (from a callback) it holds what was settled before that trial.

        ``exclude`` and ``include`` are there for SB3's signature; anything but None raises ``UserError``.
        """
        if exclude is not None or include is not None:
            raise UserError("exclude and include are not supported: a checkpoint always holds the whole state")
        path = Path(path)
        if path.is_file():
            raise UserError(f"path={str(path)!r} is a file: expected a folder to write to")
        state = self.loop.settled_state
        task = understood(self._plain, self.config, state.angles)
        environment = describe(self.config.env_id, task) | describe_functions(self.functions)
        checkpoints.save(path, state, asdict(self.config), environment, self.engine)

    @classmethod
    def load(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        path: Any,
        env: GymEnv | None = None,
        device: str = "auto",
        custom_objects: Any = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        render: bool = False,
        reward: StepFunction | None = None,
        margin: StepFunction | None = None,
        terminated: StepFunction | None = None,
        on_env_error: str | None = None,
        on_disagreement: str | None = None,
        **kwargs: Any,
    ) -> DynaPILCO:
        """Read an agent from a saved folder, a run directory or its ``checkpoint/``.

        Parameters
        ----------
        path : path-like
        env : environment, optional
            Must be the task of the checkpoint; None makes it by its id.
        device : str
        render : bool
            Make the environment with pictures.
        reward, margin, terminated : callable, optional
            The functions that the agent was made with, if it was: no file holds them.
        on_env_error, on_disagreement : str, optional
            From now on; as before by default.

        Raises
        ------
        CheckpointError
            For a checkpoint that is missing, damaged, of another format version or of another environment, and for
            functions that are missing or too many.
        """
        if custom_objects is not None or kwargs:
            raise UserError(f"custom_objects and {sorted(kwargs)} are not supported: nothing is unpickled")
        saved = checkpoints.load(path)
        config = _saved_config(saved.config, path)
        words = {"on_env_error": on_env_error, "on_disagreement": on_disagreement}
        config = replace(config, **{name: word for name, word in words.items() if word is not None})
        if env is None:
            check_remade(config.env_id, path)
        check_functions(given_functions(reward=reward, margin=margin, terminated=terminated), saved.environment, path)
        agent = cls(
            **_settings(config),
            reward=reward,
            margin=margin,
            terminated=terminated,
            env=config.env_id if env is None else env,
            env_kwargs=config.env_kwargs if env is None else None,
            seed=config.seed,
            device=device,
            render=render,
        )
        task = understood(agent._plain, agent.config, saved.state.angles)
        check_same(describe(agent.config.env_id, task), saved.environment, path)
        agent.config = replace(agent.config, total_timesteps=config.total_timesteps, device=config.device)
        agent.loop = Loop(agent.config, agent._inner_env(), agent._plain, agent.device, saved.state)
        agent.num_timesteps = saved.state.env_steps
        agent._began_with = saved.engine
        agent._follow_delivered()
        return agent

    def _inner_env(self) -> gymnasium.Env:
        assert self.env is not None
        return single_env(self.env)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return [], []


def _settings(config: AgentConfig) -> dict[str, Any]:
    """Keywords of ``DynaPILCO`` that a configuration holds as they are."""
    return {name: getattr(config, name) for name in (*WORDS, *SECTIONS)}


def _saved_config(values: dict[str, Any], path: Any) -> AgentConfig:
    try:
        return build_config(as_of_old(values))
    except UserError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} is damaged or of another version: {error}") from error
