"""Saving and loading: a folder of safetensors and JSON, checked when read."""

import json
import shutil

import gymnasium
import numpy as np
import pytest
import torch

from dynapilco import DynaPILCO
from dynapilco.core.errors import CheckpointError, UserError

CART = "dynapilco/CartPoleSwingUp-v0"
OBS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def saved(trained, tmp_path):
    trained.save(tmp_path / "agent")
    return tmp_path / "agent"


def edit(folder, **changes):
    file = folder / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("name", ["agent", "rl_model_60_steps.zip", "deep/er.tar.gz", "best_model"])
def test_the_path_is_kept_exactly(trained, tmp_path, name):
    trained.save(str(tmp_path / name))
    assert (tmp_path / name / "state.json").is_file()
    back = DynaPILCO.load(tmp_path / name, device="cpu")
    np.testing.assert_array_equal(back.predict(OBS)[0], trained.predict(OBS)[0])


def test_round_trip(trained, saved):
    back = DynaPILCO.load(saved, device="cpu")
    assert back.history == trained.history  # with the time columns
    assert back.config == trained.config
    assert back.num_timesteps == 180
    assert back.delivered_trial == trained.delivered_trial
    assert back.seed == trained.seed
    assert torch.equal(back.loop.state.data.states, trained.loop.state.data.states)
    np.testing.assert_array_equal(back.predict(OBS)[0], trained.predict(OBS)[0])
    assert back.evaluate(2) == trained.evaluate(2)


def test_saving_twice_gives_the_same_bytes(trained, saved, tmp_path):
    DynaPILCO.load(saved, device="cpu").save(tmp_path / "again")
    for file in saved.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_saving_over_an_older_state(make, tmp_path):
    agent = make().learn(60)
    agent.save(tmp_path)
    agent.learn(60).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert len(DynaPILCO.load(tmp_path, device="cpu").history) == 2


def test_before_the_first_trial(make, tmp_path):
    agent = make()
    agent.save(tmp_path / "new")
    back = DynaPILCO.load(tmp_path / "new", device="cpu")
    assert back.history == []
    np.testing.assert_array_equal(back.predict(OBS)[0], agent.predict(OBS)[0])


def test_a_run_directory_is_understood(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run" / "checkpoint")
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoint", str(tmp_path / "run")):
        assert len(DynaPILCO.load(path, device="cpu").history) == 3


def test_with_an_environment(saved):
    agent = DynaPILCO.load(saved, gymnasium.make(CART), device="cpu")
    assert len(agent.learn(60, reset_num_timesteps=False).history) == 4
    assert agent.num_timesteps == 240


@pytest.mark.parametrize("file", ["tensors", "state"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated(saved, file, share):
    (path,) = saved.glob(f"{file}*")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        DynaPILCO.load(saved)


def test_missing(saved, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        DynaPILCO.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no finished trial"):
        DynaPILCO.load(tmp_path)
    next(saved.glob("tensors*")).unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        DynaPILCO.load(saved)
    file = tmp_path / "model.zip"
    file.write_bytes(b"PK")
    with pytest.raises(CheckpointError):
        DynaPILCO.load(file)
    with pytest.raises(UserError, match="is a file"):
        DynaPILCO.save(DynaPILCO("mlp", CART, device="cpu", seed=0), file)


@pytest.mark.parametrize("changes", [{"format_version": 2}, {"format_version": None}, {"format": "other"}])
def test_other_formats(saved, changes):
    edit(saved, **changes)
    with pytest.raises(CheckpointError, match="format version"):
        DynaPILCO.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"history": [{"trial": 0}]},
        {"history": 3},
        {"policy_trials": None},
        {"env_steps": None},
        {"config": None},
        {"env_steps": "many"},
        {"config": {"env": 1}},
    ],
)
def test_fields_that_make_no_sense(saved, changes):
    edit(saved, **changes)
    with pytest.raises(CheckpointError):
        DynaPILCO.load(saved)


def test_another_environment(saved):
    with pytest.raises(CheckpointError, match="another environment: its env_id is 'dynapilco/CartPoleSwingUp-v0'"):
        DynaPILCO.load(saved, gymnasium.make("dynapilco/PendulumSwingUp-v0"), device="cpu")
    with pytest.raises(CheckpointError, match="CartPoleSwingUpPILCO"):  # the same shapes
        DynaPILCO.load(saved, gymnasium.make("dynapilco/CartPoleSwingUpPILCO-v0"), device="cpu")
    with pytest.raises(CheckpointError, match="its horizon is 60, here 30"):
        DynaPILCO.load(saved, gymnasium.make(CART, max_episode_steps=30), device="cpu")


def test_what_only_pickles_could_do_is_refused(trained, saved, tmp_path):
    with pytest.raises(UserError, match="custom_objects"):
        DynaPILCO.load(saved, custom_objects={"learning_rate": 1.0})
    with pytest.raises(UserError, match="verbos"):
        DynaPILCO.load(saved, verbos=1)
    with pytest.raises(UserError, match="exclude"):
        trained.save(tmp_path / "x", exclude=["env"])


def test_an_environment_object_comes_back_with_its_keywords(make, tmp_path):
    make(gymnasium.make(CART, friction=0.7)).save(tmp_path)
    assert DynaPILCO.load(tmp_path, device="cpu").env.envs[0].unwrapped.friction == 0.7


def test_the_module_of_an_id_is_kept(make):
    assert make(f"dynapilco_envs:{CART}").config.env_id == f"dynapilco_envs:{CART}"


def test_an_environment_without_an_id_is_not_taken_for_another(make):
    bare = type(gymnasium.make("dynapilco/CartPoleSwingUpPILCO-v0").unwrapped)()
    assert make(bare).config.env_id != CART


def test_keywords_that_cannot_be_saved_are_refused_at_once(make):
    with pytest.raises(UserError, match=r"env_kwargs=.*expected numbers"):
        make(env_kwargs={"sensor_noise_std": np.array([0.1, 0, 0, 0])})


def test_keywords_come_back(make, tmp_path):
    agent = make(env_kwargs={"sensor_noise_std": [0.1, 0, 0, 0]}).learn(60)
    agent.save(tmp_path)
    back = DynaPILCO.load(tmp_path, device="cpu")
    np.testing.assert_allclose(back.env.envs[0].unwrapped.sensor_noise_std, [0.1, 0, 0, 0])
