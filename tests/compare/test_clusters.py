"""The same comparison on a cluster: two Ray nodes on loopback, one of which is killed; a Dask cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynapilco import compare

ROOT = Path(__file__).parents[2]
TASK = "dynapilco/PendulumSwingUp-v0"
TINY = [
    *("--inference", "random_features", "--seeds", "4", "--trials", "3", "--search.steps", "20"),
    *("--search.screening-steps", "5", "--search.fresh-starts", "1", "--rollout.total-particles", "8"),
]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def environment():
    path = os.pathsep.join([str(ROOT), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def ray_node(environment, tmp_path):
    """Start a Ray node with one CPU, in a session of its own: ``ray_node("--head", ...)``."""
    nodes = []

    def start(*words):
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *words]
        command += ["--object-store-memory=80000000", "--node-ip-address=127.0.0.1"]
        with (tmp_path / f"node-{len(nodes)}.log").open("wb") as log:
            node = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        kill(node)


def kill(node):
    """SIGKILL to all that the node consists of."""
    members = descendants(node.pid)
    for pid in [node.pid, *members]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    node.wait()


def descendants(pid):
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def until(condition, what, seconds=300):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.3)
    return found


def running(node, out):
    """Process of a job that runs on a node, once it has begun to train; else None."""
    for pid in descendants(node.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"dynapilco.compare.worker" in words and any(str(out).encode() in word for word in words):
            return pid
    return None


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_of_two_ray_nodes_one_is_killed_and_nothing_is_lost(ray_node, environment, tmp_path):
    pytest.importorskip("ray")
    port, out = free_port(), tmp_path / "out"
    ray_node("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir=/tmp/ray-{port}")
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the head node")
    second = ray_node(f"--address=127.0.0.1:{port}")
    time.sleep(15)
    command = [sys.executable, "-m", "dynapilco", "compare", "--env-id", TASK, *TINY, "--out", str(out), "--jobs", "2"]
    command += ["--backend", "ray", "--address", f"127.0.0.1:{port}"]
    with (tmp_path / "compare.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        job = until(lambda: running(second, out) or process.poll(), "a job on the second node")
        said = (tmp_path / "compare.log").read_text()
        assert process.poll() is None, said
        kill(second)
        until(lambda: not alive(job), "the end of the orphaned job", 20)
        assert process.wait(600) == 0, (tmp_path / "compare.log").read_text()
    finally:
        process.kill()
        process.wait()
    said = (tmp_path / "compare.log").read_text()
    assert "handed out again" in said, said
    runs, trials = compare.load(out)
    assert runs["status"].tolist() == ["done"] * 4
    assert trials.groupby("seed").size().tolist() == [3] * 4


def test_a_dask_cluster_does_the_jobs(environment, tmp_path):
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dynapilco", "compare", "--env-id", TASK, *TINY, "--out", str(out), "--jobs", "2"]
    done = subprocess.run(
        [*command, "--seeds", "2", "--backend", "dask"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert compare.load(out)[0]["status"].tolist() == ["done"] * 2
