"""Sections of settings are checked alike, from files and from Python."""

import re
from dataclasses import FrozenInstanceError

import pytest

from dynapilco.agent.config import AgentConfig, ExplorationConfig
from dynapilco.agent.config_file import build_config
from dynapilco.core.errors import UserError
from dynapilco.dynamics.config import DynamicsConfig
from dynapilco.imagination.config import ImaginationConfig
from dynapilco.planning.config import PlanningConfig
from dynapilco.rollout.config import RolloutConfig
from dynapilco.search import EvolutionConfig, SearchConfig

NAN = float("nan")
WRONG = [
    (SearchConfig, "search", "steps", "a", "an integer"), (SearchConfig, "search", "steps", 2.5, "an integer"),
    (SearchConfig, "search", "learning_rate", "fast", "a number"), (SearchConfig, "search", "clip_norm", None, "a num"),
    (SearchConfig, "search", "clip_norm", NAN, "a finite number above 0"),
    (SearchConfig, "search", "adjoint_limit", -1.0, "a finite number of 0 or more"),
    (SearchConfig, "search", "optimism", True, "a number"), (SearchConfig, "search", "objective", 3, "a text"),
    (SearchConfig, "search", "risk_share", 0.0, "a share in (0, 1]"),
    (DynamicsConfig, "dynamics", "hidden", "64", "a list of integers"),
    (DynamicsConfig, "dynamics", "prior_scale", 0, "a finite number above 0"),
    (DynamicsConfig, "dynamics", "noise_floor", NAN, "a finite number of 0 or more"),
    (DynamicsConfig, "dynamics", "targets", None, "a text"), (DynamicsConfig, "dynamics", "hidden", (0,), "width 1"),
    (RolloutConfig, "rollout", "horizon", 2.0, "an integer"), (RolloutConfig, "rollout", "discount", "1", "a number"),
    (RolloutConfig, "rollout", "discount", NAN, "a share in (0, 1]"),
    (RolloutConfig, "rollout", "total_particles", True, "an integer"),
    (PlanningConfig, "planning", "population", "many", "an integer"),
    (PlanningConfig, "planning", "momentum", 1.0, "a share in [0, 1)"),
    (PlanningConfig, "planning", "shrink", 0.5, "a finite number of 1 or more"),
    (EvolutionConfig, "evolution", "spread", "wide", "a number"),
    (EvolutionConfig, "evolution", "population", 3, "at least 4"),
    (ImaginationConfig, "imagination", "explore", 1, "true or false"),
    (ImaginationConfig, "imagination", "final_length", "long", "an integer"),
    (ImaginationConfig, "imagination", "real_share", -0.1, "a share in [0, 1]"),
    (ExplorationConfig, "exploration", "trials", 1.0, "an integer"),
    (AgentConfig, "", "seed", "a", "an integer"), (AgentConfig, "", "env_kwargs", 3, "a table"),
    (AgentConfig, "", "search", 3, "a table"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "section", "name", "value", "expected"), WRONG, ids=lambda v: str(v)[-24:])
def test_one_sentence_for_a_dataclass_and_for_a_table(cls, section, name, value, expected):
    named = f"{section}.{name}" if section else name
    words = rf"^{re.escape(named)}=.*: expected .*{re.escape(expected)}"
    with pytest.raises(UserError, match=words):
        cls(**{name: value})
    with pytest.raises(UserError, match=words):
        build_config({section: {name: value}} if section else {name: value})


def test_values_become_what_their_types_say():
    made, read = SearchConfig(clip_norm=1, credit_seconds=[1, 2]), build_config({"search": {"clip_norm": 1}}).search
    assert (made.clip_norm, made.credit_seconds) == (1.0, (1.0, 2.0))
    assert type(made.clip_norm) is type(read.clip_norm) is float
    assert DynamicsConfig(hidden=[8]) == build_config({"dynamics": {"hidden": [8]}}).dynamics
    assert AgentConfig(search={"steps": 3}).search == SearchConfig(steps=3)
    with pytest.raises(FrozenInstanceError):
        made.clip_norm = 2.0


def test_an_item_of_a_list_is_named():
    with pytest.raises(UserError, match=r"search.credit_seconds\[1\]='a': expected a number"):
        SearchConfig(credit_seconds=(0.5, "a"))
