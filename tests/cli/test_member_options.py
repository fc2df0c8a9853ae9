"""Options of members are read by the annotations of their constructors."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from archgen.cli.member_options import member_options
from archgen.errors import InvalidOption, UnknownName


class Member:
    def __init__(
        self,
        space: str,
        *,
        evals: int = 3,
        rate: float = 0.5,
        greedy: bool = False,
        mode: Literal["fast", "slow"] = "fast",
        limit: int | None = None,
        name: str = "x",
        weights: list[float] | None = None,
        either: int | list[int] = 0,
    ) -> None: ...


def read(*texts: str) -> dict[str, Any]:
    return member_options(Member, texts, what="member 'm'", given=["space"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evals=12", {"evals": 12}),
        ("rate=1e-3", {"rate": 0.001}),
        ("greedy=true", {"greedy": True}),
        ("greedy=False", {"greedy": False}),
        ("mode=slow", {"mode": "slow"}),
        ("limit=none", {"limit": None}),
        ("limit=7", {"limit": 7}),
        ("name=a=b", {"name": "a=b"}),
        ("name=", {"name": ""}),
    ],
)
def test_values_have_the_type_of_the_annotation(text: str, expected: dict[str, Any]) -> None:
    got = read(text)
    assert got == expected
    assert [type(value) for value in got.values()] == [type(value) for value in expected.values()]


def test_several_options_and_the_last_of_one_name() -> None:
    assert read() == {}
    assert read("evals=1", "rate=2", "evals=3") == {"evals": 3, "rate": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evals=1.5", "option 'evals' must be a whole number, got '1.5'"),
        ("rate=nan", "option 'rate' must be a number, got 'nan'"),
        ("rate=inf", "option 'rate' must be a number, got 'inf'"),
        ("greedy=1", "option 'greedy' must be true or false, got '1'"),
        ("limit=many", "option 'limit' must be a whole number, got 'many'"),
        ("evals", "expected NAME=VALUE for --option, got 'evals'"),
    ],
)
def test_values_of_another_type_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        read(text)


@pytest.mark.parametrize("text", ["space=x", "weights=1", "either=1", "self=1"])
def test_what_is_no_option_is_not_known(text: str) -> None:
    with pytest.raises(UnknownName, match=r"known are: evals, greedy, limit, mode, name, rate$"):
        read(text)


def test_near_names_are_suggested() -> None:
    with pytest.raises(UnknownName, match=r"unknown option of member 'm' 'eval': did you mean 'evals'\?"):
        read("eval=1")
    with pytest.raises(UnknownName, match=r"unknown value of option 'mode' 'slwo': did you mean 'slow'\?"):
        read("mode=slwo")
