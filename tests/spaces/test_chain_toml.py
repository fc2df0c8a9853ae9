"""Users' own chains and graphs in TOML: every mistake gets one line that names the place."""

from pathlib import Path

import pytest

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces import ChainSpace

FIXTURES = Path(__file__).parent / "fixtures"
CHAIN = (FIXTURES / "my_chain.toml").read_text(encoding="utf-8")
GRAPH = (FIXTURES / "my_net.toml").read_text(encoding="utf-8")


def write(folder: Path, text: str, *changes: tuple[str, str]) -> Path:
    """The text with each first part replaced by the second, beside a copy of the blocks."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "my_blocks.py").write_text((FIXTURES / "my_blocks.py").read_text(encoding="utf-8"), encoding="utf-8")
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message) as caught:
        spaces.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param([('name = "my_chain"', "")], "the file: 'name' is missing, expected text", id="no name"),
        pytest.param([('"none"', "3")], "the file: paper = 3 is of the wrong type, expected text", id="paper"),
        pytest.param([('family = "chain"', 'family = "chian"')], "family = 'chian' is unknown", id="family"),
        pytest.param([("[network]", "[notwork]")], "the file: unknown key 'notwork': did you mean 'network'", id="key"),
        pytest.param([('skeleton = "image"', "")], "[network]: 'skeleton' is missing", id="no skeleton"),
        pytest.param(
            [('skeleton = "image"', 'skeleton = "imago"')],
            "unknown skeleton 'imago': did you mean 'image'",
            id="skeleton",
        ),
        pytest.param(
            [("classes = 10", "")],
            "[network]: skeleton 'image': missing a required argument: 'classes'",
            id="no classes",
        ),
        pytest.param(
            [("classes = 10", 'classes = "10"')], "classes = '10' is of the wrong type, expected an integer", id="type"
        ),
        pytest.param([("classes = 10", "classes = true")], "classes = True is of the wrong type", id="bool"),
        pytest.param([("classes = 10", "classes = 0")], "classes = 0 must be at least 1", id="zero"),
        pytest.param(
            [("classes = 10", "classes = 10\nwidth = 3")], "got an unexpected keyword argument 'width'", id="argument"
        ),
        pytest.param([("depths = [1, 2]", "depths = []")], r"'low': depths = \[\] must be different", id="no depths"),
        pytest.param(
            [("depths = [1, 2]", "depths = [2, 1]")], r"'low': depths = \[2, 1\] must be .* ascending", id="order"
        ),
        pytest.param([("depths = [1, 2]", "depths = [0]")], r"'low': depths = \[0\] leaves no block", id="depth 0"),
        pytest.param([("depths = [1, 2]", "depths = [0, 1]")], "'low': a stage with channels or a stride has", id="0"),
        pytest.param([("depths = [1, 2]", "depths = [1, -2]")], "'low': depths", id="negative depth"),
        pytest.param(
            [("depths = [1, 2]", "depths = 2")], "'low': depths = 2 is of the wrong type, expected a list", id="n"
        ),
        pytest.param([("depths = [1, 2]\n", "")], r"\[\[stages\]\] 'low': 'depths' is missing", id="depths missing"),
        pytest.param(
            [("stride = 2", "strides = 2")],
            "'middle': unknown key 'strides': did you mean 'stride'",
            id="key of a stage",
        ),
        pytest.param([("stride = 2", "stride = 0")], "'middle': stride = 0 must be at least 1", id="stride"),
        pytest.param(
            [('name = "middle"', 'name = "low"')], r"\[\[stages\]\] 'low': the name is given 2 times", id="twice"
        ),
        pytest.param(
            [('name = "middle"\n', "")], r"\[\[stages\]\] number 2: 'name' is missing", id="stage without name"
        ),
        pytest.param(
            [('name = "high"', 'name = "st em"')], "'st em1' can not name a slot or node", id="blank in a name"
        ),
        pytest.param(
            [('["sep_conv_3x3"]', "[]")], "'high' slots number 1: labels is empty, so the space is empty", id="labels"
        ),
        pytest.param(
            [('["sep_conv_3x3"]', '"x"')], "'high' slots number 1: labels = 'x' is of the wrong type", id="text"
        ),
        pytest.param(
            [('["sep_conv_3x3"]', "[3]")], r"labels = \[3\] is of the wrong type, expected a list of texts", id="3"
        ),
        pytest.param([('["sep_conv_3x3"]', '["skip"]')], "'high1': 'skip' stands for a block left out", id="skip"),
        pytest.param(
            [('["conv_3x3", "ghost"]', '["conv_3x3", "gost"]')],
            r"\[\[stages\]\] 'low1': unknown operation 'gost': did you mean 'ghost'",
            id="unknown operation",
        ),
        pytest.param(
            [('["conv_3x3", "ghost"]', '["ghost", "ghost"]')], "labels names one twice: ghost, ghost", id="label twice"
        ),
        pytest.param(
            [("slots = [{ labels", "slots = [{ label")], "'low' slots number 1: unknown key 'label'", id="label"
        ),
        pytest.param(
            [('slots = [{ labels = ["sep_conv_3x3"] }]', "slots = []")], "'high': slots is empty", id="no slots"
        ),
        pytest.param(
            [('slots = [{ labels = ["sep_conv_3x3"] }]', "slots = [3]")], "expected a table with labels", id="slot"
        ),
        pytest.param(
            [('[{ labels = ["sep_conv_3x3"] }]', '[{ labels = ["skip"] }, { name = "b", labels = ["skip"] }]')],
            "'high': a block has one slot with skeleton = 'image', got 2",
            id="two slots",
        ),
        pytest.param([('["r24", "r32"]', '["r24", "32"]')], "'resolution': '32' is no label", id="resolution"),
        pytest.param([('name = "resolution"', 'name = "size"')], "knows only the global 'resolution'", id="global"),
        pytest.param(
            [('smallest = ["r24", ', "smallest = [")], r"\[order\]: 'resolution' needs one of r24, r32", id="order of"
        ),
        pytest.param([("largest", "biggest")], r"\[order\]: unknown key 'biggest'", id="half an order"),
        pytest.param([("[network]", 'text = "json"\n[network]')], "unknown key 'text'", id="text in a table"),
        pytest.param(
            [('family = "chain"', 'family = "chain"\ntext = "jsn"')], "unknown text form of a chain 'jsn'", id="form"
        ),
        pytest.param([("[[stages]]", "[stages]")], "can not be read as TOML", id="one stage as a table"),
        pytest.param([("[[globals]]", "[globals]")], r"\[\[globals\]\]: expected an array of tables", id="globals"),
        pytest.param([("[network]", "[output]\n[network]")], r"\[output\] is for \[\[nodes\]\]", id="output"),
        pytest.param(
            [('skeleton = "image"', 'skeleton = "fbnet"\nhead = 8')], "unknown key 'channels'|'stride'", id="shape"
        ),
        pytest.param(
            [('name = "my_chain"', 'name = "fbnet"')], "name = 'fbnet' belongs to a space that comes with", id="taken"
        ),
    ],
)
def test_a_chain_with_a_mistake_is_refused(tmp_path: Path, changes: list[tuple[str, str]], message: str) -> None:
    refused(write(tmp_path, CHAIN, *changes), message.replace("[network]", r"\[network\]"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            [('inputs = ["stem_block"]', 'inputs = ["stem_blok"]')],
            r"\[\[nodes\]\] 'left': unknown input 'stem_blok': did you mean 'stem_block'",
            id="unknown input",
        ),
        pytest.param(
            [('"conv_3x3", "skip"', '"conv_3x4", "skip"')],
            r"\[\[nodes\]\] 'left': unknown operation 'conv_3x4': did you mean 'conv_3x3'",
            id="unknown operation",
        ),
        pytest.param(
            [('name = "left"', 'name = "keys"'), ('"left"', '"keys"')], "'keys' can not name a slot", id="keys"
        ),
        pytest.param(
            [("[network]", "[[stages]]\n[network]")], r"\[\[nodes\]\] is for skeleton = 'image', without", id="both"
        ),
        pytest.param(
            [
                ('"conv_3x3", "skip"]', '"conv_3x3", "skip"]\nstride = 2'),
                ("channels = 32", "channels = 32\nstride = 3"),
            ],
            r"'join': its inputs shrink the image \[4, 6\] times, which no stride brings together",
            id="strides",
        ),
        pytest.param(
            [('import = "my_blocks:Ghost"', "")], r"\[\[operations\]\] 'ghost': 'import' is missing", id="import"
        ),
    ],
)
def test_a_graph_with_a_mistake_is_refused(tmp_path: Path, changes: list[tuple[str, str]], message: str) -> None:
    refused(write(tmp_path, GRAPH, *changes), message)


def test_a_space_with_one_architecture_is_refused(tmp_path: Path) -> None:
    toml = 'name = "one"\nfamily = "chain"\n[[nodes]]\nname = "a"\ninputs = ["input"]\noperations = ["skip"]\n'
    network = '[network]\nskeleton = "image"\nchannels = 8\nclasses = 2\nin_channels = 3\nimage_size = 8\n'
    path = tmp_path / "one.toml"
    path.write_text(toml + network, encoding="utf-8")
    refused(path, "the space has one architecture only")
    path.write_text(f'name = "none"\nfamily = "chain"\n{network}', encoding="utf-8")
    refused(path, r"neither \[\[stages\]\] nor \[\[nodes\]\], so the space is empty")


def test_several_nodes_that_no_other_reads_are_summed_to_the_output(tmp_path: Path) -> None:
    space = spaces.load(write(tmp_path, GRAPH, ('inputs = ["left", "right"] ', 'inputs = ["left"] ')))
    assert isinstance(space, ChainSpace)
    assert {(i, j) for i, j in space.edges if j == 5} == {(3, 5), (4, 5)}
    space.count(space.enumerate()[0])
