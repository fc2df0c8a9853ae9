"""Figures become files that are whole and the same each time, without pyplot's global state."""

from pathlib import Path

import pandas as pd
import pytest

from archgen import plots


def test_svg_is_the_same_each_time_and_carries_no_date_or_version(trials: pd.DataFrame) -> None:
    first, second = (plots.to_svg(plots.pareto_plot(trials, bound=0.16, winner=0)) for _ in range(2))
    assert first == second
    assert "<dc:" not in first
    assert "Matplotlib" not in first


def test_png_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fig = plots.cost_plot({"data": 1.0})
    target = tmp_path / "cost.png"
    plots.save_png(fig, target)
    whole = target.read_bytes()
    assert whole.startswith(b"\x89PNG")

    def full(path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fig, "savefig", full)
    with pytest.raises(OSError, match="No space"):
        plots.save_png(fig, target)
    assert target.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [target]


def test_figures_do_not_load_pyplot(trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def guarded(name: str, *args: object, **kwargs: object) -> object:
        assert name != "matplotlib.pyplot", "pyplot holds global state"
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", guarded)
    plots.to_svg(plots.pareto_plot(trials, bound=0.16))


def test_metric_names_have_words_units_and_the_device() -> None:
    assert plots.metric_name("latency_ms@pixel3") == ("latency on pixel3", "ms")
    assert plots.metric_name("cifar10") == ("cifar10", "")
    assert plots.with_unit(97.777, "val_acc") == "97.8 %"
    assert plots.with_unit(0.13149, "latency_ms") == "0.131 ms"
    assert plots.with_unit(73306, "params") == "73,306"
