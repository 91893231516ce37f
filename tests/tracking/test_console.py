import io

from rich.console import Console

from dynapilco.tracking.console import ConsoleSink


def run(sink, make, trials=3):
    sink.start(make.config, trials)
    for trial in range(trials):
        sink.progress(trial, "model", 1, 10, {"potential": -1.0})
        sink.progress(trial, "policy", 5, 10, {"predicted_return": 12.5})
        sink.trial(make.trial(trial))
    sink.message("something [odd] happened")


def plain():
    return Console(file=io.StringIO(), force_terminal=False, width=80, markup=False, highlight=False)


def test_plain_output_has_a_line_per_trial_and_no_control_codes(make):
    sink = ConsoleSink(console=plain())
    run(sink, make)
    text = sink.console.file.getvalue()
    lines = [line for line in text.splitlines() if line.startswith("trial")]
    assert len(lines) == 3
    assert "exploration" in lines[0]
    assert "predicted     0.14" in lines[1]
    assert "no success" in lines[1]
    assert "coverage 67 %" in lines[2]
    assert "4.2 s" in lines[2]
    assert "\x1b" not in text
    assert "\r" not in text
    assert "something [odd] happened" in text


def test_closing_table_lists_trials_of_before_and_now(make):
    sink = ConsoleSink(history=[make.row(0)], console=plain())
    sink.start(make.config, 2)
    sink.trial(make.trial(1))
    sink.finish({})
    table = sink.console.file.getvalue().split("Trials")[1].splitlines()
    assert [row.split()[0] for row in table if row.strip()[:1].isdigit()] == ["0", "1"]
    assert "…" not in "".join(table)


def test_bars_show_phase_and_prediction_and_are_closed_after_an_error(make):
    console = Console(file=io.StringIO(), force_terminal=True, width=150)
    sink = ConsoleSink(console=console)
    try:
        sink.start(make.config, 3)
        sink.progress(1, "policy", 5, 10, {"predicted_return": 12.5})
        sink._progress.refresh()
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sink.close()
    text = console.file.getvalue()
    assert "trial 1: search a policy" in text
    assert "predicted return 12.5" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again
    before = len(text)
    sink.close()
    sink.progress(1, "policy", 6, 10, {})
    assert len(console.file.getvalue()) == before
