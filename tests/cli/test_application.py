"""The command itself: help is quick, and one line with exit status 2 for whatever a user can mend."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
COMMANDS = [
    *("spaces", "generate", "search", "design", "export", "proxies", "prune"),
    *("train generator", "train predictor", "train free-labels", "predictor fit", "predictor evaluate"),
    *(f"latency {name}" for name in ("measure", "devices", "fit", "evaluate", "suggest")),
]


def test_help_is_quick_because_it_imports_nothing_heavy(process: Callable[..., subprocess.Popen[str]]) -> None:
    code = (
        "import sys; sys.argv = ['archgen', *sys.argv[1:]]\n"
        "from archgen.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'optuna', 'botorch', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "print('ended', code, sorted(heavy))"
    )
    out, err = process("-c", code, "--help").communicate()
    assert out.splitlines()[-1] == "ended 0 []"
    for command in (
        "spaces",
        "generate",
        "search",
        "design",
        "export",
        "train",
        "latency",
        "predictor",
        "proxies",
        "prune",
    ):
        assert f"  {command} " in out
    assert err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command: str, succeeds: Run) -> None:
    outcome = succeeds(*command.split(), "--help")
    assert outcome.stdout.startswith("Usage: archgen")
    assert outcome.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["train"], ["latency"], ["predictor"]])
def test_without_a_command_the_help_comes_in_lines(arguments: list[str], run: Run) -> None:
    outcome = run(*arguments)
    assert outcome.returncode == 2
    assert "Commands:" in outcome.stderr.splitlines()


def test_what_the_command_line_itself_refuses_is_one_line_too(refused: Refused) -> None:
    assert "No such command 'desing'" in refused("desing")
    assert "No such option: --spaec" in refused("generate", "--spaec", "nasbench201")
    assert "Missing option '--space'" in refused("generate")


def test_a_real_process_ends_with_status_2_and_one_line(process: Callable[..., subprocess.Popen[str]]) -> None:
    running = process("-m", "archgen", "desing")
    out, err = running.communicate()
    assert (running.returncode, out) == (2, "")
    assert err.startswith("archgen: No such command 'desing'")
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "archgen", "--help"],
        ["-c", "from archgen import cli; cli.app = lambda **_: print('buffered until the end'); cli.main()"],
    ],
    ids=["help", "result"],
)
def test_standard_output_that_takes_nothing_is_one_line(
    arguments: list[str], process: Callable[..., subprocess.Popen[str]]
) -> None:
    with Path("/dev/full").open("w") as full:
        running = process(*arguments, stdout=full)
        _, err = running.communicate()
    assert running.returncode == 2
    assert err.splitlines() == [
        "archgen: No space left on device; free space or check the path, nothing was overwritten"
    ]


def test_a_reader_that_has_seen_enough_is_no_error(process: Callable[..., subprocess.Popen[str]]) -> None:
    read, write = os.pipe()
    os.close(read)
    running = process("-m", "archgen", "--help", stdout=write)
    os.close(write)
    _, err = running.communicate()
    assert (running.returncode, err) == (1, "")
