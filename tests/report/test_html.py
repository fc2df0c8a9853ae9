"""The report says what happened, alone in one file, whatever its input lacks or carries."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from archgen.graph import Architecture
from archgen.report import write_report
from archgen.report.html import render
from archgen.report.verdict import seconds_in_words, wilson_interval
from archgen.spaces import load

VOID = {"meta", "br", "wbr", "img", "hr", "link", "input"}


class Balance(HTMLParser):
    """Checks that every element is closed in order; collects identifiers, references and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    parser.text = " ".join(parser.text.split())
    return parser


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    space, rng = load("nasbench201"), np.random.default_rng(1)
    latency = rng.uniform(0.08, 0.3, 40)
    table = pd.DataFrame(
        {
            "trial": np.arange(40),
            "arch": [space.format(arch) for arch in space.sample(40, rng)],
            "val_acc": 92 + 20 * latency + rng.normal(0, 0.4, 40),
            "latency_ms": latency,
            "origin": ["random"] * 15 + ["generated"] * 25,
        }
    )
    table.loc[7, ["val_acc", "latency_ms"]] = np.nan
    return table


@pytest.fixture
def result(trials: pd.DataFrame) -> dict[str, Any]:
    best = trials.loc[trials[trials.latency_ms <= 0.16].val_acc.idxmax()]
    winner = {"arch": best.arch, "val_acc": best.val_acc, "test_acc": 97.78, "latency_ms": 0.152}
    return {
        "winner": {**winner, "latency_interval": [0.147, 0.153], "params": 73306, "flops": 7.8e6},
        "met": True,
        "constraints": [{"metric": "latency_ms", "sense": "at_most", "bound": 0.16, "value": 0.152, "met": True}],
        "evaluations": 40,
        "seconds": {"data": 0.4, "supernet": 128.2, "latency": 41.0, "search": 77.0, "final": 30.0, "total": 280.0},
        "run": "runs/demo",
        "data": {"name": "digits", "classes": ["0", "1"], "sizes": {"train": 1077, "val": 360, "test": 360}},
        "space": "nasbench201",
        "seed": 0,
        "latency_predictor": {"rho": 0.974, "coverage90": 0.93, "n_train": 30, "n_test": 10},
        "device": {"cpu": "a cpu", "threads": 1, "runtime": {"name": "onnxruntime"}},
        "network": {"cells": 1, "in_channels": 1, "image_size": 8},
        "versions": {"torch": "2.13.0"},
    }


@pytest.fixture
def fit() -> dict[str, list[float]]:
    return {"measured": [0.1, 0.2, 0.3], "predicted": [0.11, 0.19, 0.31]}


def graphs(result: dict[str, Any]) -> tuple[Architecture, Architecture]:
    space = load("nasbench201")
    arch = space.parse(result["winner"]["arch"])
    return arch, space.computation(arch)


def test_the_file_is_whole_html_with_every_section(
    tmp_path: Path, result: dict[str, Any], trials: pd.DataFrame, fit: dict[str, list[float]]
) -> None:
    path = tmp_path / "runs" / "report.html"
    write_report(path, result, trials, *graphs(result), fit)
    page = parsed(path.read_text(encoding="utf-8"))
    assert page.seen.count("svg") == 5
    assert page.seen.count("section") == 12
    assert ("name", "viewport") in page.attributes
    for words in (
        "Found, and within the bound",
        "97.8 % of the test images",
        "met with 5.0 % to spare",
        "0.147 to 0.153 ms, all of it within the bound",
        "ort.InferenceSession('runs/demo/best.onnx'",
        "np.zeros((1, 1, 8, 8), np.float32)",
        "load_network(Path('runs/demo/best.json'))",
        "4 min 40 s",
        "runtime.name",
    ):
        assert words in page.text, words
    assert list(path.parent.iterdir()) == [path]


def test_the_file_needs_nothing_else(result: dict[str, Any], trials: pd.DataFrame, fit: dict[str, list[float]]) -> None:
    html = render(result, trials, *graphs(result), fit)
    page = parsed(html)
    assert not {"link", "img", "iframe", "object"} & set(page.seen)
    assert "fetch(" not in html
    assert "XMLHttpRequest" not in html
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    references = [value for name, value in page.attributes if name in ("href", "xlink:href", "src")]
    references += re.findall(r"url\((.*?)\)", html)
    names = [value for name, value in page.attributes if name == "id"]
    assert references
    assert all(reference.startswith("#") for reference in references)
    assert {reference[1:] for reference in references} <= set(names)
    assert len(names) == len(set(names)), "an identifier names two elements"


def test_the_same_result_gives_the_same_bytes(result: dict[str, Any], trials: pd.DataFrame) -> None:
    assert render(result, trials, *graphs(result)) == render(result, trials, *graphs(result))


def test_names_from_users_and_data_are_escaped(result: dict[str, Any], trials: pd.DataFrame) -> None:
    evil = "<script>alert('x')</script>\"$title"
    result["data"] = {"name": evil, "classes": [evil, "b"], "sizes": {evil: 3}, "path": evil}
    result |= {"run": evil, "space": evil, "seed": evil, "device": {evil: evil}, "versions": [evil]}
    result["winner"]["arch"] = evil
    result["seconds"] = {evil: 3.0}
    result["constraints"].append({"metric": evil, "sense": "at_most", "bound": 1.0})
    table = trials.assign(origin=evil, **{evil: 0.5})
    table.loc[0, ["arch", "val_acc", "latency_ms"]] = [evil, 99.0, 0.1]
    arch = Architecture("s", ("input", evil, "output"), ((0, 1), (1, 2)))
    html = render(result, table, arch, None)
    page = parsed(html)
    scripts = re.findall(r"<script([^>]*)>", html)
    assert scripts == [' type="application/json" id="marks"', ""], "the report's own"
    assert "innerHTML" not in html, "texts are set as texts"
    assert page.text.count("<script>alert('x')</script>\"$title") >= 8
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_any_missing_part_leaves_the_rest(result: dict[str, Any], trials: pd.DataFrame) -> None:
    undrawn = trials.drop(columns="val_acc")  # without figures: faster
    for key in result:
        part = {name: value for name, value in result.items() if name not in (key, "seconds")}
        assert "A network for" in parsed(render(part, undrawn)).text
    for key in result["winner"]:
        part = copy.deepcopy(result)
        del part["winner"][key]
        parsed(render(part, undrawn))
    for column in trials.columns:
        parsed(render(result, trials.drop(columns=column)))
    parsed(render({}, pd.DataFrame()))
    parsed(render(result, trials.iloc[:0]))


@pytest.mark.parametrize("odd", [None, 3, "text", [], {}, float("nan"), True])
def test_parts_of_another_type_do_not_crash(odd: object, result: dict[str, Any], trials: pd.DataFrame) -> None:
    parsed(render(dict.fromkeys(result, odd), trials))
    trials = trials.drop(columns="val_acc")  # without figures: faster
    result["seconds"] = {}
    for key in result:
        parsed(render({**result, key: odd}, trials, None, None, {"measured": [1.0], "predicted": []}))
    for key in result["winner"]:
        parsed(render({**result, "winner": {**result["winner"], key: odd}}, trials))
    for key in ("metric", "sense", "bound", "value", "met"):
        parsed(render({**result, "constraints": [{**result["constraints"][0], key: odd}]}, trials))


def test_accuracy_before_and_after_fine_tuning_are_told_apart(result: dict[str, Any], trials: pd.DataFrame) -> None:
    result["winner"]["inherited_val_acc"] = 88.8
    text = parsed(render(result, trials)).text
    assert "88.8 % before fine-tuning" in text
    assert "before fine-tuning." in text


def test_the_test_accuracy_has_its_interval_wherever_the_size_stands(
    result: dict[str, Any], trials: pd.DataFrame
) -> None:
    low, high = wilson_interval(97.78, 360)
    words = f"95 % interval is {low:.1f} to {high:.1f} %"
    undrawn = trials.drop(columns="val_acc")
    assert words in parsed(render(result, undrawn)).text
    result["data"] = {"name": "digits", "test": 360}
    assert words in parsed(render(result, undrawn)).text


def test_a_winner_given_by_its_trial_number_is_looked_up(result: dict[str, Any], trials: pd.DataFrame) -> None:
    text = parsed(render({**result, "winner": 3}, trials)).text
    assert f"{trials.val_acc[3]:.1f} % of the validation images" in text


def test_without_a_winner_the_verdict_says_what_could_be_met(result: dict[str, Any], trials: pd.DataFrame) -> None:
    result.pop("winner")
    result |= {"met": False, "constraints": [{"metric": "latency_ms", "sense": "at_most", "bound": 0.05, "met": False}]}
    page = parsed(render(result, trials))
    assert "Nothing met the bound" in page.text
    assert f"The smallest latency tried was {trials.latency_ms.min():.3g} ms." in page.text
    assert "No trial met every bound." in page.text
    assert "How to use it" not in page.text
    assert ("class", "verdict missed") in page.attributes


def test_a_winner_that_breaks_a_bound_is_not_called_a_success(result: dict[str, Any], trials: pd.DataFrame) -> None:
    result["met"] = False
    result["winner"] |= {"latency_ms": 0.18, "latency_interval": [0.155, 0.2]}
    result["constraints"][0] |= {"value": 0.18, "met": False}
    text = parsed(render(result, trials)).text
    assert "breaks the bound" in text
    assert "broken by 12.5 %" in text
    assert "reaches across the bound" in text


def test_lower_bounds_and_several_bounds_are_read(result: dict[str, Any], trials: pd.DataFrame) -> None:
    result["constraints"].append({"metric": "val_acc", "sense": "at_least", "bound": 99.9, "value": 98.0, "met": False})
    text = parsed(render(result, trials)).text
    assert "Validation accuracy 98.0 %, at least 99.9 %: broken by 1.9 %." in text
    assert "No trial met every bound." in text


def test_the_table_lists_ten_distinct_architectures_within_the_bound_best_first(
    result: dict[str, Any], trials: pd.DataFrame
) -> None:
    html = render(result, pd.concat([trials, trials]))
    table = html[html.index("best within the bounds") :]
    shown = [float(v) for v in re.findall(r"<tr[^>]*><td>\d+</td><td class=\"number\">([\d.]+) %", table)]
    within = trials[trials.latency_ms <= 0.16].val_acc.nlargest(10).round(1)
    assert shown == within.tolist()
    assert table.count('class="winner') == 1


def test_wilson_interval_is_scipys() -> None:
    reference = binomtest(352, 360).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(100 * 352 / 360, 360)
    assert low == pytest.approx(100 * reference.low, abs=1e-3)
    assert high == pytest.approx(100 * reference.high, abs=1e-3)


def test_durations_read_as_words() -> None:
    assert [seconds_in_words(s) for s in (2.34, 41.2, 280.0, 7503.0)] == ["2.3 s", "41 s", "4 min 40 s", "2 h 5 min"]


def test_predictions_from_a_table_are_not_called_measurements(result: dict[str, Any], trials: pd.DataFrame) -> None:
    result["device"] = {"measurements": "phone<1>.csv", "architectures": 40}
    result["winner"]["arch"] = trials["arch"][3]
    page = parsed(render(result, trials))
    for words in (
        "one image is predicted to take 0.152 ms on the device of phone<1>.csv",
        "Predicted latency 0.152 ms, at most 0.16 ms: met",
        "The 90 % interval of the predicted latency is 0.147 to 0.153 ms",
        "All latencies are predicted from phone<1>.csv.",
    ):
        assert words in page.text, words
    for words in ("on this machine", "measured latency", "was measured", "measured and"):
        assert words not in page.text, words
    assert ">phone<1>" not in render(result, trials)
    set_of_two = {**result, "networks": [{"arch": "a", "files": name} for name in ("best", "network2")]}
    assert "measured and" not in parsed(render(set_of_two, trials)).text


def test_a_metric_of_any_name_is_text_everywhere(result: dict[str, Any], trials: pd.DataFrame) -> None:
    evil = "<img src=x onerror=alert(1)></script>$x"
    result["minimized"] = [evil]
    result["winner"] |= {evil: 0.5, "files": evil, "int8": {"test_acc": 1.0}}
    result["networks"] = [result["winner"], {"arch": "a", "files": evil, evil: 0.7}]
    result["finalists"] = [{"arch": evil, "val_acc": 1.0}] * 2
    html = render(result, trials.assign(**{evil: np.linspace(0, 1, 40)}), *graphs(result))
    page = parsed(html)
    assert f"Accuracy against {evil}" in page.text
    assert "img" not in page.seen
    assert "<img" not in html
    assert html.count("<script") == 2, "the report's own"


def test_all_that_is_handed_over_has_a_star_at_its_measured_latency(
    result: dict[str, Any], trials: pd.DataFrame
) -> None:
    other = {"arch": trials["arch"][3], "latency_ms": 0.777, "latency_interval": [0.7, 0.8], "files": "network2"}
    html = render({**result, "networks": [result["winner"], other], "minimized": ["latency_ms"]}, trials)
    assert 'id="pareto-winner"' in html
    assert 'id="pareto-others"' in html
    assert '["latency", "0.777 ms"]' in html, "what choosing its mark shows"
    assert 'id="pareto-others"' not in render({**result, "networks": [result["winner"]]}, trials)


@pytest.mark.parametrize(("network", "words"), [({"cells": 1}, "operations of a cell"), ({}, "operations of the net")])
def test_only_a_space_of_cells_has_a_cell(
    network: dict[str, int], words: str, result: dict[str, Any], trials: pd.DataFrame
) -> None:
    arch = graphs(result)[1]
    text = parsed(render({**result, "network": network}, trials.drop(columns="val_acc"), arch, arch)).text
    assert words in text
    assert "Cut-off operations" not in text, "nothing was cut off"


def test_the_fit_has_the_intervals_of_measurements_and_predictions(
    result: dict[str, Any], trials: pd.DataFrame, fit: dict[str, Any]
) -> None:
    fit |= {"low": [0.09, 0.19, 0.29], "high": [0.12, 0.22, 0.32], "factor": 1.062}
    html = render(result, trials, *graphs(result), fit)
    assert 'id="fit-intervals"' in html
    assert 'id="fit-band"' in html
    text = parsed(html).text
    assert "all 3 that were measured, each predicted from the others, with the 95 % intervals" in text
    assert "the band, 6.2 % wide each way, is its 90 % interval." in text
