"""The table of docs/blocks.md, held against the blocks."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obverse import Chain
from obverse.registry import block_class, names
from obverse.testing.strategies import ROWS, blocks_with_shapes

PAGE = Path(__file__).parent.parent / "docs/blocks.md"
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| `")
]


def named(cell):
    return re.findall(r"`([A-Z]\w+)", cell)


ROW_OF = {name: row for row in TABLE for name in named(row[0])}
SHARED = [name for name in ROWS if name in ROW_OF]


def test_every_registered_block_has_one_row():
    listed = [name for row in TABLE for name in named(row[0])]
    built_in = [name for name in names() if block_class(name).__module__.startswith("obverse.")]
    assert sorted(listed) == sorted(built_in)


@pytest.mark.parametrize("name", SHARED)
@given(data=st.data())
def test_the_mirror_is_of_a_kind_that_the_row_names(name, data):
    block, shape = data.draw(blocks_with_shapes([name]))
    mirror = block.mirror(shape)
    kinds = {type(part).__name__ for part in (mirror.blocks if isinstance(mirror, Chain) else [mirror])}
    _, _, said, exact = ROW_OF[name]
    assert kinds <= {name} if exact == "itself" else kinds <= {*named(said), "Crop"}


@pytest.mark.parametrize("name", SHARED)
@given(data=st.data())
def test_what_is_called_adjoint_or_exact_says_so_itself(name, data):
    block, _ = data.draw(blocks_with_shapes([name]))
    exact = ROW_OF[name][3]
    if exact == "forgetting":
        assert not block.adjoint
    if name in (
        "Linear",
        "ConvTranspose",
        "Crop",
        "PixelShuffle",
        "PixelUnshuffle",
        "Flatten",
        "Unflatten",
        "Rearrange",
    ):
        assert exact in ("adjoint", "exact")
        assert block.adjoint
