import io
import json
import math
import time

import pytest
from rich.console import Console

from dynapilco import compare
from dynapilco.compare import inferred
from dynapilco.compare.closing import (
    closing_tables,
    cost_cells,
    failure_sentences,
    median_interval,
    outcome_cells,
    score_cell,
)
from dynapilco.compare.comparison import report
from dynapilco.compare.folder import Folder, Job
from dynapilco.compare.watch import Watcher
from dynapilco.core.errors import UserError
from dynapilco.tracking.console import make_console

TASK = "dynapilco/PendulumSwingUp-v0"


def test_the_tables_hold_every_run_and_every_trial(written):
    runs, trials = compare.load(written.root)
    assert runs["status"].tolist() == ["done", "done", "failed", "missing"]
    assert runs["score"].tolist()[:2] == [10.0, 20.0] and runs["score"].isna().tolist()[2:] == [True, True]
    assert runs["first_success_trial"].tolist()[0] == 2 and math.isnan(runs["first_success_trial"][1])
    assert runs["error"].tolist() == ["", "", "ValueError: bad, really", ""]
    assert runs["trials"].tolist() == [3, 3, 2, 0] and runs["env_steps"].tolist() == [120, 120, 80, 0]
    assert (runs["peak_memory_mb"][0], runs["wall_seconds"][0]) == (400.5, 12.5)
    assert len(trials) == 8
    assert trials["explored"].tolist() == [True, False, False] * 2 + [True, False]
    assert trials["success"].tolist()[:7] == [False, False, True, True, False, False, False]
    assert trials["success"].isna().tolist()[7]
    assert trials["return"].dtype == trials["predicted_return"].dtype == "float64"


@pytest.mark.parametrize(
    ("table", "line", "old", "new", "said"),
    [
        ("trials.csv", 3, "1.5", "lots", "trials.csv', line 3: return='lots': expected a number or nothing"),
        ("trials.csv", 2, ",true", "", "line 2: 21 cells: expected 22"),
        ("trials.csv", 4, "false", "no", "line 4: explored='no': expected true or false"),
        ("runs.csv", 2, "done", "finished", "line 2: status='finished': expected done or failed or missing"),
        (
            "runs.csv",
            3,
            "ensemble,1",
            "ensemble,0",
            "line 3: task dynapilco/PendulumSwingUp-v0, method ensemble, seed 0",
        ),
        ("runs.csv", 1, "score", "scores", "line 1: no column score"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(written, table, line, old, new, said):
    path = written.root / table
    lines = path.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as caught:
        compare.load(written.root)
    assert said in str(caught.value)


def test_a_folder_that_is_no_comparison(tmp_path):
    with pytest.raises(UserError, match=r"runs.csv' does not exist"):
        compare.load(tmp_path)


def test_the_closing_table_shows_seeds_and_intervals(written):
    runs, trials = compare.load(written.root)
    found, _ = compare.infer(runs, trials)
    outcome, cost = closing_tables(runs, trials, found)
    assert outcome.row_count == cost.row_count == 2
    seeds, score, solved, first = outcome_cells(runs[:2], score_cell(found, TASK, "ensemble"))
    one_step, _, seconds, wall = cost_cells(runs[:2], trials[:6])
    assert seeds == "2 of 2"
    assert score.startswith(
        "15\n-48.5"
    )  # of two the IQM is the mean; t interval, 1 degree of freedom: 15 +- 12.706 * 5
    assert solved == "1 of 2\n9% to 91%"
    assert first == "2\n2 to never *"
    assert one_step == "50%\n50% to 50%"
    assert seconds == "1.1\n1.1 to 1.1" and wall == "12.5\n12.5 to 12.5"
    console = Console(width=80, file=io.StringIO())
    for table in (outcome, cost):
        console.print(table)
    assert "…" not in console.file.getvalue()


def test_a_failed_seed_is_counted_and_named(written):
    runs = compare.load(written.root)[0]
    cells = outcome_cells(runs[2:], "-")
    assert cells[0] == "0 of 2\n1 failed\n1 missing"
    assert cells[1] == "-" and cells[2] == "0 of 1\n0% to 79%"
    failed, missing = failure_sentences(runs)
    assert failed == "1 of 4 runs failed and count as not solved: dynapilco/PendulumSwingUp-v0 swag seed 0."
    assert "seed 1" in missing


def test_the_interval_of_a_median_comes_from_order_statistics():
    import numpy as np
    from scipy.stats import binom

    assert median_interval(np.arange(1.0, 11)) == (2.0, 9.0, True)  # the textbook ranks for n = 10
    assert median_interval(np.arange(5.0))[2] is False
    for n in (6, 10, 20, 50):
        low, high, _ = median_interval(np.arange(n, dtype=float))
        cover = 1 - 2 * binom.cdf(low, n, 0.5)
        assert high == n - 1 - low and cover >= 0.95
        assert 1 - 2 * binom.cdf(low + 1, n, 0.5) < 0.95


def test_the_statistics_are_written_and_told(written, capsys):
    found = report(written.root, make_console())
    assert not found.complete and "no difference shown" in capsys.readouterr().out
    saved = json.loads((written.root / "statistics" / "statistics.json").read_text())
    assert saved["settings"]["unbalanced"] and saved["settings"]["different_budgets"]
    failed = next(row for row in saved["aggregates"] if row["method"] == "swag" and row["metric"] == "score")
    assert failed["estimate"] == 0.02 and failed["failed"] == 1  # the low anchor of the task, not the worst run's score


def test_statistics_that_refuse_do_not_cost_the_tables(written, monkeypatch):
    def statistics(runs, trials, **allowed):
        raise UserError("too few")

    monkeypatch.setattr(inferred, "statistics", statistics)
    assert report(written.root, Console(quiet=True)).sentences[-1] == "No statistics: too few."


def test_the_statistics_take_the_tables_as_they_are(written):
    sentences = report(written.root, Console(quiet=True)).sentences
    assert any("no difference shown" in sentence for sentence in sentences), sentences
    assert (written.root / "statistics" / "statistics.json").is_file()


def test_the_live_table_cuts_no_name_in_80_columns(tmp_path):
    long = [Job(f"dynapilco/{task}-v0", "random_features", 13) for task in ("CartPoleSwingUp", "CartPoleSwingUpPILCO")]
    for hosts, folded in ((("vm", "vm"), False), (("gpu-node-0.cluster", "gpu-node-1.cluster"), True)):
        watcher = Watcher(Folder(tmp_path), long, dict.fromkeys(long, 6), Console())
        for job, host in zip(long, hosts, strict=True):
            watcher._states[job] = {"status": "running", "host": host, "pid": 12345, "began": time.time()}
        console = Console(width=80, file=io.StringIO())
        console.print(watcher.table())
        text = console.file.getvalue()
        assert "…" not in text and max(map(len, text.splitlines())) <= 80
        assert folded or all(name in text for name in ("CartPoleSwingUp-v0 ", "CartPoleSwingUpPILCO-v0 ", "12345"))
