"""`archgen supernet`: from images to scores, ranks and a network of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
import torch

from archgen import artifacts, spaces
from archgen.export import load_network
from archgen.inheritance import load_supernet
from archgen.supernets import MixtureSupernet, make_supernet

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
SPACE = spaces.load("nasbench201")
ARCHS = [SPACE.format(a) for a in SPACE.sample(12, np.random.default_rng(0))]
SMALL = ["--network", "cells=1", "--network", "channels=4", "--limit", 200, "--epochs", 1]


@pytest.fixture
def trained(workplace: Path, succeeds: Run) -> Path:
    said = succeeds("supernet", "train", "--space", "nasbench201", *SMALL, "--strategy", "fair", "--out", "net")
    assert said.stdout == "net: supernet of nasbench201, 25,654 weights\n"
    return workplace / "net"


def test_a_supernet_scores_ranks_and_gives_networks_away(trained: Path, succeeds: Run) -> None:
    pd.DataFrame({"arch": ARCHS, "acc": np.arange(12.0)}).to_csv("table.csv", index=False)
    succeeds("supernet", "evaluate", "net", "--archs", "table.csv", "--out", "scores.parquet")
    scores = pd.read_parquet("scores.parquet")
    assert scores["arch"].tolist() == ARCHS
    assert scores["val_acc"].between(0, 100).all()

    one = json.loads(succeeds("supernet", "evaluate", "net", "--arch", ARCHS[3], "--json").stdout)
    assert one == scores.iloc[3].to_dict()
    assert f"val_acc {one['val_acc']:.2f} %" in succeeds("supernet", "evaluate", "net", "--arch", ARCHS[3]).stdout

    arguments = ["supernet", "rank", "net", "--table", "table.csv", "--target", "acc", "-n", 12]
    found = json.loads(succeeds(*arguments, "--out", "both.csv", "--json").stdout)
    both = pd.read_csv("both.csv")
    assert both["val_acc"].to_numpy() == pytest.approx(scores["val_acc"].to_numpy())
    assert found["kendall_tau"] == pytest.approx(both["val_acc"].corr(both["acc"], method="kendall"))
    assert found["kendall_tau_top"] is None, "one architecture has no order"
    assert "kendall_tau_top -" in succeeds(*arguments).stdout
    joined = json.loads(succeeds(*arguments, "--proxies", "nwot,synflow,nwot", "--out", "joined.csv", "--json").stdout)
    table = pd.read_csv("joined.csv")
    assert joined["kendall_tau_joined"] == pytest.approx(table["joined"].corr(table["acc"], method="kendall"))

    succeeds("supernet", "subnet", "net", "--arch", ARCHS[3], "--out", "mine")
    assert Path("mine.onnx").exists()
    network, facts = load_network(Path("mine.json"))
    assert facts["metrics"]["val_acc"] == pytest.approx(one["val_acc"])
    assert not network.training


def test_a_network_of_a_mixture_has_the_weights_that_were_scored(workplace: Path, succeeds: Run) -> None:
    """What is left of an architecture once it is simplified may belong to another set of weights."""
    succeeds("supernet", "train", "--space", "nasbench201", *SMALL, "--mixture", 2, "--out", "net")
    mixed = load_supernet(workplace / "net").supernet
    assert isinstance(mixed, MixtureSupernet)
    drawn = SPACE.sample(50, np.random.default_rng(0))
    arch = next(a for a in drawn if mixed.place(a) != mixed.place(SPACE.simplify(a)))
    scored = json.loads(succeeds("supernet", "evaluate", "net", "--arch", SPACE.format(arch), "--json").stdout)
    succeeds("supernet", "subnet", "net", "--arch", SPACE.format(arch), "--out", "mine")
    _, facts = load_network(Path("mine.json"))
    for name in ("val_acc", "val_loss"):
        assert facts["metrics"][name] == pytest.approx(scored[name], rel=1e-5)


def test_a_search_tells_what_it_chose(workplace: Path, succeeds: Run) -> None:
    arguments = ["supernet", "train", "--space", "nasbench201", *SMALL, "--strategy", "proxyless"]
    Path("slow.csv").write_text(
        "edge,operation,latency\n" + "".join(f"{e},{o},{len(o)}\n" for e, ops in SPACE.variables.items() for o in ops)
    )
    said = succeeds(*arguments, "--option", "latency=slow.csv", "--option", "combine=multiply", "--out", "searched")
    last = said.stdout.splitlines()[-1]
    assert last.startswith("proxyless chose |")
    SPACE.parse(last.removeprefix("proxyless chose "))
    again = succeeds("supernet", "train", "--space", "nasbench201", "--resume", "--out", "searched")
    assert again.stdout == said.stdout


def test_a_training_is_not_gone_on_with_as_another(trained: Path, refused: Refused, succeeds: Run) -> None:
    base = ["supernet", "train", *SMALL, "--resume", "--out", "net"]
    assert "net was begun with space = 'nasbench201', now it is 'darts'" in refused(*base, "--space", "darts")
    for option, told in (
        (["--strategy", "uniform"], "strategy = 'fair', now it is 'uniform'"),
        (["--epochs", 500], "epochs = 1, now it is 500"),
        (["--option", "label_smoothing=0.1", "--strategy", "fair"], "options = {}, now it is {'label_smoothing': 0.1}"),
    ):
        assert told in refused(*base, "--space", "nasbench201", *option)
    succeeds(*base, "--space", "nasbench201", "--strategy", "fair")


def test_what_can_not_be_done_is_one_line(trained: Path, refused: Refused) -> None:
    pd.DataFrame({"arch": ARCHS, "acc": [1.0] * 12}).to_csv("flat.csv", index=False)
    Path("short.csv").write_text("edge,operation,ms\n")
    base = ["supernet", "train", "--space", "nasbench201", *SMALL]
    assert "known are: balanced_mixture, darts, fair, multi_arch" in refused(*base, "--strategy", "x", "--out", "b")
    assert "give --mixture 2 or more" in refused(*base, "--strategy", "balanced_mixture", "--out", "b")
    assert "or splits, got both" in refused(*base, "--mixture", 2, "--splits", 1, "--out", "b")
    assert "Darts can not train a supernet that is split; leave --splits out" in refused(
        *base, "--strategy", "darts", "--splits", 1, "--out", "b"
    )
    assert "holds another run" in refused(*base, "--out", "net")
    assert "expected NAME=NUMBER for --network, got 'cells=a'" in refused(*base, "--network", "cells=a", "--out", "b")
    assert "unknown argument of the network 'cell': did you mean 'cells'?" in refused(
        *base, "--network", "cell=1", "--out", "b"
    )
    assert "unknown option of strategy 'fair' 'paths'" in refused(
        *base, "--strategy", "fair", "--option", "paths=2", "--out", "b"
    )
    assert "unknown value of option 'combine' 'sum': known are: add, multiply" in refused(
        *base, "--strategy", "proxyless", "--option", "combine=sum", "--out", "b"
    )
    assert "unknown column of short.csv 'latency'" in refused(
        *base, "--strategy", "proxyless", "--option", "latency=short.csv", "--out", "b"
    )
    assert "expected paths of at least 1, got 0" in refused(*base, "--option", "paths=0", "--out", "b")
    assert "argument channels of the network must be at least 1, got 0" in refused(
        *base, "--network", "channels=0", "--out", "b"
    )
    assert "expected at least 1 epoch and a finite rate above 0, got 1 and inf" in refused(
        *base, "--lr", "inf", "--out", "b"
    )
    assert "holds no run to resume" in refused(*base, "--resume", "--out", "b")
    assert not Path("b").exists()
    assert "either --arch or --archs" in refused("supernet", "evaluate", "net")
    assert "does not exist" in refused("supernet", "evaluate", "nothing", "--arch", ARCHS[0])
    rank = ["supernet", "rank", "net", "--table", "flat.csv", "--target"]
    assert "has the same value, 1, everywhere" in refused(*rank, "acc", "-n", 5)
    assert "has 12 architectures, 100 were asked for" in refused(*rank, "acc")
    assert "o.csv gets a column val_acc of inherited scores; rename that of flat.csv" in refused(
        *rank, "val_acc", "--out", "o.csv"
    )
    assert "unknown metric 'loss'" in refused(*rank, "loss", "-n", 5)
    assert "unknown zero-cost proxy 'nwto': did you mean 'nwot'?" in refused(*rank, "acc", "--proxies", "nwto")
    assert "expected 3 groups" in refused("supernet", "subnet", "net", "--arch", "x", "--out", "mine")


def test_a_request_that_the_data_can_not_serve_is_one_line(refused: Refused) -> None:
    """200 images of digits are 120 to train on."""
    base = ["supernet", "train", "--space", "nasbench201", *SMALL, "--out", "b"]
    assert "expected a batch of 1 to 120 images, all that there are, got 121" in refused(*base, "--batch", 121)
    assert "Darts needs batches of at least 8 images, got 7; give a larger --batch" in refused(
        *base, "--strategy", "darts", "--batch", 7
    )
    assert "unknown precision 'bf61': did you mean 'bf16'" in refused(*base, "--precision", "bf61")
    x, y = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 4
    np.savez("images.npz", x_train=x, y_train=y, x_test=x, y_test=y + 1)
    told = refused("supernet", "train", "--space", "nasbench201", "--data", "images.npz", "--out", "b")
    assert "test part has class '4'" in told
    assert not Path("b").exists()


def test_all_images_may_be_one_batch_in_half_precision(succeeds: Run) -> None:
    options = ["--batch", 120, "--every", 1, "--precision", "bf16", "--channels-last"]
    succeeds("supernet", "train", "--space", "nasbench201", *SMALL, *options, "--out", "net")
    request = json.loads(Path("net/config.json").read_text())["config"]
    assert (request["batch"], request["every"], request["precision"]) == (120, 1, "bf16")
    assert request["channels_last"]
    assert "val_acc" in succeeds("supernet", "evaluate", "net", "--arch", ARCHS[0]).stdout


def test_a_loss_that_is_not_finite_is_one_line_and_the_last_good_state_is_there(run: Run) -> None:
    """The weights overflow by the learning rate, at half of it too."""
    ended = run("supernet", "train", "--space", "nasbench201", *SMALL, "--lr", 1e30, "--every", 1, "--out", "net")
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("archgen: the loss became {'loss': ")
    assert last.endswith("lower the learning rate, the last good state is in net/training.safetensors")
    kept = artifacts.read_tensors(Path("net/training.safetensors"))
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_what_is_of_another_space_is_one_line(trained: Path, succeeds: Run, refused: Refused) -> None:
    darts = spaces.load("darts")
    foreign = darts.format(darts.sample(1, np.random.default_rng(0))[0])
    for command in (["evaluate", "net"], ["subnet", "net", "--out", "mine"]):
        assert "expected 3 groups" in refused("supernet", *command, "--arch", foreign)
    other = make_supernet(darts, cells=3, channels=2, auxiliary=0, in_channels=1, image_size=8, classes=10)
    artifacts.write_tensors(Path("net/model.safetensors"), other.state_dict())
    assert "does not fit the network it should fill" in refused("supernet", "evaluate", "net", "--arch", ARCHS[0])


def test_a_training_of_another_space_is_not_gone_on_with(trained: Path, run: Run) -> None:
    tensors = {f"module.{name}": value for name, value in artifacts.read_tensors(Path("net/model.safetensors")).items()}
    tensors |= {"steps": torch.tensor(3), "scale": torch.tensor(1.0)}
    Path("net/config.json").unlink()
    artifacts.write_tensors(Path("net/training.safetensors"), tensors)
    kept = Path("net/training.safetensors").read_bytes()
    state = Path("net/run.json")
    state.write_text(state.read_text().replace('"channels": 4', '"channels": 8'))
    ended = run("supernet", "train", "--space", "nasbench201", "--resume", "--out", "net")
    assert ended.returncode == 2
    *_, last = ended.stderr.splitlines()
    assert last.startswith("archgen: net/training.safetensors does not fit the network it should fill")
    assert Path("net/training.safetensors").read_bytes() == kept
