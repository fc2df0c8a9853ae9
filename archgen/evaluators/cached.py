"""A wrapper that never pays twice: measurements are kept in memory and, if wanted, in a parquet file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from archgen.artifacts import write_atomic
from archgen.errors import ArchgenError, InvalidTable
from archgen.evaluators.base import Evaluator, Measurement, Results, Wrapper, in_order
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.tables import read_table

Key = tuple[str, int]
"""The string of an architecture and the seed of its evaluation."""


class Cached(Wrapper):
    """Looks an architecture up before it is evaluated; only successes are kept, a failure is tried again.

    The file is a table with `arch`, `seed`, a column a metric and `cost_seconds`: what `TabularEvaluator` reads. A new
    measurement is added under a lock: the file as it is then is read, and the longer one renamed over it. So several
    processes may share it, and a kill at any moment leaves the old file or the new one.

    Args:
        evaluator: Measures what is not known yet.
        space: Writes and reads architectures.
        path: The file, `.parquet`; None keeps the measurements in memory only.
        measured_by: What measures, in words; the file remembers them and serves no evaluator that says others. Without
            them the file can not tell: give each evaluator its own.

    Raises:
        InvalidTable: The file can not be read, is of another space or evaluator, or has other metrics.
    """

    def __init__(
        self, evaluator: Evaluator, space: SearchSpace, path: Path | None = None, measured_by: str | None = None
    ) -> None:
        super().__init__(evaluator)
        self.space, self.path, self.measured_by = space, path, measured_by
        if path is not None and path.suffix != ".parquet":
            raise InvalidTable(f"{path} does not end in .parquet; name the cache so")
        self._known = self._read()

    @property
    def known(self) -> dict[Key, Measurement]:
        """What was measured before, and need not be paid for."""
        return dict(self._known)

    def stream(self, archs: Iterable[Architecture], *, seed: int) -> Results:
        if self.path is not None and self.path.exists():
            self._known |= self._read()  # another process may have been here
        source = enumerate(archs)
        known: list[tuple[int, Measurement]] = []
        over = False

        def unknown(missing: list[tuple[int, Key]]) -> Iterator[Architecture]:
            nonlocal over
            for i, arch in source:
                key = self.space.format(arch), seed
                if key not in self._known:
                    missing.append((i, key))
                    yield arch
                    continue
                known.append((i, self._known[key]))
                if len(known) >= self.workers:  # they are given before more is taken: the next may hang on them
                    return
            over = True

        while not over:
            missing: list[tuple[int, Key]] = []
            for j, measured in self.evaluator.stream(unknown(missing), seed=seed):
                i, key = missing[j]
                if measured.error is None:
                    self._keep(key, measured)
                yield i, measured
            yield from known
            known.clear()

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return in_order(self.stream(archs, seed=seed))

    def _keep(self, key: Key, measured: Measurement) -> None:
        self._known[key] = measured
        if self.path is None:
            return
        with _locked(self.path):
            self._known |= self._read()
            rows = [
                {"arch": arch, "seed": seed, **{m: known.values.get(m, math.nan) for m in self.metrics}}
                | {"cost_seconds": known.cost_seconds}
                for (arch, seed), known in self._known.items()
            ]
            frame = pd.DataFrame(rows)
            frame.attrs["measured_by"] = self.measured_by  # pandas keeps it in the file's metadata
            write_atomic(self.path, lambda beside: frame.to_parquet(beside, index=False))

    def _read(self) -> dict[Key, Measurement]:
        if self.path is None or not self.path.exists():
            return {}
        frame = read_table(self.path, expected="a cache of measurements", mend="remove it or name another")
        theirs = frame.attrs.get("measured_by")
        if self.measured_by is not None and theirs is not None and theirs != self.measured_by:
            raise InvalidTable(f"{self.path} was measured by {theirs}, asked for {self.measured_by}; name another file")
        expected = ["arch", "seed", *self.metrics, "cost_seconds"]
        if list(frame.columns) != expected:
            raise InvalidTable(
                f"{self.path} has the columns {', '.join(map(str, frame.columns))[:200]}, expected "
                f"{', '.join(expected)[:200]}: it belongs to another evaluator; name another file"
            )
        known: dict[Key, Measurement] = {}
        for arch, seed, *values, cost in frame.itertuples(index=False, name=None):
            finite = {m: float(v) for m, v in zip(self.metrics, values, strict=True) if math.isfinite(v)}
            known[arch, int(seed)] = Measurement(finite, float(cost))
        self._check(known)
        return known

    def _check(self, known: dict[Key, Measurement]) -> None:
        for arch, _ in known:
            try:
                self.space.parse(arch)
            except ArchgenError as error:
                raise InvalidTable(f"{self.path} is of another space than {self.space.name}: {error}") from None
            return  # whoever wrote the first row wrote all of them


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside a file; the system opens it when the process ends, however it ends."""
    import fcntl  # POSIX has it; elsewhere all but a cache on disk works

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
