"""`archgen design`: a new run, or an earlier one gone on with."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from archgen import artifacts, spaces
from archgen.data import ImageData, load_data
from archgen.design.inputs import SPACE, absolute, check_digests, digests, keep_space, space_of, versions
from archgen.design.latency import MeasuredElsewhere
from archgen.design.metrics import MEMORIES, check_metrics
from archgen.design.pipeline import STUDY, SUPERNET, Design, network_of, strategy_name
from archgen.design.reporting import LATENCIES, RESULT, damaged
from archgen.design.request import DesignRequest
from archgen.errors import Infeasible, InvalidOption, RunConflict
from archgen.evaluators import Cluster
from archgen.hardware import RUNTIMES
from archgen.progress import Progress
from archgen.run_folder import RUN, RunFolder
from archgen.strategies import STRATEGIES, pretrained_parts
from archgen.study.storage import check_length

MOST_PARAMS = 1e9
"""Of a network: what is trained takes sixteen bytes for each."""


def design(
    request: DesignRequest | None,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
    processes: int = 1,
    command: str | None = None,
) -> dict[str, Any]:
    """Run, or go on with, the whole pipeline.

    Args:
        request: What to design; ignored (read from the folder) when resuming, where it may be None.
        out: The run folder; new or empty, or that of the run to resume.
        resume: Whether to go on with the run in `out`.
        progress: Shows how far it is.
        cluster: Where the architectures of the search are evaluated; None: here. A batch of the
            search is then at least as large as there are places.
        processes: In which networks are exported, evaluated by a long search, and fine-tuned where there are several,
            at the same time; this process's torch threads are shared out to them. With more than one, a script must do
            its work under `if __name__ == "__main__"`.
        command: The command line that a new run keeps in its `run.json`, to be repeated by.

    Returns:
        The result as JSON types, as `archgen design --json` prints it.

    Raises:
        InvalidOption: Fewer than one process.
        ArchgenError: Bad data, an unknown name, a bound that nothing can meet, a folder with another run, a cluster
            without a place for an evaluation.
    """
    since = time.monotonic()
    if processes < 1:
        raise InvalidOption(f"expected at least 1 process, got {processes}")
    progress = progress or Progress()
    if not resume:
        assert request is not None
        check_length(out / STUDY)
        data = load(request)
        _check(request, data, cluster)
        request = absolute(request)
        begun = {"command": command, "versions": versions(), "digests": digests(request, data)}
        run = RunFolder.create(out, asdict(request), **begun)
        with run.locked():
            try:
                keep_space(run)
                return Design(run, request, data, progress, cluster, processes, since).run()
            except Infeasible:
                if not run.file(SUPERNET).exists():  # asked for too much: the same command with another bound must work
                    _take_back(run)
                raise
    run = RunFolder.open(out)
    try:
        request = DesignRequest(**run.state["request"])
        request = replace(request, space=space_of(run))
    except InvalidOption as error:
        raise RunConflict(f"{run.file(RUN)} is damaged: {error}; start a new run") from None
    except TypeError as error:
        raise RunConflict(f"{out} was made by another version of archgen ({error}); start a new run") from None
    if run.file(RESULT).exists():
        result = artifacts.read_json(run.file(RESULT))
        if not isinstance(result, dict) or "winner" not in result:
            raise damaged(out, "no winner in it")
        return result
    data = load(request)
    _check(request, data, cluster)
    check_digests(run, request, data)
    with run.locked():
        return Design(run, request, data, progress, cluster, processes, since).run()


def _take_back(run: RunFolder) -> None:
    """Remove what a run wrote before its training, and the folder where that was not there before and is empty now."""
    for name in (LATENCIES, MEMORIES, RUN):
        run.file(name).unlink(missing_ok=True)
    shutil.rmtree(run.file(SPACE), ignore_errors=True)
    if run.own:
        with suppress(OSError):
            run.path.rmdir()


def load(request: DesignRequest) -> ImageData:
    """The images of a request."""
    return load_data(request.data, seed=request.seed, resize=request.resize, limit=request.limit)


def _check(request: DesignRequest, data: ImageData, cluster: Cluster | None) -> None:
    """What is wrong, absent or damaged must not leave a folder behind, nor show after the training only."""
    space = spaces.for_images(request.space, data.image_size)
    arguments = network_of(request, space, data)
    drawn = space.sample(20, np.random.default_rng(request.seed))
    params = max(space.count(arch, **arguments)["params"] for arch in [*drawn, *(space.extremes or ())])
    if params > MOST_PARAMS:
        raise InvalidOption(
            f"a network has {params:.3g} parameters, expected at most {MOST_PARAMS:.0e}: lower --network"
        )
    space.build(drawn[0], **arguments)
    check_metrics(space, request, arguments)
    example = space.example_input(1, **arguments)
    RUNTIMES[request.runtime](example, threads=request.threads, processor=request.processor)
    kind = STRATEGIES[strategy_name(request, space)]
    kind(space, request.directions, **pretrained_parts(kind, space, generator=request.generator))
    if request.latency is not None:
        MeasuredElsewhere(space, Path(request.latency), request.seed)
    if cluster is not None:
        cluster.slots()
