"""W&B's own callback for stable-baselines3 works with the agent as with any other algorithm."""

import json

import pytest

from dynapilco import DynaPILCO


@pytest.mark.usefixtures("no_key")
def test_wandb_callback(tmp_path, offline_run):
    import wandb
    from wandb.integration.sb3 import WandbCallback

    settings = wandb.Settings(silent=True, console="off")
    with wandb.init(project="p", mode="offline", dir=tmp_path, settings=settings):
        agent = DynaPILCO(
            "mlp",
            "dynapilco/CartPoleSwingUp-v0",
            "ensemble",
            inference_kwargs={"members": 2, "cold_steps": 30, "warm_steps": 20},
            policy_kwargs={"hidden": [8]},
            search={"steps": 10, "screening_steps": 5, "fresh_starts": 1},
            rollout={"total_particles": 8},
            seed=3,
            device="cpu",
        )
        agent.learn(120, callback=WandbCallback(model_save_path=str(tmp_path / "models"), model_save_freq=60))
    saved = DynaPILCO.load(tmp_path / "models" / "model.zip", device="cpu")
    assert len(saved.history) == 2
    config = {}
    run = offline_run(tmp_path)
    for record in [*(record.config for record in run.of_kind("run")), *run.of_kind("config")]:
        config |= {item.key: json.loads(item.value_json) for item in record.update}
    assert (config["algo"], config["seed"]) == ("DynaPILCO", 3)
