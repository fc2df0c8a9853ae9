"""Text forms of chains: what the published tables write, and what is wrong with other texts."""

import json
from pathlib import Path

import pandas as pd
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.spaces import ChainSpace

FIXTURES = Path(__file__).parent / "fixtures"
KS = [7, 5, 0, 0, 3, 3, 3, 0, 5, 5, 5, 5, 3, 7, 0, 0, 7, 7, 7, 0]
E = [6, 4, 0, 0, 3, 4, 6, 0, 3, 3, 3, 3, 4, 4, 0, 0, 6, 6, 6, 0]
D = [2, 3, 4, 2, 3]


def chain(name: str) -> ChainSpace:
    space = spaces.load(name)
    assert isinstance(space, ChainSpace)
    return space


def test_once_for_all_writes_zeros_where_blocks_are_left_out() -> None:
    space = chain("mobilenetv3")
    text = json.dumps({"ks": KS, "e": E, "d": D, "r": [192]})
    arch = space.parse(text)
    assert space.format(arch) == text
    assert list(space.depths(arch).values()) == D
    labels = space.to_labels(arch)
    assert (labels["resolution"], labels["stage1.block2"], labels["stage1.block3"]) == ("r192", "k5_e4", "skip")


@pytest.mark.parametrize(
    "changes",
    [
        {"ks": [k or 7 for k in KS], "e": [e or 6 for e in E]},
        {"wid": None},
        {"r": 192},
        {"image_size": 192, "r": None},
    ],
)
def test_once_for_all_reads_what_the_published_code_writes(changes: dict[str, object]) -> None:
    space = chain("mobilenetv3")
    value = {"ks": KS, "e": E, "d": D, "r": [192]}
    text = json.dumps({k: v for k, v in {**value, **changes}.items() if v is not None or k == "wid"})
    assert space.parse(text) == space.parse(json.dumps(value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": KS[:-1]}, "'ks' must be 20 integers"),
        ({"e": "6"}, "'e' must be 20 integers, got 6"),
        ({"d": [2, 3, 4, 2, True]}, "'d' must be 5 integers"),
        (
            {"d": [2, 3, 4, 2, 5]},
            "'stage5.block' has its first 2 or 3 or 4 blocks|unknown label of stage5.block4 'k0_e0'",
        ),
        ({"d": [1, 3, 4, 2, 3]}, "unknown label of stage1.block2 'skip'"),
        ({"ks": [9, *KS[1:]]}, "unknown label of stage1.block1 'k9_e6': did you mean"),
        ({"r": [193]}, "unknown label of resolution 'r193': did you mean"),
        ({"r": []}, "'r' must be 1 integers"),
    ],
)
def test_once_for_all_says_what_is_wrong_in_one_line(changes: dict[str, object], message: str) -> None:
    space = chain("mobilenetv3")
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        space.parse(json.dumps({"ks": KS, "e": E, "d": D, "r": [192], **changes}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"ks": [3]}', "null", "[" * 100_000])
def test_once_for_all_refuses_what_is_no_such_dictionary(text: str) -> None:
    with pytest.raises(InvalidArchitecture, match=r'expected .\{"ks": '):
        chain("mobilenetv3").parse(text)


def test_every_network_of_the_published_latency_table_can_be_read(tables: Path) -> None:
    space = chain("mobilenetv3")
    table = pd.read_parquet(tables / "ofa_mobilenetv3" / "latency_ms.parquet")[::10]
    for row in table.itertuples():
        ks, e, d = ([int(n) for n in t.split()] for t in (row.kernel_sizes, row.expand_ratios, row.depths))
        arch = space.parse(json.dumps({"ks": ks, "e": e, "d": d, "r": [row.resolution]}))
        assert list(space.depths(arch).values()) == d


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("fbnet", "1_2_3", "expected 22 entries joined by '_', such as '0_0_.*, got 3 in"),
        ("fbnet", "_".join(["9", *["0"] * 21]), "layer1 must be a number from 0 to 8, got '9'"),
        ("fbnet", "_".join(["01", *["0"] * 21]), "layer1 must be a number from 0 to 8, got '01'"),
        ("fbnet", "_".join(["-1", *["0"] * 21]), "layer1 must be a number from 0 to 8, got '-1'"),
        ("fbnet", "_".join(["²", *["0"] * 21]), "layer1 must be a number from 0 to 8, got '²'"),
        ("nasbench_macro", "0120", "expected 8 entries without gaps, such as '00000000', got 4 in '0120'"),
        ("nasbench_macro", "01201203", "layer8 must be a number from 0 to 2, got '3'"),
        ("nasbench_macro", "0120120x", "layer8 must be a number from 0 to 2, got 'x'"),
        (str(FIXTURES / "my_net.toml"), "ghost|skip", r"expected 4 entries joined by '\|', such as"),
        (str(FIXTURES / "my_net.toml"), "ghst|skip|residual|ghost", "unknown label of stem_block 'ghst': did you mean"),
    ],
)
def test_other_texts_are_refused_in_one_line(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        chain(name).parse(text)
    assert "\n" not in str(caught.value)


def test_forms_are_refused_where_they_can_not_write_the_space() -> None:
    chain_ = chain("mobilenetv3")
    arguments = {"skeleton": "mobilenetv3", "network": chain_.network_defaults}
    with pytest.raises(InvalidSpace, match="text = 'digits' is for slots of at most ten labels"):
        ChainSpace("s", chain_.active, chain_.stages, text="digits", **arguments)  # type: ignore[arg-type]
    macro = chain("nasbench_macro")
    arguments = {"skeleton": "nasbench_macro", "network": macro.network_defaults}
    with pytest.raises(InvalidSpace, match="text = 'once_for_all' is for a 'resolution' and stages"):
        ChainSpace("s", macro.active, macro.stages, text="once_for_all", **arguments)  # type: ignore[arg-type]
