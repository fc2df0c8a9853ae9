"""FlexiBERT's encoder: parameters of the reference, projections, the first token, any number of sequences."""

import warnings

import pytest
import torch
from torch import nn

from archgen.errors import InvalidSpace
from archgen.networks.flexibert import Layer, TokenEmbedding, flexibert, token_example
from archgen.networks.skeleton import SegmentNetwork, count_segments

SMALL = {"vocabulary": 20, "tokens": 6, "classes": 3}
Row = tuple[str, str, str]
MINI: list[Row] = [("sa-sdp-h2", "hidden256", "ff512-512-512")] * 2 + [("l-dct-h4", "hidden128", "ff1024")] * 2
BERT_MINI: list[Row] = [("sa-sdp-h4", "hidden256", "ff1024")] * 4


def slots(rows: list[Row], layers: int = 4) -> dict[str, str]:
    rows = rows + [("skip", "skip", "skip")] * (layers - len(rows))
    names = ("operation", "hidden", "feed_forward")
    return {f"layer{i}.{name}": x for i, row in enumerate(rows, start=1) for name, x in zip(names, row, strict=True)}


def build(rows: list[Row], **arguments: int) -> SegmentNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegmentNetwork(flexibert(slots(rows), **{**SMALL, **arguments})).eval()


def params(rows: list[Row], **arguments: int) -> float:
    example = token_example(1, **arguments).to("meta")
    return count_segments(flexibert(slots(rows), **arguments), example, {})["params"]


def test_parameters_of_the_published_models() -> None:
    """The reference's encoders with its tables for 514 tokens, less what no output of theirs depends on.

    FlexiBERT-Mini has 16,175,552 parameters, of them 197,376 unused (absolute positions, matrices of multiplicative
    attention, keys of linear transforms); BERT-Mini 16,504,320 and 147,968.
    """
    published = {"vocabulary": 50265, "tokens": 514, "classes": 2}
    assert params(MINI, **published) == 16_175_552 - 197_376 + 2 * 128 + 2
    assert params(BERT_MINI, **published) == 16_504_320 - 147_968 + 2 * 256 + 2
    assert params(MINI, **published) / params(BERT_MINI, **published) == pytest.approx(
        0.97, abs=0.01
    )  # paper: 3 % fewer


def test_parameters_of_a_layer() -> None:
    layer = Layer(("c", "5"), 4, 16, (24, 8), 6)
    attention = 3 * (16 * 8 + 8) + 11 * 4
    convolution = 16 * 5 + (16 * 8 + 8) + (8 * 10 + 10) + (16 * 8 + 8)
    forward = (16 * 24 + 24) + (24 * 8 + 8) + (8 * 16 + 16)
    assert sum(p.numel() for p in layer.parameters()) == attention + convolution + (16 * 16 + 16) + forward + 4 * 16


def test_projections_stand_where_the_width_changes_only() -> None:
    rows = [("sa-wma-h2", f"hidden{width}", "ff8") for width in (8, 16, 16, 4)]
    names = list(build(rows).segments)
    assert names == [
        "embedding",
        "layer1",
        "layer2-projection",
        "layer2",
        "layer3",
        "layer4-projection",
        "layer4",
        "head",
    ]
    assert list(build(rows[:1]).segments) == ["embedding", "layer1", "head"]


def test_a_layer_ends_normalised() -> None:
    out = Layer(("l", "dft"), 2, 8, (12,), 6).eval()(torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(out.mean(-1), torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(-1, correction=0), torch.ones(3, 6))


def test_embeddings_of_a_token_are_alike_everywhere() -> None:
    embedding = TokenEmbedding(20, 8).eval()
    out = embedding(torch.tensor([[3, 4, 3]]))
    assert torch.equal(out[0, 0], out[0, 2])
    assert not torch.equal(out[0, 0], out[0, 1])


@pytest.mark.parametrize("operation", ["sa-sdp-h2", "sa-wma-h2", "l-dft-h2", "l-dct-h2", "c-5-h2"])
def test_the_order_of_the_tokens_counts(operation: str) -> None:
    network = build([(operation, "hidden8", "ff8")] * 2)
    generator = torch.Generator().manual_seed(0)
    for value in network.parameters():
        value.data.normal_(0.0, 0.5, generator=generator)
    logits = network(torch.tensor([[1, 2, 3, 4, 5, 6], [1, 6, 5, 4, 3, 2]]))
    assert logits.shape == (2, 3)
    assert float((logits[0] - logits[1]).detach().abs().max()) > 1e-3


def test_dropout_acts_in_training_only() -> None:
    network = build([("sa-sdp-h2", "hidden8", "ff8"), ("c-5-h2", "hidden8", "ff8")])
    x = token_example(2, tokens=6)
    assert torch.equal(network(x), network(x))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(network.train()(x), network(x))
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.1}


def test_an_exported_network_takes_any_number_of_sequences() -> None:
    rows = [("sa-wma-h2", "hidden8", "ff8"), ("l-dft-h2", "hidden16", "ff8"), ("l-dct-h2", "hidden16", "ff8")]
    network = build([*rows, ("c-5-h4", "hidden8", "ff8-8")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns of its own future
        shapes = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(network, (token_example(2, tokens=6),), dynamic_shapes=shapes)
    x = torch.randint(20, (5, 6), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("sa-dct-h2", "hidden8", "ff8"), "got sa-dct with 2 heads"),
        (("sa-sdp-h3", "hidden8", "ff8"), "heads that divide the 8 features"),
        (("sa-sdp", "hidden8", "ff8"), "'sdp' is no label .* expected 'h<n>'"),
        (("sa-sdp-h2", "8", "ff8"), "'8' is no label .* expected 'hidden<n>'"),
        (("sa-sdp-h2", "hidden8", "ff8-"), "'ff8-' is no label .* expected 'ff<n>-<n>'"),
        (("sa-sdp-h2", "skip", "ff8"), "say 'skip' or none does"),
    ],
)
def test_labels_that_are_no_layer_are_refused(row: Row, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        build([row])
