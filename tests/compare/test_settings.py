"""What cannot be meant is refused, in a sentence, before any work."""

import json
from pathlib import Path

import pytest

from dynapilco import compare
from dynapilco.cli.main import main
from dynapilco.compare.folder import read_settings
from dynapilco.compare.settings import Request, build_settings
from dynapilco.core.errors import UserError

TASK = "dynapilco/PendulumSwingUp-v0"
CART = "dynapilco/CartPoleSwingUp-v0"


def settings(file=None, resolve=None, **request):
    from dynapilco.agent.config_file import build_config

    return build_settings(Request.read({"env_id": TASK, **request}), file or {}, resolve or build_config)


def test_every_method_gets_its_own_options_and_whole_trials():
    file = {"inference": "swag", "inference_kwargs": {"members": 2}, "total_timesteps": 90, "env_id": CART, "seed": 5}
    file |= {"env_kwargs": {"friction": 0.2}}
    found = settings(file, env_id=[CART, TASK], inference=["multiswag", "ensemble"], seeds=3, first_seed=1000,
                     inference_kwargs={"deep_ensemble": {"members": 7}})  # fmt: skip
    assert found.methods == ("swag", "ensemble") and found.seeds == (1000, 1001, 1002)
    assert found.budget == {CART: 120, TASK: 120} and found.horizons == {CART: 60, TASK: 40}
    cart, pendulum = found.configs[CART], found.configs[TASK]
    assert [cart[m]["inference_kwargs"]["members"] for m in ("swag", "ensemble")] == [2, 7]
    assert cart["swag"]["env_kwargs"] == {"friction": 0.2} and pendulum["swag"]["env_kwargs"] == {}
    assert "seed" not in cart["swag"]


def test_trials_count_before_steps_and_baselines_have_budgets_and_seeds():
    found = settings(
        trials=4, seeds=[3, 1, 2], baselines=["sac", "ppo"], baseline_budget=[1, 100], baseline_seeds=[3, 1]
    )
    assert found.configs[TASK]["random_features"]["total_timesteps"] == found.budget[TASK] == 160
    assert found.all_methods == ["random_features", "sac", "ppo", "sac@100x", "ppo@100x"]
    assert [b.seeds for b in found.baselines] == [(3, 1, 2), (3, 1, 2), (3,), (3,)]


def test_variants_are_methods_that_differ_in_anything():
    variants = {
        "small": {"inference_kwargs": {"rank": 3}, "dynamics": {"hidden": [8]}},
        "hmc+cem": {"inference": "hmc"},
    }
    variants["hmc+cem"]["controller"] = "cem"
    found = settings({"dynamics": {"noise": "observation"}}, inference=["swag", "ensemble"], imagined="sac",
                     variants=variants, inference_kwargs={"swag": {"rank": 7, "members": 2}})  # fmt: skip
    assert found.methods == ("swag", "ensemble", "sac-in-model", "small", "hmc+cem")
    configs = found.configs[TASK]
    assert (configs["sac-in-model"]["inference"], configs["sac-in-model"]["controller"]) == ("swag", "sac")
    assert configs["small"]["inference_kwargs"] | {"rank": 3, "members": 2} == configs["small"]["inference_kwargs"]
    assert configs["small"]["dynamics"]["hidden"] == [8] and configs["small"]["dynamics"]["noise"] == "observation"
    assert configs["swag"]["dynamics"]["hidden"] != [8] and configs["swag"]["inference_kwargs"]["rank"] == 7
    assert (configs["hmc+cem"]["inference"], configs["hmc+cem"]["controller"]) == ("hmc", "cem")
    assert len({config["total_timesteps"] for config in configs.values()}) == 1
    assert type(found).of_values(json.loads(json.dumps(found.values()))) == found
    assert settings(variants={"a": {"inference": "swag"}}).methods == ("a",)


def test_anchors_may_change_and_runs_may_not(tmp_path, monkeypatch):
    monkeypatch.setattr("dynapilco.compare.pool.Pool.run", lambda self, orders, say: None)
    common = {"env_id": TASK, "out": tmp_path / "a", "quiet": True}
    compare.run(**common, seeds=1)
    compare.run(**common, seeds=1, anchors={TASK: [1, 20]}, resume=True)
    assert read_settings(tmp_path / "a")["anchors"] == {TASK: [1.0, 20.0]}


def test_settings_survive_their_file():
    found = settings(baselines="sac", baseline_kwargs={"sac": {"learning_starts": 40}})
    assert type(found).of_values(json.loads(json.dumps(found.values()))) == found


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"env_id": [TASK, TASK]}, "env_id: dynapilco/PendulumSwingUp-v0 given twice"),
        ({"env_id": [TASK, f"dynapilco_envs:{TASK}"]}, "given twice"),
        ({"env_id": "Nowhere-v0"}, "unknown environment 'Nowhere-v0'"),
        ({"inference": ["swag", "multiswag"]}, "inference: swag given twice"),
        ({"inference": ["swga"]}, "unknown inference method 'swga': did you mean swag"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 given twice"),
        ({"seeds": 0}, "seeds=0: expected at least 1"),
        ({"seeds": [1, -2]}, "expected seeds of 0 or more"),
        ({"seeds": [1, 2], "first_seed": 3}, "first_seed=3: expected none beside a list"),
        ({"seeds": "ten"}, "seeds[0]='ten': expected an integer"),
        ({"trials": 0}, "trials=0: expected at least 1"),
        ({"baselines": "sax"}, "unknown baseline 'sax': did you mean sac"),
        ({"baselines": "dqn"}, "baseline 'dqn' cannot act in 'dynapilco/PendulumSwingUp-v0'"),
        ({"baselines": ["sac", "sac"]}, "baselines: sac given twice"),
        ({"baseline_budget": 5}, "baseline_budget=[5]: expected baselines to go with it"),
        ({"baselines": "sac", "baseline_budget": [1, 1]}, "baseline_budget: 1 given twice"),
        ({"baselines": "sac", "baseline_budget": [0]}, "baseline_budget=0: expected at least 1"),
        ({"baselines": "sac", "baseline_seeds": [1, 1]}, "expected one number, or one for each of [1]"),
        ({"baselines": "sac", "baseline_seeds": 9, "seeds": 3}, "expected at most the 3 seeds"),
        ({"baselines": "sac", "baseline_kwargs": {"sac": {"gama": 1}}}, "unknown sac option 'gama': did you mean"),
        ({"baselines": "sac", "baseline_kwargs": {"ppo": {}}}, "expected the options of one of ['sac']"),
        ({"inference_kwargs": {"swag": {}}}, "expected the options of one of random_features"),
        ({"inference_kwargs": {"random_features": {"membres": 1}}}, "unknown random_features option 'membres'"),
        ({"seed": 3}, "unknown compare option 'seed'"),
        ({"imagined": ["sax"]}, "unknown algorithm 'sax': did you mean sac"),
        ({"imagined": "dqn"}, "baseline 'dqn' cannot act in 'dynapilco/PendulumSwingUp-v0'"),
        ({"imagined": ["sac", "sac"]}, "imagined: sac given twice"),
        ({"variants": {"swag": {}}}, "variants.swag: swag is a method of its own: expected another name"),
        ({"variants": {"a/b": {}}}, "variants.a/b: expected a name of letters"),
        ({"variants": {"sac@2x": {}}}, "variants.sac@2x: expected a name of letters"),
        ({"variants": {"a": 3}}, "variants.a=3: expected a table"),
        ({"variants": {"a": {"total_timesteps": 3}}}, "variants.a.total_timesteps: it must be the same for all"),
        ({"variants": {"a": {"serach": 3}}}, "variants.a: random_features on dynapilco"),
        ({"variants": {"a": {"inference_kwargs": 3}}}, "variants.a.inference_kwargs=3: expected a table"),
        ({"variants": {"a": {"inference": "swga"}}}, "unknown inference method 'swga'"),
        ({"anchors": {TASK: [3, 1]}}, "expected the score that counts 0 and a larger one"),
        ({"anchors": {"Other-v0": [1, 3]}}, "anchors['Other-v0']: expected one of the tasks"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(request_, said):
    with pytest.raises(UserError) as caught:
        settings(**request_)
    assert said in str(caught.value)


@pytest.fixture
def cli(capsys):
    def call(*words):
        code = main(["compare", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "jobs=0: expected at least 1"),
        (["--backend", "slurm"], "unknown backend 'slurm'"),
        (["--job-gpus", "1"], "are for --backend ray or dask"),
        (["--resume", "--force"], "resume and force: expected one of them"),
        (["--seed", "3"], "--seed is set for each run by the comparison"),
        (["--threads", "2"], "--threads is set for each run"),
        (["--search.stepps", "3"], "unknown option --search.stepps: did you mean --search.steps"),
        (["--inference", "swag", "ensemble", "--inference-kwargs.rank", "3"], "ensemble on"),
        (["--trials", "3", "--total-timesteps", "80"], "trials=3 and total_timesteps: expected one of them"),
        (["--resume", "--out", "nothing"], "out='nothing' holds no compare.json"),
        (["--config", "missing.toml"], "cannot read 'missing.toml'"),
        (["--out", "full"], "out='full' is not empty: give --resume to go on with it, --force"),
        (["--out", "full", "--force"], "out='full' holds no compare.json: --force deletes nothing but a comparison"),
        (["--backend", "ray", "--address", "127.0.0.1:1"], "ray"),
        (["--backend", "dask", "--address", "127.0.0.1:1"], "dask"),
    ],
)
def test_the_command_line_refuses_in_a_sentence(cli, words, said):
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    code, out, err = cli("--env-id", TASK, *words) if "--resume" not in words else cli(*words)
    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1
    assert sorted(p.name for p in Path().rglob("*")) == ["full", "thesis.txt"]


@pytest.mark.parametrize(("backend", "library"), [("ray", "ray"), ("dask", "distributed")])
def test_a_cluster_that_does_not_answer(cli, backend, library):
    pytest.importorskip(library)
    code, _, err = cli("--env-id", TASK, "--backend", backend, "--address", "127.0.0.1:1")
    assert code == 2 and "address='127.0.0.1:1': no" in err and "cluster answers" in err


def test_another_comparison_in_the_folder_is_refused_and_the_difference_is_named(cli, monkeypatch):
    monkeypatch.setattr("dynapilco.compare.pool.Pool.run", lambda self, orders, say: None)
    code, out, _ = cli("--env-id", TASK, "--inference", "swag", "--seeds", "2", "--out", "x", "--search.steps", "20")
    assert code == 1 and "2 of 2 runs have not come to an end" in out
    before = read_settings(Path("x"))
    words = ["--env-id", TASK, "--inference", "swag", "--seeds", "2", "--out", "x", "--resume"]
    code, _, err = cli(*words, "--search.steps", "30")
    assert code == 2 and "search: steps is 20 there and 30 here" in err
    code, _, err = cli("--env-id", TASK, "--inference", "swag", "--seeds", "3", "--out", "x", "--resume")
    assert code == 2 and "seeds is [0, 1] there and [0, 1, 2] here" in err
    assert read_settings(Path("x")) == before
    assert cli(*words, "--search.steps", "20")[0] == cli("--resume", "--out", "x")[0] == 1
    after = read_settings(Path("x"))
    assert len(after["resumed"]) == 2 and after["command"] == before["command"]
    with pytest.raises(UserError, match="seeds is"):
        compare.run(TASK, "swag", 5, out="x", resume=True, quiet=True)


def test_the_file_of_the_real_comparison_is_read(cli, monkeypatch):
    handed = []
    monkeypatch.setattr("dynapilco.compare.pool.Pool.run", lambda self, orders, say: handed.extend(orders))
    file = Path(__file__).parents[2] / "experiments" / "compare.toml"
    assert cli("--config", file, "--out", "x")[0] == 1
    jobs = [order.job for order in handed]
    baselines = [job for job in jobs if job.baseline]
    assert len({job.method for job in jobs if not job.baseline}) >= 6
    assert len(jobs) - len(baselines) == 20 * len({job.method for job in jobs if not job.baseline})
    assert [len([j for j in baselines if j.method == name]) for name in ("sac", "sac@100x")] == [20, 6]
    steps = {(o.job.task, o.job.method): o.baseline["total_timesteps"] for o in handed if o.baseline}
    assert steps == {(CART, "sac"): 360, (CART, "sac@100x"): 36000, (TASK, "sac"): 240, (TASK, "sac@100x"): 24000}
    assert jobs[0].method == "sac@100x"  # the longest first
