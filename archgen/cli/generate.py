"""`archgen generate`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from archgen.cli.application import app
from archgen.cli.options import (
    AtLeast,
    AtMost,
    Json,
    Maximize,
    Minimize,
    Seed,
    SpaceName,
    assignments,
    wishes,
    writable,
)
from archgen.cli.terminal import say, show
from archgen.errors import InvalidObjective

if TYPE_CHECKING:
    from archgen.rewards import TradeOff


@app.command()
def generate(
    space: SpaceName,
    n: Annotated[int, typer.Option("-n", "--number", help="How many architectures.")] = 10,
    maximize: Maximize = None,
    minimize: Minimize = None,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    condition: Annotated[
        list[str] | None, typer.Option("--condition", metavar="METRIC=VALUE", help="Property to have; repeat.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Probability with which bounds hold, by the predictor's interval.")
    ] = None,
    generator: Annotated[
        str, typer.Option(help="Name of the generator, or the folder of one of your own.")
    ] = "discrete_flow",
    guidance: Annotated[
        list[str] | None, typer.Option(help="How wishes steer: classifier_free, importance, particles, noised; repeat.")
    ] = None,
    strength: Annotated[float, typer.Option(min=0.0, help="How hard directions pull, per standard deviation.")] = 4.0,
    trade_off: Annotated[
        str, typer.Option(help="How several directions are joined: sum, weights, hypervolume.")
    ] = "weights",
    steps: Annotated[int | None, typer.Option(help="Solver steps; the generator's own choice without.")] = None,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Draw freely, keep duplicates.")] = False,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Parquet or CSV file to write; prints a table without.")] = None,
    as_json: Json = False,
) -> None:
    """Draw architectures from the trained generator, guided by the predictors of the checkpoints."""
    from archgen.sampler import GuidedSampler
    from archgen.threads import single_threaded

    if not math.isfinite(strength):
        raise InvalidObjective(f"expected a finite --strength of at least 0, got {strength}")
    objectives = wishes(maximize, minimize, at_most, at_least)
    asked = assignments(condition, "--condition")
    writable(out)
    sampler = GuidedSampler.from_pretrained(space, generator=generator)
    sampler.strength = strength
    with single_threaded():
        samples = sampler.sample(
            n,
            objectives,
            condition=asked,
            guidance=guidance or "auto",
            steps=steps,
            seed=seed,
            unique=not duplicates,
            confidence=confidence,
            trade_off=cast("TradeOff", trade_off),  # the sampler checks it
        )
    if out is not None:
        samples.save(out)
    frame = samples.to_frame()
    if as_json:
        show(json.dumps({"samples": frame.to_dict("records"), "diagnostics": samples.diagnostics}))
        return
    if out is None:
        show(frame.to_string(index=False))
    facts = ", ".join(f"{key} {value:.4g}" for key, value in samples.diagnostics.items())
    say(f"{len(samples)} architectures{f' in {out}' if out else ''} ({facts})")
