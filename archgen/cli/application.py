"""The `archgen` command's root. Heavy imports live inside the commands, so that `--help` is quick."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Designs neural networks to order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train_app = typer.Typer(help="Train what the checkpoints hold.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")
latency_app = typer.Typer(help="Latency on real devices.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(latency_app, name="latency")
predictor_app = typer.Typer(help="Predictors from labels.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(predictor_app, name="predictor")
data_app = typer.Typer(help="Published benchmarks.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
supernet_app = typer.Typer(help="Inherited weights.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(supernet_app, name="supernet")
