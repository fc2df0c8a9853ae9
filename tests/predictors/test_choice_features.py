"""One-hot choices, as written."""

import numpy as np
import pytest

from archgen import spaces
from archgen.predictors.choice_features import ChoiceEncoder


@pytest.mark.parametrize("name", ["nasbench201", "fbnet", "mobilenetv3"])
def test_each_variable_has_one_feature_set_that_of_its_choice(name: str) -> None:
    space = spaces.load(name)
    archs = space.sample(20, np.random.default_rng(0))
    encoder = ChoiceEncoder(space)
    rows = encoder(archs).numpy()
    assert rows.shape == (20, encoder.width)
    assert encoder.width == sum(map(len, space.variables.values()))
    for row, arch in zip(rows, archs, strict=True):
        for variable, chosen in space.to_choices(arch).items():
            np.testing.assert_array_equal(
                row[encoder.columns[variable]], np.eye(len(space.variables[variable]))[chosen]
            )


def test_dead_choices_are_told_apart() -> None:
    space = spaces.load("nasbench201")
    texts = [f"|{op}~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|" for op in ("nor_conv_3x3", "none")]
    one, two = ChoiceEncoder(space)([space.parse(text) for text in texts])
    assert space.canonical(space.parse(texts[0])) == space.canonical(space.parse(texts[1]))
    assert not np.array_equal(one, two)


def test_of_nothing_there_are_no_rows() -> None:
    encoder = ChoiceEncoder(spaces.load("nasbench201"))
    assert encoder([]).shape == (0, encoder.width)
