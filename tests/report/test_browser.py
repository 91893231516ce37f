"""The page in a real browser: skipped where there is none."""

import threading
import time
import urllib.error
import urllib.request

import pytest

from dynapilco.report.page.frame import render
from dynapilco.report.watching import address, make_server
from dynapilco.report.writing import build

from .browser import Browser, find
from .synthetic import TASKS, make_comparison
from .test_run_report import EVIL

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium found on PATH: the page is not tried in a browser")
OUTSIDE = """[...document.querySelectorAll('.plot svg text, .panel svg text')].filter(t => {
    const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();
    return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
}).map(t => t.textContent)"""
"""Texts that leave their figure."""
LEFT, RIGHT, END = ("ArrowLeft", 37), ("ArrowRight", 39), ("End", 35)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(shared):
    """The browser; whatever goes wrong on a page fails the test."""
    shared.problems.clear()
    shared.requests.clear()
    yield shared
    assert shared.problems == []


@pytest.fixture
def page(tmp_path, make):
    """Address of the report of a run."""
    return saved(make.run(tmp_path / "a"), tmp_path / "a.html")


def saved(folder, path):
    path.write_text(render(build(folder)), encoding="utf-8")
    return path.as_uri()


def test_every_figure_is_drawn_and_nothing_is_asked_for(browser, page):
    browser.open(page)
    drawn = browser.run("[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('svg .axes text').length)")
    assert len(drawn) == 7 and min(drawn) > 3
    marks = browser.run("[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.mark').length)")
    assert min(marks) > 2
    assert browser.run("document.querySelectorAll('.panel svg').length") == 4  # two states, an action, the PIT
    assert all(asked.startswith(("file:", "data:")) for asked in browser.requests)


def test_the_slider_moves_over_the_trials_by_keyboard(browser, page):
    browser.open(page)
    title = "document.querySelector('[data-part=title]').textContent"
    line = "document.querySelector('.panel svg').innerHTML"
    browser.run("document.querySelector('[data-part=slider]').focus()")
    assert browser.run(title).startswith("Trial 3:")
    seen = {browser.run(line)}
    for expected in ("Trial 2:", "Trial 1:", "Trial 1:"):
        browser.key(*LEFT)
        assert browser.run(title).startswith(expected)
        seen.add(browser.run(line))
    assert len(seen) == 3
    browser.key(*END)
    assert browser.run(title).startswith("Trial 3:")
    assert browser.run("document.querySelector('[data-part=slider]').getAttribute('aria-valuetext')") == browser.run(
        title
    )


def test_the_fan_shows_the_values_of_its_trial(browser, page):
    browser.open(page)
    browser.run("document.querySelector('[data-part=table]').open = true")
    browser.until("document.querySelectorAll('[data-part=table] tbody tr').length === 21")
    first = "document.querySelector('[data-part=table] tbody tr').cells[1].textContent"
    assert browser.run(first) == "3"
    browser.run("document.querySelector('[data-part=back]').click()")
    assert browser.run(first) == "2"


def test_arrow_keys_read_out_the_values_of_a_chart(browser, page):
    browser.open(page)
    browser.run("document.querySelector('#learning-curve .plot').focus()")
    said = "document.querySelector('#learning-curve .said').textContent"
    for _ in range(2):
        browser.key(*RIGHT)
    assert "trial: 1. " in browser.run(said) and "real return: 5" in browser.run(said)
    assert not browser.run("document.querySelector('#learning-curve .tip').hidden")
    browser.key("Escape", 27)
    assert browser.run("document.querySelector('#learning-curve .tip').hidden")


def test_a_legend_entry_hides_its_series(browser, page):
    browser.open(page)
    count = "document.querySelectorAll('#coverage .plot .mark').length"
    before = browser.run(count)
    browser.run("document.querySelector('#coverage .legend button').click()")
    assert browser.run(count) == before - 3
    assert browser.run("document.querySelector('#coverage .legend button').getAttribute('aria-pressed')") == "false"


def test_light_and_dark_follow_the_system_and_the_button(browser, page):
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    browser.open(page, scheme="light")
    light = browser.run(paper)
    browser.open(page, scheme="dark")
    dark = browser.run(paper)
    assert light == "rgb(255, 255, 255)" and dark != light
    browser.run("document.getElementById('theme').click()")
    assert browser.run("document.getElementById('theme').textContent") == "Theme: light" and browser.run(paper) == light
    browser.run("document.getElementById('theme').click()")
    assert browser.run(paper) == dark
    browser.run("document.getElementById('theme').click()")


def test_a_phone_scrolls_in_one_direction_only(browser, page):
    browser.open(page, width=360, height=700, mobile=True)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    widest = "Math.max(...[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().right))"
    assert browser.run(widest) <= 360


def test_texts_stay_inside_their_figures(browser, page):
    for width in (1280, 360):
        browser.open(page, width=width)
        assert browser.run(OUTSIDE) == []


def test_nothing_from_a_file_runs(browser, tmp_path, make):
    folder = make.run(tmp_path / "a", config={**make.config, "env_id": EVIL, "inference": EVIL})
    (folder / "command.txt").write_text(EVIL)
    browser.open(saved(folder, tmp_path / "a.html"))
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.querySelector('.kind').textContent").count(EVIL) == 2
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    time.sleep(0.2)
    assert browser.run("window.ran === undefined")  # the policy stops what escaping would have missed
    browser.problems.clear()  # which the browser tells


def test_a_watched_run_refreshes_itself(browser, tmp_path, make):
    folder = make.run(tmp_path / "a", trials=3, finished=False)
    server = make_server(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        browser.open(address(server))
        answer = "(document.querySelector('.answer') || document.body).textContent"
        assert "3 trials so far" in browser.run(answer)
        browser.run("document.querySelector('[data-part=back]').click()")
        make.run(folder, trials=4)
        browser.until(f"document.readyState === 'complete' && {answer}.includes('Solved')")
        assert browser.run("document.querySelector('[data-part=title]').textContent").startswith("Trial 1:")  # as left
        assert all(asked.startswith((address(server), "data:")) for asked in browser.requests)
    finally:
        browser.call("Page.navigate", url="about:blank")  # or it would go on asking
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_browser_is_refused_under_another_name(tmp_path, make):
    server = make_server(make.run(tmp_path / "a"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        request = urllib.request.Request(address(server), headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)
    finally:
        server.shutdown()
        server.server_close()


def test_a_comparison_is_drawn_and_its_runs_can_be_chosen(browser, tmp_path, make):
    methods = ("ensemble", "mc_dropout", "sac@100x")
    folder = make_comparison(tmp_path / "study", seeds=3, tasks=TASKS[:1], methods=methods, make_run=make.run)
    page = saved(folder, tmp_path / "a.html")
    browser.open(page)
    drawn = browser.run("[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.mark').length)")
    assert len(drawn) > 12 and min(drawn) > 0
    label = "document.querySelector('[data-part=choice]').selectedOptions[0].textContent"
    assert ", ensemble, seed" in browser.run(label)
    choose = "document.querySelector('[data-part=choice]')"
    browser.run(f"{choose}.value = '1', {choose}.dispatchEvent(new Event('change'))")
    assert ", mc_dropout, seed" in browser.run(label)
    assert browser.run("document.querySelectorAll('.panel svg').length") == 4
    for width in (1280, 360):
        browser.open(page, width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(OUTSIDE) == []
