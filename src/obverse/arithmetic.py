"""Sizes as integers: what comes out of a convolution, a transposed convolution or a pooling, along one axis.

The letters and relationship numbers are those of Dumoulin & Visin, *A guide to convolution arithmetic for deep
learning* (arXiv:1603.07285): input size `i`, kernel size `k`, stride `s`, padding `p`, dilation `d`, output size `o`.
Here the `extent` of a kernel is what it spans with its gaps, `d(k - 1) + 1`.

Everything is written with `+ - * //` and `%`, and refuses only what is certainly wrong, so that the same functions
take an `int`, a `torch.SymInt` (export, compile) or a sympy symbol.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd
from numbers import Integral
from typing import Any, NamedTuple

from obverse.errors import ShapeError
from obverse.symbols import is_symbolic

__all__ = [
    "ConvSettings",
    "conv_output_size",
    "conv_transpose_output_size",
    "input_sizes",
    "overlaps",
    "pool_output_size",
    "remainder",
    "same_padding",
    "solve_conv",
    "strided_same_padding",
    "window_of",
]


def whole(name: str, value: Any, minimum: int | None = None) -> Any:
    """The integer that is meant by an argument; booleans, floats and text are refused.

    Integers of other libraries (numpy's) become `int`; symbols pass as they are.

    >>> whole("stride", 2, minimum=1)
    2
    >>> whole("stride", True)
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: stride is an integer; True is a bool.
    Give a plain integer, such as stride=1.
    """
    if type(value) is not int:
        if isinstance(value, (bool, float, str, bytes)) or not hasattr(value, "__floordiv__") or _is_array(value):
            raise ShapeError(
                f"{name} is an integer; {value!r} is a {type(value).__name__}.",
                f"Give a plain integer, such as {name}={max(minimum or 0, 1)}.",
            )
        if isinstance(value, Integral):
            value = int(value)
    if minimum is not None and (value < minimum) is True:
        raise ShapeError(f"{name} is at least {minimum}; {value} was given.", f"Give {name}={minimum} or more.")
    return value


def _is_array(value: Any) -> bool:
    """Whether it is one of numpy's or PyTorch's values, and no integer."""
    return hasattr(value, "dtype") and not isinstance(value, Integral)


def differ(one: Any, other: Any) -> bool:
    """Whether two sizes are certainly not the same; of two formulas written with symbols that is never said.

    >>> differ(7, 8), differ(7, 7)
    (True, False)
    """
    if type(one) is type(other) is int:
        return bool(one != other)
    return (one != other) is True and not (is_symbolic(one) or is_symbolic(other))


def extent_of(kernel_size: Any, dilation: Any = 1) -> Any:
    """The cells that a dilated kernel spans: `k + (k - 1)(d - 1)`, the `k̂` in front of relationship 15."""
    return dilation * (kernel_size - 1) + 1


def _window(kernel_size: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Any, Any, Any, Any]:
    """The same four as plain integers; refused where no window has them."""
    if (
        type(kernel_size) is type(stride) is type(padding) is type(dilation) is int
        and kernel_size > 0
        and stride > 0
        and padding >= 0
        and dilation > 0
    ):
        return kernel_size, stride, padding, dilation
    return (
        whole("kernel_size", kernel_size, 1),
        whole("stride", stride, 1),
        whole("padding", padding, 0),
        whole("dilation", dilation, 1),
    )


def _check_span(extent: Any, cells: Any, padding: Any, most: Any = None) -> None:
    """Refuse a kernel that spans more than there is; `most` is the largest padding that may be advised."""
    if (cells < extent) is not True:
        return
    enough = padding + (extent - cells + 1) // 2
    raise ShapeError(
        f"the kernel spans {_cells(extent)}, and only {cells} {'is' if cells == 1 else 'are'} left.",
        "" if most is not None and enough > most else f"Give it padding={enough}.",
    )


def _cells(count: Any) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def conv_output_size(input_size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    """Size after a convolution: relationship 15, of which 1 to 6 are special cases.

    >>> conv_output_size(28, 3, stride=2, padding=1)
    14
    >>> conv_output_size(27, 3, stride=2, padding=1)    # 14 too: the mirror must be told which
    14

    Args:
        input_size: cells along this axis, at least 1.
        kernel_size: cells of the kernel, at least 1.
        stride: cells between two windows, at least 1.
        padding: zeros on either side, at least 0.
        dilation: distance between the kernel's cells, at least 1.

    Raises:
        ShapeError: where `torch.nn.Conv1d` refuses the same numbers.
    """
    kernel_size, stride, padding, dilation = _window(kernel_size, stride, padding, dilation)
    if type(input_size) is not int or input_size < 1:
        input_size = whole("input_size", input_size, 1)
    padded, extent = input_size + 2 * padding, dilation * (kernel_size - 1) + 1
    if (padded < extent) is True:
        _check_span(extent, padded, padding)
    # relationship 15: o = ⌊(i + 2p - k - (k - 1)(d - 1)) / s⌋ + 1
    return (padded - extent) // stride + 1


def remainder(input_size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    """The cells at the end that the last stride did not reach: what the mirror must be told.

    Given as `output_padding`, it makes a transposed convolution restore `input_size`. It is always below the stride,
    so PyTorch always takes it: every convolution has an exact mirror.

    >>> remainder(28, 3, stride=2, padding=1), remainder(27, 3, stride=2, padding=1)
    (1, 0)

    This is the `a = (i + 2p - k) mod s` of relationship 14, dilation included.

    Raises:
        ShapeError: as `conv_output_size` does.
    """
    kernel_size, stride, padding, dilation = _window(kernel_size, stride, padding, dilation)
    input_size = whole("input_size", input_size, 1)
    windows = conv_output_size(input_size, kernel_size, stride, padding, dilation)
    # a % s, written as what is left when the strides are taken away: for symbols this cancels in relationship 14, so
    # that the size restored is seen to be the size that went in
    return input_size + 2 * padding - extent_of(kernel_size, dilation) - stride * (windows - 1)


def conv_transpose_output_size(
    input_size: Any,
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
) -> Any:
    """Size after a transposed convolution: relationship 14, of which 8 to 13 are special cases.

    `padding` takes cells away here: it names the padding of the convolution that is turned round.

    >>> conv_transpose_output_size(14, 3, stride=2, padding=1)
    27
    >>> conv_transpose_output_size(14, 3, stride=2, padding=1, output_padding=1)
    28

    Raises:
        ShapeError: where `torch.nn.ConvTranspose1d` refuses the same numbers; `output_padding` must be below the
            larger of stride and dilation, and something must be left.
    """
    kernel_size, stride, padding, dilation = _window(kernel_size, stride, padding, dilation)
    input_size = whole("input_size", input_size, 1)
    output_padding = whole("output_padding", output_padding, 0)
    bound = max(stride, dilation)
    if (output_padding >= bound) is True:
        raise ShapeError(
            f"output_padding is below the larger of stride and dilation, {bound}; {output_padding} was given.",
            f"Give output_padding={bound - 1}{' or less' if bound > 1 else ''}.",
        )
    # relationship 14: o' = s(i' - 1) + a + k - 2p, with a = output_padding
    size = stride * (input_size - 1) + output_padding + extent_of(kernel_size, dilation) - 2 * padding
    if (size < 1) is True:
        raise ShapeError(
            f"padding={padding} takes {_cells(2 * padding)} away, and only {size + 2 * padding} came out.",
            f"Give it padding={(size + 2 * padding - 1) // 2}.",
        )
    return size


def overlaps(
    input_size: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> tuple[int, ...]:
    """How many cells reach each cell that a transposed convolution gives.

    >>> overlaps(5, 3, stride=2, padding=1)    # 1 and 2 by turns: a checkerboard, before anything is learned
    (1, 2, 1, 2, 1, 2, 1, 2, 1)
    >>> overlaps(5, 4, stride=2, padding=1)    # 2 divides 4: even, but for the borders
    (1, 2, 2, 2, 2, 2, 2, 2, 2, 1)
    >>> overlaps(5, 4, stride=2, padding=3, dilation=2)    # and yet a dilation leaves every other cell without any
    (0, 3, 0, 4, 0, 4, 0, 3, 0)

    Source: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.

    Raises:
        ShapeError: where `conv_transpose_output_size` does.
    """
    size = conv_transpose_output_size(input_size, kernel_size, stride, padding, output_padding, dilation)
    counts = [0] * size
    for cell in range(input_size):
        for tap in range(kernel_size):
            reached = stride * cell + dilation * tap - padding
            if 0 <= reached < size:
                counts[reached] += 1
    return tuple(counts)


def overlap_by_turns(kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[int, ...]:
    """What `overlaps` repeats, away from the borders: a count for each step of the stride.

    >>> overlap_by_turns(3, stride=2), overlap_by_turns(4, stride=2), overlap_by_turns(4, stride=2, dilation=2)
    ((2, 1), (2, 2), (4, 0))
    """
    steps = [dilation * tap % stride for tap in range(kernel_size)]
    return tuple(steps.count(step) for step in range(stride))


def pool_output_size(
    input_size: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    """Size after pooling: relationship 7 with padding and dilation, and PyTorch's `ceil_mode`.

    >>> pool_output_size(27, 2), pool_output_size(27, 2, ceil_mode=True)
    (13, 14)
    >>> pool_output_size(4, 1, stride=3, ceil_mode=True)
    2
    >>> pool_output_size(3, 1, stride=3, ceil_mode=True)    # a last window that starts past the end is dropped
    1

    Args:
        input_size: cells along this axis, at least 1.
        kernel_size: cells of a window, at least 1.
        stride: cells between two windows; `None` means `kernel_size`, so that windows meet without overlap.
        padding: cells on either side, at most half the kernel (PyTorch's rule, whatever the dilation).
        dilation: distance between a window's cells.
        ceil_mode: keep a last window that is only partly inside.

    Raises:
        ShapeError: where `torch.nn.MaxPool1d` refuses the same numbers.
    """
    stride = kernel_size if stride is None else stride
    kernel_size, stride, padding, dilation = _window(kernel_size, stride, padding, dilation)
    if (2 * padding > kernel_size) is True:
        raise ShapeError(
            f"padding is at most half of kernel_size={kernel_size}; {padding} was given.",
            f"Give padding={kernel_size // 2} or less.",
        )
    input_size = whole("input_size", input_size, 1)
    extent = extent_of(kernel_size, dilation)
    reach = input_size + 2 * padding - extent
    if not ceil_mode:
        _check_span(extent, input_size + 2 * padding, padding, most=kernel_size // 2)
        return reach // stride + 1  # relationship 7, with padding
    if (reach + stride <= 0) is True:  # not even one window that is partly inside
        _check_span(extent - stride + 1, input_size + 2 * padding, padding, most=kernel_size // 2)
    # https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool1d.html: "windows that would start in the right
    # padded region are ignored": the smaller holds of ⌈(i + 2p - e)/s⌉ + 1 windows that reach the end and
    # ⌈(i + p)/s⌉ that start before it. Which one that is the settings tell, whatever the size
    if extent >= stride + padding:
        return (reach + stride - 1) // stride + 1
    return (input_size + padding - 1) // stride + 1


def input_sizes(output_size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> range:
    """All the input sizes that a convolution maps to `output_size`: as many as the stride.

    >>> input_sizes(14, 3, stride=2, padding=1)
    range(27, 29)
    >>> list(input_sizes(1, 7))
    [7]

    Raises:
        ShapeError: for settings that no convolution has.
    """
    kernel_size, stride, padding, dilation = _window(kernel_size, stride, padding, dilation)
    output_size = whole("output_size", output_size, 1)
    # relationship 15 solved for i: the smallest has no remainder, the largest a remainder of s - 1
    first = (output_size - 1) * stride + extent_of(kernel_size, dilation) - 2 * padding
    return range(max(first, 1), max(first + stride, 1))


def same_padding(kernel_size: int, dilation: int = 1) -> tuple[int, int]:
    """The cells to add `(before, after)` so that a convolution of stride 1 keeps the size.

    An odd kernel is padded evenly (relationship 3). An even one needs a cell more on one side: after, as PyTorch's
    `padding="same"` has it.

    >>> same_padding(3), same_padding(4), same_padding(4, dilation=2)
    ((1, 1), (1, 2), (3, 3))

    Raises:
        ShapeError: for a kernel or a dilation below 1.
    """
    kernel_size, _, _, dilation = _window(kernel_size, 1, 0, dilation)
    total = dilation * (kernel_size - 1)
    return total // 2, total - total // 2


def strided_same_padding(input_size: Any, kernel_size: int, stride: int = 1, dilation: int = 1) -> tuple[Any, Any]:
    """The cells to add `(before, after)` so that `⌈i / s⌉` windows fit: "same" as TensorFlow has it with a stride.

    They depend on the size, which is why PyTorch has no such padding.

    >>> strided_same_padding(28, 3, stride=2), strided_same_padding(27, 3, stride=2)
    ((0, 1), (1, 1))

    With stride 1 it is `same_padding`. Nothing is ever cropped: a stride beyond the kernel just skips cells.

    Raises:
        ShapeError: for a size, a kernel, a stride or a dilation below 1.
    """
    kernel_size, stride, _, dilation = _window(kernel_size, stride, 0, dilation)
    input_size = whole("input_size", input_size, 1)
    extent = extent_of(kernel_size, dilation)
    total = ((input_size + stride - 1) // stride - 1) * stride + extent - input_size
    if extent == 1:
        return 0, 0
    if extent < stride:  # max(total, 0) as a sum of floors: no symbol is asked for its sign, and none is multiplied
        last = input_size - 1
        total = extent - 1 - sum((last + stride - cell) // stride - last // stride for cell in range(1, extent))
    return total // 2, total - total // 2


def check_border(mode: str, size: Any, before: Any, after: Any) -> None:
    """Refuse a padding that PyTorch cannot fill from so few cells.

    Raises:
        ShapeError: for a reflection of as many cells as there are, or a circle of more.
    """
    if mode not in ("reflect", "circular"):
        return
    wanted = max(before, after) if type(before) is type(after) is int else after  # of symbols the larger one
    needed = wanted + (mode == "reflect")
    if (size < needed) is True:
        raise ShapeError(
            f"{mode} padding of {wanted} needs {_cells(needed)}, and only {size} {'is' if size == 1 else 'are'} there."
        )


def window_of(cell: int, windows: int, kernel_size: int, stride: int, padding: int = 0, dilation: int = 1) -> int:
    """A window of a convolution or pooling that covers the given cell: the last one that does.

    Where nothing covers the cell (a stride beyond the kernel, or the gaps of a dilation), the last window that starts
    at or before it.

    >>> [window_of(cell, 3, kernel_size=2, stride=2) for cell in range(7)]    # 7 → 3: the last cell is in no window
    [0, 0, 1, 1, 2, 2, 2]
    """
    last = min((cell + padding) // stride, windows - 1)
    for window in range(last, max(last - dilation // gcd(stride, dilation), -1), -1):
        offset = cell + padding - window * stride
        if offset % dilation == 0 and offset <= dilation * (kernel_size - 1):
            return window
    return last


class ConvSettings(NamedTuple):
    """The four numbers of a convolution along one axis.

    >>> ConvSettings(3, stride=2, padding=1)
    ConvSettings(kernel_size=3, stride=2, padding=1, dilation=1)
    """

    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1


def solve_conv(
    input_size: int,
    output_size: int,
    *,
    kernel_sizes: Iterable[int] = range(1, 8),
    strides: Iterable[int] = range(1, 5),
    paddings: Iterable[int] | None = None,
    dilations: Iterable[int] = (1,),
) -> list[ConvSettings]:
    """Every setting within the bounds that takes `input_size` to `output_size`, plainest first.

    >>> solve_conv(28, 14)[0]
    ConvSettings(kernel_size=2, stride=2, padding=0, dilation=1)
    >>> solve_conv(28, 14, kernel_sizes=[3])[0]
    ConvSettings(kernel_size=3, stride=2, padding=1, dilation=1)

    Plainest means: a kernel that the stride does not exceed, then no remainder, or a small one, then the smaller
    dilation, stride, kernel and padding.

    Args:
        input_size: cells that go in.
        output_size: cells that shall come out.
        kernel_sizes: the kernels to try; up to 7 by default, the largest of the common backbones.
        strides: the strides to try; up to 4 by default.
        paddings: the paddings to try; by default up to half the kernel's extent, what "same" needs.
        dilations: the dilations to try.

    Returns:
        The settings; empty where none does it.

    Raises:
        ShapeError: for a size, or a bound, that no convolution has.
    """
    whole("input_size", input_size, 1)
    whole("output_size", output_size, 1)
    candidates = _settings(
        list(kernel_sizes), list(strides), None if paddings is None else list(paddings), list(dilations)
    )
    found = [settings for settings in candidates if input_size in input_sizes(output_size, *settings)]
    return sorted(found, key=lambda settings: _plainness(input_size, settings))


def _settings(
    kernel_sizes: list[int], strides: list[int], paddings: list[int] | None, dilations: list[int]
) -> Iterator[ConvSettings]:
    for kernel_size in kernel_sizes:
        for dilation in dilations:
            for padding in range(extent_of(kernel_size, dilation) // 2 + 1) if paddings is None else paddings:
                for stride in strides:
                    yield ConvSettings(kernel_size, stride, padding, dilation)


def _plainness(input_size: int, settings: ConvSettings) -> tuple[object, ...]:
    kernel_size, stride, padding, dilation = settings
    skips = stride > extent_of(kernel_size, dilation)
    return (skips, remainder(input_size, *settings), dilation, stride, kernel_size, padding)
