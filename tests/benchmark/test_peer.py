"""prob_mbrl beside our step, on a made-up checkout: the turns, the shims, and what each bad path is told."""

import collections
import importlib
import io
import sys
from contextlib import closing
from types import SimpleNamespace

import gymnasium
import pytest
import torch

from dynapilco import benchmark
from dynapilco.benchmark import StepCase, check_checkout, open_peers, peer, peer_worker, take_turns
from dynapilco.benchmark.peer import EXPECTED, LEAST_REPEATS, WARM_UP
from dynapilco.cli.main import main
from dynapilco.core.errors import UserError

TINY = StepCase(2, 3, 4, (8, 8), (6,))
FILES = {
    "__init__.py": """
from collections import Iterable
import gym
import Box2D
import joblib
import tqdm
from gym import spaces
from gym.utils import EzPickle, seeding
from Box2D.b2 import contactListener

class Listener(contactListener):
    pass

class Env(gym.Env):
    pass
""",
    "algorithms/__init__.py": "from .mc_pilco import mc_pilco",
    "algorithms/mc_pilco.py": """
import torch
from prob_mbrl import utils

def mc_pilco(x0, dynamics, policy, steps, opt, opt_iters, mm_states, mm_rewards, on_iteration, **others):
    print("noise on standard output")
    assert x0.shape == (6, 5) and steps == 4 and mm_states == mm_rewards and torch.get_num_threads() == 1
    for i in range(opt_iters):
        try:
            rewards = utils.rollout(policy(x0), steps)
        except RuntimeError:
            continue
        on_iteration(i, LOSS, [], [], rewards, None)
""",
    "models/__init__.py": """
import torch
from . import modules

class DynamicsModel(torch.nn.Module):
    def __init__(self, net, reward_func, output_density):
        super().__init__()
        self.net = net

    def set_dataset(self, X, Y):
        assert X.shape[1] == 6 and Y.shape[1] == 5

def DiagGaussianDensity(outputs):
    return torch.nn.Identity()

def mlp(inputs, outputs, hidden, dropout_layers, nonlin, output_nonlin=None):
    assert len(dropout_layers) == len(hidden) and nonlin is torch.nn.Tanh
    return torch.nn.Linear(inputs, outputs)

def Policy(net, high, low):
    return net
""",
    "models/modules.py": "CDropout = BDropout = lambda rate: None",
    "envs/__init__.py": "",
    "envs/cartpole.py": "CartpoleReward = lambda pole_length: None",
    "utils.py": "def rollout(actions, steps): ROLLOUT",
}


@pytest.fixture
def write(tmp_path):
    """Write a made-up checkout, with other words here and there."""

    def written(loss="1.0", rollout="return [1.0] * steps", package=""):
        for name, text in FILES.items():
            path = tmp_path / "checkout" / "prob_mbrl" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("LOSS", loss).replace("ROLLOUT", rollout))
        if package:
            (tmp_path / "checkout" / "prob_mbrl" / "__init__.py").write_text(package)
        return tmp_path / "checkout"

    return written


@pytest.fixture
def idle(monkeypatch):
    """No benchmark work may be done: fails where some is."""

    def work(*_):
        raise AssertionError("work before the path was checked")

    monkeypatch.setattr(benchmark, "PEER_CASES", (TINY,))
    for name in ("time_step", "make_step"):
        monkeypatch.setattr(benchmark, name, work)


def test_the_peer_and_we_take_turns_and_the_checkout_is_left_alone(write):
    checkout = write()
    before = sorted(checkout.rglob("*"))
    steps = []
    with closing(peer.Peer(checkout, TINY, True, threads=1)) as worker:
        turns = take_turns(lambda: steps.append(1), [worker], repeats=2)
    assert len(steps) == WARM_UP + LEAST_REPEATS
    assert [len(times) for times in (turns.ours, *turns.peers)] == [LEAST_REPEATS] * 2
    assert all(milliseconds > 0 for times in turns.peers for milliseconds in times)
    assert sorted(checkout.rglob("*")) == before
    assert "prob_mbrl" not in sys.modules and not hasattr(collections, "Iterable")
    with pytest.raises(ValueError, match="closed"):
        worker.iterate()


def test_a_ratio_is_the_median_of_those_of_the_rounds():
    turns = peer.Turns([1.0, 2.0, 4.0], [[2.0, 4.0, 8.0], [9.0, 6.0, 4.0]])
    assert turns.ratio(0) == 2.0 and turns.ratio(1) == 3.0


def test_the_command_prints_the_peer_beside_our_step(write, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(benchmark, "STEP_CASES", ())
    monkeypatch.setattr(benchmark, "PEER_CASES", (TINY,))
    monkeypatch.setattr(benchmark.model_fit, "FITS", ())
    monkeypatch.setattr(benchmark.particles, "PARTICLES", ())
    assert main(["benchmark", "--repeats", "2", "--peer-path", str(write())]) == 0
    out = capsys.readouterr().out
    assert "beside prob_mbrl" in out and "2x3x4, model 2x8, policy 1x6" in out
    assert [line for line in out.splitlines() if "dropout" in line and "moment matching" in line and "tanh" in line]


def test_the_help_teaches_the_option(capsys):
    with pytest.raises(SystemExit):
        main(["benchmark", "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--peer-path CHECKOUT" in out and "https://github.com/mcgillmrl/prob_mbrl" in out


def test_a_path_that_does_not_exist(tmp_path, idle, capsys):
    assert main(["benchmark", "--peer-path", str(tmp_path / "gone")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"peer_path={str(tmp_path / 'gone')!r} does not exist: {EXPECTED}" in err


def test_a_path_that_is_no_checkout(tmp_path, write):
    with pytest.raises(UserError, match=r"peer_path=.* has no prob_mbrl/__init__.py: expected a git checkout"):
        check_checkout(tmp_path)
    file = write() / "prob_mbrl" / "algorithms" / "mc_pilco.py"
    with pytest.raises(UserError, match=r"mc_pilco.py' is not a folder: expected a git checkout"):
        check_checkout(file)
    file.unlink()
    with pytest.raises(UserError, match=r"has no prob_mbrl/algorithms/mc_pilco.py: expected a git checkout"):
        check_checkout(tmp_path / "checkout")


def test_a_checkout_that_cannot_be_imported(write, idle, capsys):
    checkout = write(package="import no_such_module")
    assert main(["benchmark", "--peer-path", str(checkout)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"peer_path={str(checkout)!r} does not run: ModuleNotFoundError: No module named" in err
    assert EXPECTED in err


def test_a_checkout_whose_rollout_fails_does_not_go_on_for_ever(write):
    checkout = write(rollout="raise RuntimeError('not positive definite')")
    with pytest.raises(UserError, match=r"does not run: ValueError: its rollout failed: not positive definite; expec"):
        peer.Peer(checkout, TINY, False, threads=1)


def test_another_device_than_ours(write):
    words = "peer_path=.* with device='cuda': expected device='cpu'"
    with pytest.raises(UserError, match=words), open_peers(write(), TINY, torch.device("cuda"), threads=1):
        pass


@pytest.mark.parametrize(("loss", "steps"), [(float("nan"), 4), (1.0, 3)])
def test_no_time_is_told_of_an_iteration_that_was_cut_short_or_ended_in_nan(loss, steps):
    answers = io.StringIO()
    turns = peer_worker.Turns(4, io.StringIO("\n"), answers)
    with pytest.raises(ValueError, match=f"iteration 0: loss {loss} after {steps} of 4 steps"):
        turns(0, loss, [], [], [0.0] * steps, None)
    assert answers.getvalue() == ""


def test_a_worker_ends_with_its_orders():
    turns = peer_worker.Turns(1, io.StringIO("\n"), io.StringIO())
    turns(0, 1.0, [], [], [0.0], None)
    with pytest.raises(SystemExit):
        turns(1, 1.0, [], [], [0.0], None)


def test_old_names_are_there_for_a_while_only(monkeypatch):
    old = SimpleNamespace(kept="as it is")
    monkeypatch.setattr(peer_worker, "OLD_NAMES", ((old, "kept", "other"), (old, "gone", "back")))
    before = set(sys.modules)
    with peer_worker.shims():
        assert vars(old) == {"kept": "as it is", "gone": "back"}
        assert importlib.import_module("gym").Env is gymnasium.Env
    assert vars(old) == {"kept": "as it is"} and set(sys.modules) == before
