"""`archgen latency blocks`: measuring every block of a chain, for a table whose sums predict latency."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archgen.cli.application import latency_app
from archgen.cli.options import Json, Seed, SpaceName, numbers, writable
from archgen.cli.terminal import INTERRUPTED, Terminal, say, show
from archgen.errors import InvalidTable

if TYPE_CHECKING:
    from archgen.predictors import BlockTable
    from archgen.spaces import SearchSpace


@latency_app.command("blocks")
def blocks_command(
    space: SpaceName,
    out: Annotated[Path, typer.Option(help="Measurements, as parquet; a file of earlier ones is added to.")],
    runtime: Annotated[str, typer.Option(help="`onnxruntime`, `torch` or `torch_compile`.")] = "onnxruntime",
    processor: Annotated[str, typer.Option("--device", help="`cpu` or `cuda`.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads a block runs on.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Inputs a run.")] = 1,
    rounds: Annotated[int, typer.Option(min=5, max=10_000, help="Times each block is timed.")] = 30,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure every block of a chain of blocks on this machine; their sum is a network's latency.

    `archgen latency fit --blocks` makes a predictor of them.
    """
    from torch import get_num_threads

    from archgen import spaces
    from archgen.hardware import RUNTIMES, block_file, measure_blocks
    from archgen.spaces.chain_blocks import CALL, ChainBlocks

    loaded, kind = spaces.load(space), RUNTIMES[runtime]
    writable(out)
    file = block_file(out, loaded.name)
    settings: dict[str, Any] = {"threads": threads, "batch": batch, "rounds": rounds, "processor": processor}
    meter = kind(loaded.example_input(1), processes=get_num_threads(), **settings)
    blocks, device = ChainBlocks(loaded).all(), meter.device

    def known() -> int:
        return len(file.measured(device.id).keys() & blocks.keys())

    say(f"{loaded.name} has {len(blocks)} different blocks, of which {known()} are measured on device {device.id}")
    try:
        done = measure_blocks(meter, blocks, file, seed=seed, progress=Terminal())
    except KeyboardInterrupt:
        say(f"interrupted; {out} holds {known()} of {len(blocks)} blocks; go on with the same command")
        raise typer.Exit(INTERRUPTED) from None
    if done.unsteady:
        what = f"the machine was unsteady in {done.unsteady} batches (drift {done.drift:.0%})"
        say(f"{what}: measure anew, into another file, when it has less to do")
    if as_json:
        facts = {"out": str(out), "device": {"id": device.id, **device.to_json()}, "blocks": len(blocks)}
        show(json.dumps({**facts, **asdict(done)}))
        return
    call = file.measured(device.id)[CALL].latency_ms if CALL in file.measured(device.id) else 0.0
    left = f", {len(done.refused)} refused" if done.refused else ""
    show(
        f"{done.measured} measured{left}; {known()} of {len(blocks)} blocks in {out}, on device {device.id}; "
        f"calling the runtime takes {call:.4f} ms, which is left out of each"
    )


def block_table(
    space: SearchSpace, path: Path, metric: str, device: str | None, network: list[str] | None
) -> BlockTable:
    """The predictor of a table of blocks: a file of `archgen latency blocks`, or a published one.

    Raises:
        InvalidTable: Neither, or a file of several devices of which none is named.
        RunConflict: The file is of the blocks of another space.
        UnknownName: The file has no such device.
    """
    from archgen.errors import UnknownName
    from archgen.hardware import block_file, block_latencies
    from archgen.predictors import BlockTable, read_published

    arguments = numbers(network, "--network")
    if not path.with_suffix(".devices.json").exists():
        return BlockTable(space, metric, read_published(space, path, arguments), arguments)
    file = block_file(path, space.name)
    if device is not None and device not in file.devices:
        raise UnknownName("device", device, file.devices)
    if device is None and len(file.devices) != 1:
        known = ", ".join(file.devices)
        raise InvalidTable(f"{path} holds blocks of {len(file.devices)} devices ({known}); name one by --device")
    return BlockTable(space, metric, block_latencies(file, device or next(iter(file.devices))), arguments)


def save_sums(predictor: BlockTable, table: Path, out: Path) -> str:
    """Write the checkpoint of plain sums, which no measured network corrects; what was done, in a line."""
    from archgen.predictors import save_predictor

    card = f"""# {predictor.metric} of {predictor.space.name}

- **What**: predicts `{predictor.metric}` (latency) for `archgen generate` and `GuidedSampler`, as the sum of blocks.
- **Data**: the {len(predictor.latencies)} blocks of {table.name}; no measured network.
- **Figures**: how far a sum is off is not known.
"""
    save_predictor(predictor, "block_table", out, card)
    return f"{out}: {predictor.metric} as sums of {len(predictor.latencies)} blocks, corrected by no measured network"
