"""archgen's search strategies as an Optuna sampler: a study that exists changes one line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from archgen.errors import Infeasible, InvalidArchitecture, InvalidObjective, InvalidSpace, UnknownName
from archgen.graph import Architecture
from archgen.objectives import Objective, maximize, minimize
from archgen.spaces import SearchSpace
from archgen.strategies import STRATEGIES, SearchStrategy, pretrained_parts
from archgen.strategies.base import Screen
from archgen.study import COMPLETE, FAILED, Trial

CLAIM = "archgen:choices"
"""System attribute of a trial: what is proposed for it, written before it is handed out."""

Known = tuple[FrozenTrial, dict[str, int] | None]
"""A trial and the choices of its architecture, as far as they are known."""


def suggest(trial: BaseTrial, space: SearchSpace) -> Architecture:
    """The architecture of a trial: each variable of the space asked for by `suggest_categorical`.

    Works with every Optuna sampler. One that knows nothing of the space may give settings that are no architecture
    where the space has constraints; `GenerativeSampler` never does.

    Raises:
        InvalidArchitecture: The settings are no architecture of the space.
    """
    asked = {name: trial.suggest_categorical(name, options) for name, options in space.variables.items()}
    return space.from_choices({name: options.index(asked[name]) for name, options in space.variables.items()})


class GenerativeSampler(BaseSampler):
    """Proposes the architectures of a search strategy to an Optuna study.

    The strategy is told every finished trial of the study, failed and pruned ones as failed, in whatever storage they
    are and whichever sampler proposed them. Trials that run or are queued count as pending: they are not proposed
    again, and until they are finished each metric has the mean of what was measured (the constant liar of Ginsbourger,
    Le Riche and Carraro, "Kriging is well-suited to parallelize optimization", 2010, section 4.2, with the mean as the
    lie), so that other processes look elsewhere. What is proposed is written to the storage first and then compared
    with all others; on any conflict both sides propose again, so no two processes ever evaluate the same architecture
    at the same time. Trials of processes that were killed are pending until Optuna's heartbeat marks them.

    The directions are those of the study, by its metric names where it has any, else `value` (`value_0`, `value_1`
    ... where there are several and the strategy can take them). A bound is on a number that the objective writes by
    `trial.set_user_attr`. Parameters that were enqueued or that another sampler fixed are respected.

    Args:
        space: The search space: the study's parameters are its variables, by name and options.
        strategy: Name of a registered strategy, or a class.
        bounds: `at_most` and `at_least` on user attributes, or on the objective itself.
        seed: The same seed gives the same proposals where trials run one after the other.
        screen: Which architectures may be proposed; all by default.
        independent_sampler: For parameters that are not of the space; without one they are an error.
        **arguments: Of the strategy. The space's committed `generator` and `free_labels` where none are given.

    Raises:
        UnknownName: No such strategy.
        InvalidObjective: Something else than a bound in `bounds`, or several directions that the strategy can not
            take (when the first trial asks).
        InvalidSpace: A parameter of the study is not a variable of the space, or has other options (when asked for).
        Infeasible: Every architecture that may be proposed was evaluated or is running (when asked for).

    Example:
        >>> import optuna
        >>> from archgen import at_most, load_space
        >>> from archgen.integrations.optuna import GenerativeSampler, suggest
        >>> space = load_space("nasbench201")
        >>> def objective(trial):
        ...     counts = space.count(suggest(trial, space))
        ...     trial.set_user_attr("params", counts["params"])
        ...     return counts["flops"]
        >>> sampler = GenerativeSampler(space, bounds=[at_most("params", 5e5)], seed=0)
        >>> study = optuna.create_study(direction="maximize", sampler=sampler)
        >>> study.optimize(objective, n_trials=20)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        strategy: str | type[SearchStrategy] = "generative",
        bounds: Sequence[Objective] = (),
        seed: int = 0,
        screen: Screen | None = None,
        independent_sampler: BaseSampler | None = None,
        **arguments: Any,
    ) -> None:
        for wish in bounds:
            if not wish.is_bound:
                raise InvalidObjective(f"expected bounds only, the directions are the study's; got {wish!r}")
        self.space, self.bounds, self.seed, self.screen = space, list(bounds), seed, screen
        self._kind: type[SearchStrategy] = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
        self._independent = independent_sampler
        arguments |= pretrained_parts(self._kind, space, arguments)
        self._arguments = arguments

    # -- what Optuna calls ----------------------------------------------------------------------------------------

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: each parameter is looked up when it is asked for, which shows what the study really asks for."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, see `infer_relative_search_space`."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a variable in the architecture that is proposed for the trial."""
        if param_name not in self.space.variables and self._independent is not None:
            return self._independent.sample_independent(study, trial, param_name, param_distribution)
        options = self._check(param_name, param_distribution)
        choices = trial.system_attrs.get(CLAIM) or self._propose(study, trial)
        return options[choices[param_name]]

    def reseed_rng(self) -> None:
        """Threads need no other seeds: what is pending in the storage keeps them apart."""
        if self._independent is not None:
            self._independent.reseed_rng()

    # -- proposing --------------------------------------------------------------------------------------------------

    def _check(self, name: str, distribution: BaseDistribution) -> tuple[str, ...]:
        if name not in self.space.variables:
            unknown = UnknownName(f"variable of {self.space.name}", name, self.space.variables)
            raise InvalidSpace(f"{unknown}; give an independent_sampler for parameters that are not of the space")
        options = self.space.variables[name]
        found = distribution.choices if isinstance(distribution, CategoricalDistribution) else distribution
        if not isinstance(found, tuple) or set(found) != set(options):
            raise InvalidSpace(
                f"parameter '{name}' has {str(found)[:80]}, expected the options of {self.space.name}, {options}: "
                "ask for it by suggest_categorical with these, or use suggest(trial, space)"
            )
        return options

    def _propose(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, int]:
        """Choose an architecture and claim it for the trial."""
        fixed = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        for attempt in itertools.count():
            strategy = self._strategy(study, fixed)
            known = self._others(study, trial)
            strategy.tell(self._told(study, known))
            asked = strategy.ask(attempt + 1)
            if not asked:
                self._claim(study, trial, None)
                within = f" with {fixed}" if fixed else ""
                raise Infeasible(
                    f"every architecture of {self.space.name}{within} that may be proposed was evaluated or is "
                    "running; stop the study, or widen the space or the screen"
                )
            # after a conflict the trials' numbers take the sides to different places of the same batch
            arch = asked[trial.number % (attempt + 1) % len(asked)]
            choices = self.space.to_choices(arch)
            self._claim(study, trial, choices)
            told = {other.number for other, found in known if found == choices}  # the strategy knew and chose it again
            if {other.number for other, found in self._others(study, trial) if found == choices} <= told:
                return choices
            self._claim(study, trial, None)
        raise AssertionError("counting does not end")

    def _claim(self, study: optuna.Study, trial: FrozenTrial, choices: dict[str, int] | None) -> None:
        # the storage is not public, but where Optuna's own samplers keep what belongs to a trial
        study._storage.set_trial_system_attr(trial._trial_id, CLAIM, choices)

    def _strategy(self, study: optuna.Study, fixed: Mapping[str, Any]) -> SearchStrategy:
        pinned = {n: options.index(fixed[n]) for n, options in self.space.variables.items() if fixed.get(n) in options}

        def screen(archs: Sequence[Architecture]) -> Sequence[bool]:
            allowed = [True] * len(archs) if self.screen is None else self.screen(archs)
            if not pinned:
                return allowed
            choices = [self.space.to_choices(arch) for arch in archs]
            agree = [all(chosen[name] == value for name, value in pinned.items()) for chosen in choices]
            return [a and b for a, b in zip(allowed, agree, strict=True)]

        wishes = [*_directions(study), *self.bounds]
        restricted = None if self.screen is None and not pinned else screen
        return self._kind(self.space, wishes, seed=self.seed, screen=restricted, **self._arguments)

    # -- what is known ------------------------------------------------------------------------------------------------

    def _others(self, study: optuna.Study, trial: FrozenTrial) -> list[Known]:
        """All other trials in the order of their numbers, with their choices as far as they are known."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        return [(other, self._choices(other)) for other in others]

    def _choices(self, trial: FrozenTrial) -> dict[str, int] | None:
        """The architecture's choices, from the parameters, or the queue, or what was claimed; None if there are none.

        Raises:
            InvalidSpace: A finished trial with a value whose parameters are not the space's.
        """
        values: dict[str, Any] = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        choices: dict[str, int] | None
        if all(values.get(name) in options for name, options in self.space.variables.items()):
            choices = {name: options.index(values[name]) for name, options in self.space.variables.items()}
        elif trial.state == TrialState.COMPLETE:
            odd = next(name for name, options in self.space.variables.items() if values.get(name) not in options)
            raise InvalidSpace(
                f"trial {trial.number} of the study has no variable '{odd}' of {self.space.name}, or another value; "
                "use another study for this space"
            )
        else:
            choices = trial.system_attrs.get(CLAIM)
        try:
            return choices and self.space.to_choices(self.space.from_choices(choices))
        except InvalidArchitecture:  # of a sampler that knows nothing of the space's constraints
            return None

    def _told(self, study: optuna.Study, others: Sequence[Known]) -> list[Trial]:
        """What the strategy is told: finished trials, then pending ones with a lie."""
        objectives = _directions(study)
        finished: list[Trial] = []
        pending: list[Architecture] = []
        for other, choices in others:
            if choices is None:
                continue
            arch = self.space.from_choices(choices)
            if not other.state.is_finished():
                pending.append(arch)
                continue
            values = _values(other, objectives, self.bounds)
            state = COMPLETE if values else FAILED
            finished.append(Trial(len(finished), arch, values, _seconds(other), state))
        measured = [told.values for told in finished if told.state == COMPLETE]
        metrics = dict.fromkeys(metric for values in measured for metric in values)
        lie = {metric: float(np.mean([v[metric] for v in measured if metric in v])) for metric in metrics}
        state = COMPLETE if lie else FAILED  # before anything is measured it only counts as seen
        return finished + [Trial(len(finished) + i, arch, dict(lie), 0.0, state) for i, arch in enumerate(pending)]


def _directions(study: optuna.Study) -> list[Objective]:
    count = len(study.directions)
    names = study.metric_names or (["value"] if count == 1 else [f"value_{i}" for i in range(count)])
    wishes = zip(names, study.directions, strict=True)
    return [(maximize if sense == StudyDirection.MAXIMIZE else minimize)(name) for name, sense in wishes]


def _values(trial: FrozenTrial, objectives: Sequence[Objective], bounds: Sequence[Objective]) -> dict[str, float]:
    """Objectives and bounded metrics; empty unless the trial is complete with finite objectives."""
    if trial.state != TrialState.COMPLETE or not all(map(math.isfinite, trial.values)):
        return {}
    bounded = {wish.metric: trial.user_attrs.get(wish.metric) for wish in bounds}
    known = {metric: float(value) for metric, value in bounded.items() if isinstance(value, int | float)}
    return known | {wish.metric: value for wish, value in zip(objectives, trial.values, strict=True)}


def _seconds(trial: FrozenTrial) -> float:
    return trial.duration.total_seconds() if trial.duration is not None else 0.0
