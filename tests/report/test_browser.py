"""The report in a real browser: no error in its console, and the plot answers; skipped where there is no Chromium."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen.report import chosen, write_report
from archgen.spaces import load

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("there is no Chromium with its driver", allow_module_level=True)
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(DRIVER))
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report") / "report.html")


def written(path: Path) -> Path:
    """A report of 20 trials."""
    space, rng = load("nasbench201"), np.random.default_rng(2)
    archs = space.sample(20, rng)
    texts = [space.format(arch) for arch in archs]
    trials = pd.DataFrame({"arch": texts, "val_acc": rng.uniform(80, 90, 20), "latency_ms": rng.uniform(1, 2, 20)})
    result = {
        "winner": {"arch": texts[0], "val_acc": 90.0, "test_acc": 89.0, "latency_ms": 1.2},
        "constraints": [{"metric": "latency_ms", "sense": "at_most", "bound": 1.5, "value": 1.2, "met": True}],
        "met": True,
        "run": "runs/<b>demo</b>",
    }
    graphs = {text: space.computation(arch) for text, arch in zip(texts, archs, strict=True)}
    write_report(path, result, trials, archs[0], space.computation(archs[0]), None, graphs)
    return path


def pointer(browser: Any) -> Any:
    return webdriver.ActionChains(browser, duration=0)


@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_a_mark_that_is_chosen_is_shown_with_its_graph(browser: Any, page: Path, width: int) -> None:
    browser.set_window_size(width, 900)
    browser.get(page.as_uri())
    marks = browser.find_elements("css selector", ".mark")
    assert len(marks) == 20
    panel = browser.find_element("id", "chosen")
    assert not panel.is_displayed()
    mark = marks[4]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    pointer(browser).move_to_element(mark).perform()
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed()
    assert "nor_conv" in tip.text or "skip" in tip.text or "pool" in tip.text
    pointer(browser).click(mark).perform()
    assert panel.is_displayed()
    assert panel.find_element("tag name", "code").text == mark.get_attribute("aria-label").split(",")[0]
    assert panel.find_elements("tag name", "svg"), "its graph"
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "the page scrolls down only"
    assert browser.get_log("browser") == [], "errors in the console"


@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_what_a_star_or_a_text_stands_on_can_be_chosen_and_so_can_a_place_beside_a_mark(
    browser: Any, page: Path, width: int
) -> None:
    browser.set_window_size(width, 900)
    browser.get(page.as_uri())
    panel, star = browser.find_element("id", "chosen"), browser.find_element("css selector", "#pareto-winner use")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", star)
    winner = browser.find_element("css selector", '.mark[data-row="0"]')
    at_star = "const b = arguments[0].getBoundingClientRect();"
    at_star += "return document.elementFromPoint((b.left + b.right) / 2, (b.top + b.bottom) / 2)"
    assert browser.execute_script(at_star, star) == winner
    pointer(browser).click(star).perform()
    assert panel.find_element("tag name", "code").text == winner.get_attribute("aria-label").split(",")[0]
    # ten pixels beside the mark that has the most room, which a finger may miss by
    centres = browser.execute_script(
        "return [...document.querySelectorAll('.mark')].map(m => { const b = m.getBoundingClientRect();"
        "return [(b.left + b.right) / 2, (b.top + b.bottom) / 2]; })"
    )
    points = np.array(centres)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e6 * np.eye(len(points))
    alone = int(apart.min(1).argmax())
    mark = browser.find_elements("css selector", ".mark")[alone]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    pointer(browser).move_to_element_with_offset(mark, 0, 10).click().perform()
    assert panel.find_element("tag name", "code").text == mark.get_attribute("aria-label").split(",")[0]
    assert browser.get_log("browser") == []


def test_a_mark_whose_graph_is_not_drawn_says_why(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "DRAWN", 3)
    browser.get(written(tmp_path / "few.html").as_uri())
    panel = browser.find_element("id", "chosen")
    shown = []
    for mark in browser.find_elements("css selector", ".mark"):
        mark.send_keys("\ue007")  # Enter
        drawn = bool(panel.find_elements("tag name", "svg"))
        assert drawn != ("Graphs are drawn of the 3 most accurate only." in panel.text)
        shown.append(drawn)
    assert sum(shown) == 3
