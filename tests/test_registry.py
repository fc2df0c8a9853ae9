"""Registries and the names they suggest."""

import pytest

from archgen.errors import ArchgenError, UnknownMetric, UnknownName
from archgen.registry import Registry


@pytest.fixture
def strategies() -> Registry[type]:
    registry: Registry[type] = Registry("search strategy")
    registry.register("random")(int)
    registry.register("evolution")(str)
    return registry


def test_members_are_found_under_their_names_in_order_of_registration(strategies: Registry[type]) -> None:
    assert strategies["random"] is int
    assert dict(strategies) == {"random": int, "evolution": str}
    assert list(strategies) == ["random", "evolution"]
    assert len(strategies) == 2
    assert "random" in strategies
    assert "bayes" not in strategies


def test_register_gives_its_argument_back(strategies: Registry[type]) -> None:
    assert strategies.register("local")(float) is float


def test_an_unknown_name_suggests_the_closest_and_lists_all(strategies: Registry[type]) -> None:
    with pytest.raises(UnknownName) as caught:
        strategies["evolutoin"]
    assert str(caught.value) == (
        "unknown search strategy 'evolutoin': did you mean 'evolution'? known are: evolution, random"
    )
    assert caught.value.name == "evolutoin"
    assert caught.value.known == ["evolution", "random"]
    assert isinstance(caught.value, ArchgenError)


def test_a_name_like_none_of_them_is_not_guessed(strategies: Registry[type]) -> None:
    with pytest.raises(UnknownName, match=r"'xyz': known are: evolution, random"):
        strategies["xyz"]


def test_a_name_can_not_be_taken_twice(strategies: Registry[type]) -> None:
    with pytest.raises(ValueError, match="search strategy 'random' is registered already"):
        strategies.register("random")(float)
    assert strategies["random"] is int


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(UnknownName, match="known are: none"):
        Registry[type]("thing")["x"]


def test_long_lists_are_cut() -> None:
    with pytest.raises(UnknownMetric, match=r"^unknown metric 'zz': known are: m00, .*, m19, \.\.\.$"):
        raise UnknownMetric("zz", (f"m{i:02d}" for i in range(30)))
