"""What the command line and the page say, and how they read what they are asked: so that both say the same.

Everything here is text or plain data that JSON takes, and none of it needs torch.
"""

from __future__ import annotations

import json
import re
from typing import Any

from obverse.acceptance import accepts
from obverse.block import Block
from obverse.blocks.conv import Style
from obverse.chain import Chain
from obverse.decoder import mirror
from obverse.errors import ConfigError, ObverseError, ShapeError
from obverse.expressions import parse
from obverse.plan import Plan
from obverse.rewrite import with_upsampling
from obverse.shapes import Shape, as_shape

__all__ = [
    "answer",
    "answer_text",
    "expression",
    "mirror_data",
    "obverse_code",
    "plan_data",
    "read_shape",
    "sizes_data",
]


def read_shape(text: str, letters: bool = False) -> Shape:
    """A shape as people write it.

    >>> read_shape("1x28x28"), read_shape("1×28×28"), read_shape("(1, 28, 28)"), read_shape("16000")
    ((1, 28, 28), (1, 28, 28), (1, 28, 28), (16000,))
    >>> read_shape("1xHx28", letters=True)
    (1, H, 28)
    >>> read_shape("Nx1x28x28")
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: a shape is that of one example, without the batch; (None, 1, 28, 28) begins with None.
    Leave the batch out: (1, 28, 28).

    Args:
        text: numbers with `x`, `×`, `*`, commas or spaces between them, in brackets or not.
        letters: whether a letter may stand for a size, as in `chain.plan((1, "H", "W"))`.

    Raises:
        ShapeError: for what is no shape.
    """
    bare = re.sub(r"[\"']", "", text).strip().strip("()[]").strip().rstrip(",")
    words = re.split(r"\s*[x×X*,]\s*|\s+", bare)
    if words[0].lower() in ("n", "b", "none", "?", "batch", "-1"):
        words[0] = "None"
    sizes = [_read_size(word) for word in words]
    named = [size for size in sizes if isinstance(size, str)]
    if not all(name.isidentifier() for name in named):
        raise ShapeError(f"{text!r} is no shape.", "Write it as in 1x28x28: the channels, then the sizes.")
    if named and not letters:
        raise ShapeError(
            f"{named[0]} in {text!r} is no number; letters are for a plan of the encoder alone.",
            "Write it as in 1x28x28.",
        )
    return as_shape(sizes)


def _read_size(word: str) -> int | str | None:
    if word == "None":
        return None
    return int(word) if re.fullmatch(r"-?\d{1,18}", word, re.ASCII) else word


def plan_data(plan: Plan) -> dict[str, Any]:
    """A plan as plain data, those of `Plan.json`.

    >>> from obverse import Conv
    >>> plan_data(Chain(Conv(16, 3, stride=2)).plan((1, 28, 28)))["steps"][0]["output_shape"]
    [16, 13, 13]
    """
    data: dict[str, Any] = json.loads(plan.json())
    return data


def mirror_data(encoder: Block, shape: Shape, upsampling: Style = "transpose") -> dict[str, Any]:
    """An encoder's decoder, with its plan, as plain data.

    >>> from obverse import Conv
    >>> mirror_data(Conv(16, 3, stride=2), (1, 28, 28))["decoder"]
    'ConvTranspose(1, 3, stride=2, output_padding=1)'
    """
    block = mirror(encoder, shape, upsampling=upsampling)
    return {"decoder": repr(block), "plan": plan_data(Plan.of(block, encoder.output_shape(shape)))}


def sizes_data(encoder: Block, shape: Shape) -> list[dict[str, Any]]:
    """Along every spatial axis, the others held, the sizes that an encoder takes, and those that share a code.

    >>> from obverse import Conv, PixelUnshuffle
    >>> sizes_data(Chain(PixelUnshuffle(2), Conv(8, 3, stride=2)), (1, 28, 28))[0]
    {'axis': 1, 'size': 28, 'takes': 'n ≡ 0 mod 2, n ≥ 6', 'no_remainder': 'n ≡ 2 mod 4, n ≥ 6', 'same_code': '26, 28'}

    Where one axis goes into the size of another, so that nothing can be said of it alone, the texts are empty.
    """
    return [_sizes_along(encoder, shape, axis) for axis in range(1, len(shape))]


def _sizes_along(encoder: Block, shape: Shape, axis: int) -> dict[str, Any]:
    said = {"axis": axis, "size": shape[axis]}
    try:
        (taken,) = accepts(encoder, (*shape[:axis], None, *shape[axis + 1 :])).axes
        same = str(taken.sharing(shape[axis]))
    except ShapeError:
        return said | {"takes": "", "no_remainder": "", "same_code": ""}
    return said | {"takes": str(taken.accepted), "no_remainder": str(taken.without_remainder), "same_code": same}


def obverse_code(encoder: Block, shape: Shape, upsampling: Style = "transpose") -> str:
    """A program that builds the autoencoder with obverse, ready to paste.

    >>> from obverse import Conv, ReLU
    >>> print(obverse_code(Chain(Conv(16, 3), ReLU()), (1, 28, 28)))
    from obverse import Autoencoder, Chain, Conv, ReLU
    <BLANKLINE>
    encoder = Chain(
        Conv(16, 3),
        ReLU(),
    )
    model = Autoencoder(encoder, (1, 28, 28))
    """
    source = chain_text(encoder)
    # names of blocks stand in front of a bracket; those in strings, of a Pointwise, do not
    used = sorted({"Autoencoder", *re.findall(r"\b([A-Z]\w*)\(", re.sub(r"'[^']*'", "''", source))})
    wiring = [name for name in used if name in ("Graph", "Node", "Copy", "Sum", "Concat", "Split", "Product")]
    imports = [f"from obverse import {', '.join(name for name in used if name not in wiring)}"]
    imports += [f"from obverse.graph import {', '.join(wiring)}"] if wiring else []
    style = "" if upsampling == "transpose" else f", upsampling={upsampling!r}"
    return "\n".join([*imports, "", f"encoder = {source}", f"model = Autoencoder(encoder, {shape}{style})"])


def chain_text(block: Block) -> str:
    """A block's `repr`, a chain's a line a block.

    >>> from obverse import Conv, ReLU
    >>> print(chain_text(Chain(Conv(16, 3), ReLU())))
    Chain(
        Conv(16, 3),
        ReLU(),
    )
    """
    if not isinstance(block, Chain):
        return repr(block)
    return "\n".join(["Chain(", *[f"    {inner!r}," for inner in block], ")"])


def expression(block: Block) -> str:
    """A block as `parse` and the command line read it: a chain's blocks joined by `>>`.

    >>> from obverse import Conv, ReLU
    >>> expression(Chain(Conv(16, 3), Chain(Conv(8, 3), ReLU())))
    'Conv(16, 3) >> Conv(8, 3) >> ReLU()'
    """
    return " >> ".join(repr(each) for _, each in block.links) if isinstance(block, Chain) else repr(block)


def answer(encoder: Block, shape: Shape, upsampling: Style = "transpose") -> dict[str, Any]:
    """Everything there is to say about an encoder at a shape, as plain data.

    >>> from obverse import Conv
    >>> said = answer(Conv(16, 3, stride=2), (1, 28, 28))
    >>> list(said)
    ['encoder', 'plan', 'mirror', 'sizes', 'plan_text', 'mirror_text', 'picture', 'pytorch', 'obverse']

    Raises:
        ObverseError: where the encoder does not take the shape, or has no mirror.
    """
    from obverse.pasting import pytorch_code
    from obverse.sketches import hourglass

    plan = Plan.of(encoder, shape)
    decoder = Plan.of(mirror(encoder, shape, upsampling=upsampling), plan.output_shape)
    return {
        "encoder": repr(encoder),
        "plan": plan_data(plan),
        "mirror": mirror_data(encoder, shape, upsampling),
        "sizes": sizes_data(encoder, shape),
        "plan_text": str(plan),
        "mirror_text": str(decoder),
        "picture": hourglass(Plan.of(with_upsampling(encoder, shape, upsampling), shape), decoder),
        "pytorch": pytorch_code(encoder, shape, upsampling=upsampling),
        "obverse": obverse_code(encoder, shape, upsampling),
    }


def answer_text(expression: str, shape: str, upsampling: Style = "transpose") -> str:
    r"""What the page shows, as JSON: the answer, or `{"wrong": …, "at": …}` with what to change and in which field.

    >>> answer_text("Conv(16, 3)", "1x28xx")
    '{"wrong": "\'1x28xx\' is no shape.\\nWrite it as in 1x28x28: the channels, then the sizes.", "at": "shape"}'
    """
    at = "expression"
    try:
        encoder = parse(expression)
        at = "shape"
        return json.dumps(answer(encoder, read_shape(shape), upsampling))
    except ConfigError as error:  # a block of which no plain PyTorch is known has all the rest
        return json.dumps({"wrong": str(error), "at": "expression"})
    except ObverseError as error:
        return json.dumps({"wrong": str(error), "at": at})
