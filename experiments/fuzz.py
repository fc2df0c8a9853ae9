"""What broken and hostile input does: mutated spaces, texts, tables, checkpoints, runs; no crash, hang or code run.

    python experiments/fuzz.py [-n 10000] [--seed 0] [--kinds toml architecture table config run result network]

Real files (the spaces' TOML files, architectures of every space, a table as parquet and as CSV, the JSON file of a
checkpoint of each kind, `run.json`, `result.json` and `best.json` of a run) are mutated: bytes flipped, cut, doubled,
moved, replaced by what breaks parsers (huge numbers, NaN, odd unicode, imports), and spliced with each other. Each is
read as a user's would be: of a run by `archgen resume`, up to its first stage (`run`), by it and `archgen report` where
it is finished (`result`), and by `archgen export`, up to its file (`network`). An `ArchgenError` or a result is right;
any other exception is a crash, more than 10 seconds a hang, and an event of Python's audit hook that starts a process,
opens a connection or unpickles is code that ran. Prints each kind's counts and the first of every kind of failure,
whose input is written to runs/fuzz; exit status 1 if there is any.
Writes experiments/results/fuzz.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import typer

from archgen import config, export, plots, spaces
from archgen.artifacts import write_atomic
from archgen.cli.design import resume_command
from archgen.design import DesignRequest, design, pipeline, report
from archgen.design.latency import MeasuredElsewhere
from archgen.design.plan import Costs
from archgen.errors import ArchgenError
from archgen.evaluators import read_labels
from archgen.generators import load_generator
from archgen.inheritance import load_supernet
from archgen.plots import cells
from archgen.predictors import load_predictor

RESULTS = Path(__file__).parent / "results" / "fuzz.csv"
KINDS = ["toml", "architecture", "table", "config", "run", "result", "network"]
HANG = 10
TOKENS = [
    *(b"\x00", b"\xff\xfe", "\u202e\U0001f4a5".encode(), b"'", b'"', b"[[", b"]]", b"{", b"}", b"=", b"\n"),
    *(b"1e999", b"-1", b"0", b"99999999999999999999", b"nan", b"inf", b"null", b"true", b"[]", b"{}"),
    *(b'import = "os:system"', b'import = "subprocess:Popen"', b"../../etc/passwd", b"__class__", b"%s%n", b"a" * 3000),
]
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "pickle.find_class")
ran: list[str] = []


class Hang(BaseException):
    """Raised by the alarm; not an `Exception`, so that nothing swallows it."""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN:
        ran.append(f"{event} {str(arguments)[:80]}")


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One change of a file, or a few."""
    for _ in range(int(rng.geometric(0.6))):
        n = max(len(data), 1)
        i, j = sorted(int(k) for k in rng.integers(n, size=2))
        j = min(j, i + int(rng.integers(1, 200)))
        token = TOKENS[int(rng.integers(len(TOKENS)))]
        match int(rng.integers(8)):
            case 0:
                data = data[:i] + bytes([int(rng.integers(256))]) + data[i + 1 :]
            case 1:
                data = data[:i] + data[j:]
            case 2:
                data = data[:i] + data[i:j] * int(rng.integers(2, 5)) + data[j:]
            case 3:
                data = data[:i] + token + data[i:]
            case 4:
                data = data[:i] + token + data[j:]
            case 5:
                k = int(rng.integers(max(len(other), 1)))
                data = data[:i] + other[k : k + int(rng.integers(1, 300))] + data[j:]
            case 6:
                data = data[:j] + data[i:j][::-1] + data[j:]
            case _:
                data = data[: max(j, 1)] if rng.random() < 0.2 else data[:i] + data[i + 1 :]
    return data


Reader = Callable[[bytes, Path], object]


def kinds() -> dict[str, tuple[list[bytes], Reader]]:
    """For each kind of input real files and how a user's is read."""
    rng = np.random.default_rng(0)
    loaded = {name: spaces.load(name) for name in spaces.available()}
    texts = [(name, space.format(arch)) for name, space in loaded.items() for arch in space.sample(4, rng)]
    space = loaded["nasbench201"]
    frame = pd.DataFrame({"arch": [space.format(a) for a in space.sample(20, rng)], "acc": rng.uniform(80, 90, 20)})

    def toml(data: bytes, folder: Path) -> object:
        (folder / "space.toml").write_bytes(data)
        found = spaces.read(folder / "space.toml")  # `load` would refuse the published name
        return [found.format(arch) for arch in found.sample(2, np.random.default_rng(0))] if found.size < 1e30 else None

    def architecture(data: bytes, folder: Path) -> object:
        text = data.decode("utf-8", errors="replace")
        name, _, rest = text.partition("\x01")
        where = loaded.get(name, space)
        return where.canonical(where.parse(rest))

    def table(data: bytes, folder: Path) -> object:
        suffix = "parquet" if data[:4] == b"PAR1" else "csv"
        (folder / f"table.{suffix}").write_bytes(data)
        return read_labels(space, folder / f"table.{suffix}", ["acc"])

    families = {"generators": "nasbench_graph-discrete_flow", "predictors": "nasbench201-latency_ms"}
    homes = {family: config.checkpoints_dir() / family / name for family, name in families.items()}
    homes["supernets"] = config.checkpoints_dir() / "supernets" / "nasbench201-cifar10-fair"
    weights = {family: (home / "model.safetensors").read_bytes() for family, home in homes.items()}

    def checkpoint(data: bytes, folder: Path) -> object:
        family = next((f for f in families if f[:-1].encode() in data), "supernets")
        (folder / "config.json").write_bytes(data)
        (folder / "model.safetensors").write_bytes(weights[family])
        if family == "generators":
            return load_generator(folder)
        return load_predictor(folder, space) if family == "predictors" else load_supernet(folder, "digits")

    finished = run_folder(space)

    def run(data: bytes, folder: Path) -> object:
        (folder / "run.json").write_bytes(data)
        with contextlib.suppress(typer.Exit):  # as after Ctrl-C: it got to the first stage
            resume(folder)
        return None

    def result(data: bytes, folder: Path) -> object:
        for file in ("run.json", "trials.parquet"):
            shutil.copy(finished / file, folder)
        (folder / "result.json").write_bytes(data)
        resume(folder)
        return report(folder)

    def network(data: bytes, folder: Path) -> object:
        shutil.copy(finished / "best.safetensors", folder)
        (folder / "best.json").write_bytes(data)
        return export.load_network(folder / "best.json", export.network_space(folder / "best.json"))

    with tempfile.TemporaryDirectory() as name:
        frame.to_parquet(Path(name) / "t.parquet")
        tables = [(Path(name) / "t.parquet").read_bytes(), frame.to_csv(index=False).encode()]
    return {
        "toml": ([path.read_bytes() for path in sorted(config.spaces_dir().glob("*.toml"))], toml),
        "architecture": ([f"{name}\x01{text}".encode() for name, text in texts], architecture),
        "table": (tables, table),
        "config": ([(home / "config.json").read_bytes() for home in homes.values()], checkpoint),
        **{
            kind: ([(finished / f"{file}.json").read_bytes()], read)
            for kind, file, read in (("run", "run", run), ("result", "result", result), ("network", "best", network))
        },
    }


def run_folder(space: spaces.SearchSpace) -> Path:
    """A finished run of a minute at most; what takes time and reads nothing of a run is left out afterwards."""
    folder, network = Path(tempfile.mkdtemp(prefix="archgen-")), {"cells": 1, "channels": 4}
    archs = [space.simplify(arch) for arch in space.sample(30, np.random.default_rng(0))]
    images = {**network, "image_size": 8, "in_channels": 1, "classes": 10}
    rows = [{"arch": space.format(a), "latency_ms": 1e-6 * space.count(a, **images)["flops"] + 0.1} for a in archs]
    pd.DataFrame(rows).to_csv(folder / "phone.csv", index=False)
    request = DesignRequest(
        *("digits", space.name, {"latency_ms": 1.0}),
        **{"budget": 6, "epochs": 2, "finetune_epochs": 1, "finalists": 2, "limit": 200, "strategy": "random"},
        network=network,
        latency=str(folder / "phone.csv"),
    )
    design(request, folder / "run", command="archgen design")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def known(source: MeasuredElsewhere, *_: object) -> None:
        source.facts = {}

    pipeline.Design.predictors = interrupted
    pipeline.probe = lambda *_: Costs(0.1, 0.0, 0.01, 0.1, 0.1)
    MeasuredElsewhere.fit = known
    plots.to_svg = lambda _: "<svg></svg>"
    cells.layered = cache(cells.layered)
    return folder / "run"


def resume(folder: Path) -> None:
    """`archgen resume`, what it prints included."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        resume_command(folder)


def alarm(number: int, frame: FrameType | None) -> None:
    raise Hang


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10_000, help="inputs a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, alarm)
    sys.addaudithook(watch)
    rows = []
    for kind, (seeds, read) in kinds().items():
        if kind not in args.kinds:
            continue
        rng, counts, seen, start = np.random.default_rng(args.seed), Counter[str](), set(), time.perf_counter()
        for i in range(args.n):
            data, other = (seeds[int(k)] for k in rng.integers(len(seeds), size=2))
            data = mutated(data, other, rng)
            ran.clear()
            outcome, detail = attempt(read, data)
            counts[outcome] += 1
            if outcome not in ("read", "refused") and detail not in seen:
                seen.add(detail)
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{kind}-{i}").write_bytes(data)
                print(f"{kind} {i}: {outcome}: {detail}", flush=True)
        seconds = time.perf_counter() - start
        rows.append({"kind": kind, "inputs": args.n, **{o: counts[o] for o in OUTCOMES}, "seconds": round(seconds)})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    if RESULTS.exists():  # kinds that were not asked for stay as they are
        before = pd.read_csv(RESULTS)
        table = pd.concat([before[~before["kind"].isin(table["kind"])], table])
        table = table.sort_values("kind", key=lambda kinds: kinds.map(KINDS.index))
    write_atomic(RESULTS, lambda path: table.to_csv(path, index=False))
    sys.exit(int(pd.DataFrame(rows)[["crashed", "hung", "ran code"]].to_numpy().any()))


OUTCOMES = ("read", "refused", "crashed", "hung", "ran code")


def attempt(read: Reader, data: bytes) -> tuple[str, str]:
    """What became of one input, and where it failed."""
    with tempfile.TemporaryDirectory() as folder:
        signal.alarm(HANG)
        try:
            read(data, Path(folder))
            outcome, detail = "read", ""
        except ArchgenError:
            outcome, detail = "refused", ""
        except Hang:
            outcome, detail = "hung", traceback.format_exc(limit=-1).splitlines()[1].strip()
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            outcome, detail = "crashed", f"{type(error).__name__} at {where}: {error}"[:200]
        finally:
            signal.alarm(0)
    return ("ran code", ran[0]) if ran else (outcome, detail)


if __name__ == "__main__":
    main()
