"""FlexiBERT, AutoFormer and ViT-ResNAS: sizes, published text forms, counts."""

import contextlib
import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen import config, spaces
from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.spaces import ChainSpace

NAMES = ["flexibert", "autoformer", "vit_resnas"]
SMALL = {
    "flexibert": {"vocabulary": 30, "tokens": 8, "classes": 3},
    "autoformer": {"image_size": 8, "in_channels": 2, "classes": 3},
    "vit_resnas": {"image_size": 8, "in_channels": 2, "classes": 3},
}

# `README.md` of FlexiBERT's code, as it is written there
MINI = """{'l': 4, 'o': ['sa', 'sa', 'l', 'l'], 'h': [256, 256, 128, 128], 'n': [2, 2, 4, 4],
      'f': [[512, 512, 512], [512, 512, 512], [1024], [1024]], 'p': ['sdp', 'sdp', 'dct', 'dct']}"""
CONVBERT_TINY = {"l": 2, "o": ["c"] * 2, "h": [128] * 2, "n": [2] * 2, "f": [[512]] * 2, "p": [9] * 2}
# AutoFormer-T as released: it has ratios of 3, which the published space does not
AUTOFORMER_T = {
    "hidden_dim": 192,
    "mlp_ratio": [3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5],
    "depth": 13,
    "num_heads": [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3],
}
# `searched_net/small_mac@2.9G` and `searched_net/medium_mac@4.6G` of ViT-ResNAS's code
RESNAS = {
    "small": (
        "((4, 220), (1, (220, 5, 32), (220, 880), 1), (1, (220, 5, 32), (220, 880), 1), "
        "(1, (220, 7, 32), (220, 800), 1), "
        "(1, (220, 5, 32), (220, 720), 1), (1, (220, 5, 32), (220, 720), 1), (1, (220, 5, 32), (220, 720), 1), "
        "(3, 220, 440), (1, (440, 10, 48), (440, 1760), 1), (1, (440, 10, 48), (440, 1440), 1), "
        "(1, (440, 10, 48), (440, 1920), 1), (1, (440, 10, 48), (440, 1600), 1), (1, (440, 12, 48), (440, 1600), 1), "
        "(1, (440, 12, 48), (440, 1440), 1), (3, 440, 880), (1, (880, 16, 64), (880, 3200), 1), "
        "(1, (880, 12, 64), (880, 3200), 1), (1, (880, 16, 64), (880, 2880), 1), (1, (880, 12, 64), (880, 2240), 1), "
        "(1, (880, 14, 64), (880, 2560), 1), (2, 880, 1000))"
    ),
    "medium": (
        "((4, 240), (1, (240, 7, 32), (240, 960), 1), (1, (240, 6, 32), (240, 960), 1), "
        "(1, (240, 7, 32), (240, 800), 1), "
        "(1, (240, 8, 32), (240, 960), 1), (1, (240, 7, 32), (240, 880), 1), (1, (240, 8, 32), (240, 880), 1), "
        "(1, (240, 6, 32), (240, 800), 1), (3, 240, 640), (1, (640, 10, 48), (640, 1120), 1), "
        "(1, (640, 14, 48), (640, 1760), 1), (1, (640, 14, 48), (640, 1920), 1), (1, (640, 16, 48), (640, 1760), 1), "
        "(1, (640, 14, 48), (640, 1440), 1), (1, (640, 16, 48), (640, 1760), 1), (1, (640, 16, 48), (640, 1920), 1), "
        "(3, 640, 880), (1, (880, 16, 64), (880, 3200), 1), (1, (880, 10, 64), (880, 3840), 1), "
        "(1, (880, 16, 64), (880, 3840), 1), (1, (880, 12, 64), (880, 3200), 1), (1, (880, 16, 64), (880, 3520), 1), "
        "(1, (880, 14, 64), (880, 3520), 1), (2, 880, 1000))"
    ),
}


@functools.cache
def load(name: str) -> ChainSpace:
    space = spaces.load(name)
    assert isinstance(space, ChainSpace)
    return space


@pytest.fixture(scope="module")
def flexibert() -> ChainSpace:
    return load("flexibert")


@pytest.fixture(scope="module")
def autoformer() -> ChainSpace:
    return load("autoformer")


@pytest.fixture(scope="module")
def resnas() -> ChainSpace:
    return load("vit_resnas")


def test_sizes(flexibert: ChainSpace, autoformer: ChainSpace, resnas: ChainSpace) -> None:
    assert flexibert.size == 240**4 + 240**2 == 3_317_817_600  # 3.32 billion in the paper
    assert autoformer.size == 3 * (4**12 + 4**13 + 4**14)
    assert resnas.size == (5 * sum((4 * 7) ** depth for depth in (4, 5, 6, 7))) ** 3


# -- published texts --------------------------------------------------------------------------------------------


def test_flexibert_reads_python_and_json(flexibert: ChainSpace) -> None:
    arch = flexibert.parse(MINI)
    assert arch.ops[1:4] == ("sa-sdp-h2", "hidden256", "ff512-512-512")
    assert arch.ops[10:13] == ("l-dct-h4", "hidden128", "ff1024")
    assert json.loads(flexibert.format(arch)) == json.loads(MINI.replace("'", '"'))
    assert list(json.loads(flexibert.format(arch))) == ["l", "o", "h", "n", "f", "p"]


def test_flexibert_leaves_out_layers_of_a_shallow_network(flexibert: ChainSpace) -> None:
    arch = flexibert.parse(json.dumps(CONVBERT_TINY))
    assert arch.ops == ("input", *(["c-9-h2", "hidden128", "ff512"] * 2), *["skip"] * 6, "output")
    assert json.loads(flexibert.format(arch)) == CONVBERT_TINY
    assert flexibert.parse(json.dumps({**CONVBERT_TINY, "p": ["9", 9]})) == arch


def test_autoformer_reads_the_published_table(autoformer: ChainSpace, tables: Path) -> None:
    table = pd.read_parquet(tables / "vit_accuracy.parquet", columns=["space", "arch"])
    published = table["arch"][table["space"] == "autoformer"]
    assert len(published) == 200
    for text in published:
        assert autoformer.format(autoformer.parse(text)) == text


def test_autoformer_takes_ratios_without_a_point(autoformer: ChainSpace) -> None:
    value = {"hidden_dim": 240, "mlp_ratio": [4] * 12, "depth": 12, "num_heads": [3] * 12}
    arch = autoformer.parse(json.dumps(value))
    assert arch.ops[1:4] == ("width240", "heads3", "mlp4.0")
    assert arch.ops[-5:] == (*["skip"] * 4, "output")
    assert json.loads(autoformer.format(arch)) == value


def test_the_released_autoformer_is_outside_of_its_space(autoformer: ChainSpace) -> None:
    with pytest.raises(
        InvalidArchitecture, match=r"unknown label of layer3\.mlp 'mlp3\.0'.*known are: mlp3\.5, mlp4\.0"
    ):
        autoformer.parse(json.dumps(AUTOFORMER_T))


@pytest.mark.parametrize("name", list(RESNAS))
def test_published_resnas_networks_come_back_as_they_were(resnas: ChainSpace, name: str) -> None:
    assert resnas.format(resnas.parse(RESNAS[name])) == RESNAS[name]


def test_resnas_reads_blocks_that_are_left_out(resnas: ChainSpace) -> None:
    text = RESNAS["small"].replace("(3, 220, 440)", "(1, (220, 7, 32), (220, 800), 0), (3, 220, 440)")
    arch = resnas.parse(text.replace("(2, 880, 1000)", "(1, (880, 12, 64), (880, 3520), 0), (2, 880, 10)"))
    assert arch == resnas.parse(RESNAS["small"])
    assert resnas.depths(arch) == {
        f"stage{i}.{x}": d for i, n in ((1, 6), (2, 6), (3, 5)) for x, d in (("width", 1), ("block", n))
    }


FLEXIBERT_ERRORS = [
    ("", "expected a text such as"),
    ("sa-sdp", "got 'sa-sdp'"),
    ("[1]", "expected a text such as"),
    ("{'l': " + "[" * 5000, "expected a text such as"),
    ("__import__('os')", "expected a text such as"),
    (json.dumps({"l": 2}), r"with the keys l, o, h, n, f, p, got \['l'\]"),
    (json.dumps({**CONVBERT_TINY, "l": 3}), "'l', the number of layers, must be 2 or 4, got 3"),
    (json.dumps({**CONVBERT_TINY, "l": True}).replace("true", "True"), "must be 2 or 4, got True"),
    (json.dumps({**CONVBERT_TINY, "l": 4}), "'o' must be a list of one str for each of the 4 layers"),
    (json.dumps({**CONVBERT_TINY, "h": [128, "128"]}), "'h' must be a list of one int for each of the 2 layers"),
    (json.dumps({**CONVBERT_TINY, "p": [9, 13]}), r"label of layer2\.operation 'c-13-h2'"),
    (json.dumps({**CONVBERT_TINY, "n": [2, 8]}), r"label of layer2\.operation 'c-9-h8': did you mean"),
    (json.dumps({**CONVBERT_TINY, "h": [64, 128]}), r"label of layer1\.hidden 'hidden64'"),
    (json.dumps({**CONVBERT_TINY, "f": [[512], [512, 512]]}), r"label of layer2\.feed_forward 'ff512-512'"),
    (json.dumps({**CONVBERT_TINY, "o": ["c", "c\n"]}), "label of layer2"),
]
RESNAS_ERRORS = [
    ("", "expected a text of the form"),
    ("4", "got '4'"),
    ("((4, 220), (2, 220, 1000))", "with 3 stages, each begun by 4 or 3, and 2 at the end"),
    (RESNAS["small"].replace("((4, 220)", "((0, 220)"), r"where \(4, <number>\) was expected, got \(0, 220\)"),
    (RESNAS["small"].replace("(3, 220, 440)", "(3, 240, 440)"), r"where \(3, 220, <number>\) was expected"),
    (RESNAS["small"].replace("(2, 880, 1000)", "(2, 440, 1000)"), r"where \(2, 880, <number>\) was expected"),
    (RESNAS["small"].replace("440", "444"), r"label of stage2\.width1 'width444'"),
    (RESNAS["small"].replace("(220, 7, 32)", "(220, 9, 32)"), r"label of stage1\.block3\.heads 'heads9x32'"),
    (RESNAS["small"].replace("(220, 800)", "(220, 801)"), "must be one of 480, 560, 640, 720, 800, 880, 960, got 801"),
    (RESNAS["small"].replace("(220, 800)", "(240, 800)"), r"where \(1, \(220, heads, head width\)"),
    (RESNAS["small"].replace("(1, (220, 7, 32), (220, 800), 1), ", "'x', "), "with 3 stages"),
    (
        RESNAS["medium"].replace("(3, 240,", "(1, (240, 8, 32), (240, 960), 1), (3, 240,"),
        "must have 4 or 5 or 6 or 7 blocks, got 8",
    ),
    (
        RESNAS["medium"]
        .replace(", (1, (880, 16, 64), (880, 3840), 1), (1, (880, 12, 64), (880, 3200), 1)", "")
        .replace(", (1, (880, 14, 64), (880, 3520), 1)", ""),
        r"'stage3\.block' must have 4 or 5 or 6 or 7 blocks, got 3",
    ),
]


@pytest.mark.parametrize(("text", "message"), FLEXIBERT_ERRORS)
def test_flexibert_says_what_is_wrong_in_one_line(flexibert: ChainSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        flexibert.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), RESNAS_ERRORS)
def test_resnas_says_what_is_wrong_in_one_line(resnas: ChainSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        resnas.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@given(cut=st.tuples(st.integers(0, 400), st.integers(0, 8)), new=st.text(max_size=4), seed=st.integers(0, 9))
def test_a_text_with_a_mistake_is_another_point_or_refused(
    name: str, cut: tuple[int, int], new: str, seed: int
) -> None:
    space = load(name)
    text = space.format(space.sample(1, np.random.default_rng(seed))[0])
    changed = text[: cut[0]] + new + text[cut[0] + cut[1] :]
    with contextlib.suppress(InvalidArchitecture):
        arch = space.parse(changed)
        assert space.parse(space.format(arch)) == arch


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "autoformer",
            'name = "width"\n',
            'name = "embedding"\n',
            "a slot 'width' and one stage with two slots a layer",
        ),
        ("flexibert", '"hidden128"', '"hidden0128"', "expected 'hidden<n>'"),
        ("flexibert", 'text = "flexibert"', 'text = "autoformer"', "text = 'autoformer' is for"),
        ("autoformer", 'text = "autoformer"', 'text = "network_def"', "text = 'network_def' is for stages"),
        ("vit_resnas", "mlp7x80", "mlp3x160", "can not write and read the labels"),
        ("autoformer", "mlp4.0", "mlp3.50", "can not write and read the labels"),
    ],
)
def test_a_text_form_refuses_a_space_that_it_can_not_write(
    name: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    source = (config.spaces_dir() / f"{name}.toml").read_text(encoding="utf-8")
    assert old in source
    path = tmp_path / "changed.toml"
    path.write_text(source.replace(old, new))
    with pytest.raises(InvalidSpace, match=message):
        spaces.read(path)


# -- networks ---------------------------------------------------------------------------------------------------


def test_networks_of_tokens_read_integers(flexibert: ChainSpace) -> None:
    x = flexibert.example_input(3, tokens=7)
    assert (x.shape, x.dtype) == ((3, 7), torch.long)
    logits = flexibert.build(flexibert.parse(MINI), tokens=7, vocabulary=11, classes=5).eval()(x)
    assert logits.shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [("small", 63_724_108, 2_845_501_856), ("medium", 96_442_672, 4_513_135_936)],
)
def test_counts_of_published_resnas_networks(resnas: ChainSpace, name: str, params: int, macs: int) -> None:
    """To the digit what the reference code builds (without the head of token mixup) and what its estimator says."""
    assert resnas.count(resnas.parse(RESNAS[name])) == {"params": params, "macs": macs, "flops": macs}


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_network(name: str, rng: np.random.Generator) -> None:
    space = load(name)
    for arch in space.sample(4, rng):
        counts = space.count(arch, **SMALL[name])
        with torch.device("meta"):
            network = space.build(arch, **SMALL[name])
        assert counts["params"] == sum(p.numel() for p in network.parameters())
        assert counts["flops"] == counts["macs"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_extremes_bound_the_space(name: str, rng: np.random.Generator) -> None:
    space = load(name)
    assert space.extremes is not None
    least, most = (space.count(arch) for arch in space.extremes)
    for arch in [*space.sample(8, rng), *(space.mutate(e, rng) for e in space.extremes * 8)]:
        counts = space.count(arch)
        assert least["params"] <= counts["params"] <= most["params"]
        assert counts["macs"] <= most["macs"]
        assert least["macs"] <= counts["macs"] or name == "flexibert"  # where convolutions cost less than transforms


@pytest.mark.parametrize("name", NAMES)
def test_architectures_compute_different_functions(name: str, rng: np.random.Generator) -> None:
    space = load(name)
    arch = space.sample(1, rng)[0]
    near = [arch, *space.neighbours(arch)]
    assert len({space.canonical(a) for a in near}) == len(near)


def test_computation_leaves_out_what_is_skipped(flexibert: ChainSpace) -> None:
    found = flexibert.computation(flexibert.parse(json.dumps(CONVBERT_TINY)))
    assert found.ops == ("input", *(["c-9-h2", "hidden128", "ff512"] * 2), "output")
    assert found.edges == tuple((i, i + 1) for i in range(7))
