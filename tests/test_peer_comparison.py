"""The peers' comparison: how it takes turns and judges, on runners that need no peer."""

import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parent.parent / "experiments" / "benchmarks" / "peers"
RUNNER = """
import time
import worker

def spin(milliseconds):
    def run(steps):
        end = time.perf_counter() + 1e-3 * milliseconds * steps
        while time.perf_counter() < end:
            pass
        print("noise on standard output")
        return 1.0
    return run

def missing():
    raise NotImplementedError("slow")

worker.main({"fast": lambda: spin(1), "slow": missing, "nan": lambda: lambda steps: float("nan")}, None)
"""


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    for name in ("client", "compare", "make_environments", "table", "worker", "workload"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import client
    import compare
    import table

    yield client, compare, table
    for name in ("client", "compare", "make_environments", "table", "worker", "workload"):
        sys.modules.pop(name, None)


@pytest.fixture
def runner(tmp_path):
    path = tmp_path / "runner.py"
    path.write_text(f"import sys; sys.path.insert(0, {str(PEERS)!r})\n{RUNNER}")
    return path


def result(table, ours, peer, **options):
    comparison = table.Comparison("line", "a", "p", "b", **options)
    ms = {"ours": {"wall": ours, "cpu": ours}, "peer": {"wall": peer, "cpu": peer}}
    return {"comparison": comparison, "missing": {}, "ms": ms, "ratios": table.ratios(comparison, ms)}


def test_a_bar_is_judged_by_the_median_of_ratios_within_rounds(peers):
    table = peers[2]
    assert table.verdict(result(table, [1, 1, 9], [2, 2, 9], bar=2.0)) == "met"
    assert table.verdict(result(table, [1, 1, 1], [1.9, 1.9, 9], bar=2.0)) == "missed"
    assert table.verdict(result(table, [1.1, 1.1, 9], [1, 1, 1], bar=1.15, cost=True)) == "met"
    assert table.verdict(result(table, [1.2, 1.2, 1], [1, 1, 1], bar=1.15, cost=True)) == "missed"
    assert table.verdict(result(table, [1], [1])) == "no bar"
    slow_cpu = result(table, [1], [3], bar=2.0)
    slow_cpu["ratios"]["cpu"] = [1.5]
    assert table.verdict(slow_cpu) == "missed"
    parallel = result(table, [1], [3], bar=2.0)
    parallel["ms"]["peer"]["cpu"] = [4.5]
    assert table.verdict(parallel) == "void: peer kept 1.50 cores busy"


def test_workers_take_turns_and_name_what_is_missing(peers, runner):
    client, compare, table = peers
    with client.Worker("x", Path(sys.executable), runner) as worker:
        workers = {"ours": worker, "peer": worker}
        done = compare.measure(table.Comparison("line", "fast", "peer", "fast", 0.5), workers, 4, 0.005)
        assert len(done["ratios"]["wall"]) == 4 and min(done["ms"]["ours"]["wall"]) >= 1
        assert table.verdict(done) == "met"
        gone = compare.measure(table.Comparison("line", "slow", "peer", "fast", 1.0), workers, 1, 0.005)
        assert table.verdict(gone) == "not measured: no slow" and "-" in table.line(gone)


def test_a_worker_that_fails_is_told(peers, runner):
    client = peers[0]
    with (
        client.Worker("x", Path(sys.executable), runner) as worker,
        pytest.raises(RuntimeError, match=r"(?s)worker 'x' ended with exit code 1.*a speed of NaNs"),
    ):
        worker.run("nan", 1)


def test_the_workload_is_the_one_of_the_table(peers):
    import workload

    assert sum(w.size + b.size for w, b in workload.weights()) == 3508
    x, y = workload.data(200)
    assert x.shape == (200, 10) and y.shape == (200, 8) and x.dtype == y.dtype == "float32"
    assert (workload.data()[0][:200] == x).all() and len(workload.batches()) == 10
