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

from archgen.report import write_report
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
    path = tmp_path_factory.mktemp("report") / "report.html"
    graphs = {text: space.computation(arch) for text, arch in zip(texts, archs, strict=True)}
    write_report(path, result, trials, archs[0], space.computation(archs[0]), None, graphs)
    return path


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
    browser.execute_script("arguments[0].dispatchEvent(new PointerEvent('pointerenter'))", mark)
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed()
    assert "nor_conv" in tip.text or "skip" in tip.text or "pool" in tip.text
    browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", mark)
    assert panel.is_displayed()
    assert panel.find_element("tag name", "code").text == mark.get_attribute("aria-label").split(",")[0]
    assert panel.find_elements("tag name", "svg"), "its graph"
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "the page scrolls down only"
    assert browser.get_log("browser") == [], "errors in the console"
