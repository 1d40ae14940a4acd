"""Blocks that are broken in one way each: what the kit must find, and nothing else.

Each is a sound block, `Scale` or `Border`, with one thing changed; its docstring names the check, then says what it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from obverse import Block, Crop, Identity, Skip, register
from obverse.shapes import Shape
from obverse.sight import Window

# Sound ---------------------------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x * self.weight.reshape(-1, *[1] * (x.ndim - 2)))

    def after(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True, repr=False)
class Scale(Block):
    """A number a channel, multiplied with it: learned, and of the same shape."""

    pointwise = True

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": shape[:1]}

    def build(self, shape: Shape) -> nn.Module:
        return Scaled(shape[0])


class Padded(nn.Module):
    def __init__(self, rank: int, before: int = 1, after: int = 1) -> None:
        super().__init__()
        self.amounts = [before, after] * rank

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self.amounts)


@dataclass(frozen=True, repr=False)
class Border(Block):
    """Zeros around every spatial axis: linear, and of another shape."""

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) == 1:
            raise self.refuse(shape, "there is no axis to pad.")
        return (shape[0], *(size + 2 for size in shape[1:]))

    def mirror(self, shape: Shape) -> Block:
        return Crop((1, 1))

    def build(self, shape: Shape) -> nn.Module:
        return Padded(len(shape) - 1)

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return (Window(centre=-1),) * (len(shape) - 1)


@dataclass(frozen=True, repr=False)
class Inner(Block):
    """What a border was put around, the mirror of `Border`."""

    def output_shape(self, shape: Shape) -> Shape:
        return Crop((1, 1)).output_shape(shape)

    def mirror(self, shape: Shape) -> Block:
        return Border()

    def build(self, shape: Shape) -> nn.Module:
        return Crop((1, 1)).build(shape)


def module_of(function: Callable[[nn.Module, Tensor], Tensor], **held: Any) -> nn.Module:
    """A module of one function, of a class that cannot be imported, with what it holds."""

    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(self, x)

    module = Module()
    for name, value in held.items():
        setattr(module, name, value)
    return module


# Broken on paper -----------------------------------------------------------------------------------------------------


class OneMoreRow(Border):
    """promise: while it is trained a row more comes out than is said."""

    adjoint = False

    def build(self, shape: Shape) -> nn.Module:
        rank = len(shape) - 1
        return module_of(lambda self, x: nn.functional.pad(x, [1, 1 + self.training] * rank))


class TooCareful(Border):
    """refusals: it refuses single cells, which its module takes."""

    def output_shape(self, shape: Shape) -> Shape:
        if 1 in shape[1:]:
            raise self.refuse(shape, "a single cell.")
        return super().output_shape(shape)


class LooseInner(Inner):
    def build(self, shape: Shape) -> nn.Module:
        whole, cropped = Identity().build(shape), super().build(shape)
        return module_of(lambda self, x: whole(x) if self.training else cropped(x))


class WrongMirror(Border):
    """mirror: while its mirror is trained it does not crop."""

    adjoint = False

    def mirror(self, shape: Shape) -> Block:
        return LooseInner()


class ForgetfulInner(Inner):
    def mirror(self, shape: Shape) -> Block:
        return Identity()


class WrongWayBack(Border):
    """mirrored_twice: the mirror's mirror does not pad."""

    adjoint = False

    def mirror(self, shape: Shape) -> Block:
        return ForgetfulInner()


class Miscounted(Skip):
    """around: it says that a number more goes round the code."""

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) == 1:
            raise self.refuse(shape, "there is no axis to join along.")
        return super().output_shape(shape)

    def numbers_around(self, shape: Shape) -> int:
        return super().numbers_around(shape) + 1


class Misnamed(Scale):
    """parameters: its parameter has another name on paper."""

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"scale": shape[:1]}


class Expensive(Scale):
    """multiply_adds: it counts a multiplication that there is not."""

    def multiply_adds(self, shape: Shape) -> int:
        return 1


class Squinting(Border):
    """sight: its windows are a cell beside where they say."""

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return (Window(centre=0),) * (len(shape) - 1)


# Broken in numbers ---------------------------------------------------------------------------------------------------


class Shifted(Border):
    """adjoint: it pads behind only, and its mirror crops on both sides."""

    def build(self, shape: Shape) -> nn.Module:
        return Padded(len(shape) - 1, 0, 2)

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return (Window(),) * (len(shape) - 1)


class RememberingInner(Inner):
    def build(self, shape: Shape) -> nn.Module:
        def crop(self: nn.Module, x: Tensor) -> Tensor:
            for axis, size in enumerate(shape[1:], start=2):
                x = x.narrow(axis, 1, size - 2)
            return x

        return module_of(crop)


class Remembering(Border):
    """any_size: the module of its mirror gives the size that it was built for."""

    adjoint = False

    def mirror(self, shape: Shape) -> Block:
        return RememberingInner()


class Centred(Scale):
    """batch: it subtracts the mean of the batch."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def after(self, x: Tensor) -> Tensor:
                return x - x.mean(0)

        return Module(shape[0])


class Unlearned(Scale):
    """gradients: its weight is cut off the graph."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def forward(self, x: Tensor) -> Tensor:
                return x * self.weight.detach().reshape(-1, *[1] * (x.ndim - 2))

        return Module(shape[0])


class Single(Scale):
    """dtype: it gives float32, whatever it is given."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def after(self, x: Tensor) -> Tensor:
                return x.float()

        return Module(shape[0])


class OnTheProcessor(Scale):
    """device: its weight is made on the CPU by name."""

    def build(self, shape: Shape) -> nn.Module:
        module = Scaled(shape[0])
        module.weight = nn.Parameter(torch.ones(shape[:1], device="cpu"))
        return module


class Untold(Scale):
    """state_dict: what it saw in training is in no buffer."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def __init__(self, channels: int) -> None:
                super().__init__(channels)
                self.seen = torch.zeros(())

            def after(self, x: Tensor) -> Tensor:
                if self.training:
                    self.seen = self.seen + x.detach().mean()
                return x - self.seen

        return Module(shape[0])


class Locked(Scale):
    """deepcopy: its module holds a lock."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def __init__(self, channels: int) -> None:
                super().__init__(channels)
                self.lock = threading.Lock()

        return Module(shape[0])


class ScaledWithFunction(Scaled):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.function = lambda x: x


class Functional(Scale):
    """pickle: its module holds a function without a name."""

    def build(self, shape: Shape) -> nn.Module:
        return ScaledWithFunction(shape[0])


# Broken as a value ---------------------------------------------------------------------------------------------------


class Wordy(Scale):
    """repr: what it says of itself cannot be pasted."""

    def __repr__(self) -> str:
        return "a scale of each channel"


@dataclass(frozen=True, repr=False)
class Translating(Block):
    """replace: it keeps its argument in another form than the one that it takes."""

    percent: int = 100

    pointwise = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "percent", self.percent / 100)

    def __repr__(self) -> str:
        return f"Translating({round(self.percent * 100)})"

    def build(self, shape: Shape) -> nn.Module:
        return nn.Identity()


@dataclass(unsafe_hash=True, repr=False)
class Settable(Block):
    """equality: its argument can be set, and its hash changes with it."""

    amount: int = 1

    pointwise = True

    def build(self, shape: Shape) -> nn.Module:
        return nn.Identity()


@register
@dataclass(frozen=True, repr=False)
class Unwritable(Block):
    """config: it holds a set, which no config can."""

    amount: int = 1

    pointwise = True

    def __post_init__(self) -> None:
        if isinstance(self.amount, int):
            object.__setattr__(self, "amount", frozenset({self.amount}))

    def build(self, shape: Shape) -> nn.Module:
        return nn.Identity()


# Broken when traced --------------------------------------------------------------------------------------------------


class Breaking(Scale):
    """compile: it breaks the graph."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def after(self, x: Tensor) -> Tensor:
                torch._dynamo.graph_break()
                return x

        return Module(shape[0])


class Comparing(Scale):
    """export: it compares the size of the batch."""

    def build(self, shape: Shape) -> nn.Module:
        class Module(Scaled):
            def after(self, x: Tensor) -> Tensor:
                return x + 0 if x.shape[0] == 3 else x

        return Module(shape[0])


SOUND = (Scale, Border, Inner)
BROKEN = (
    *(OneMoreRow, TooCareful, WrongMirror, WrongWayBack, Miscounted, Misnamed, Expensive, Squinting, Shifted),
    *(Remembering, Centred, Unlearned, Single, OnTheProcessor, Untold, Locked, Functional, Wordy, Translating),
    *(Settable, Unwritable, Breaking, Comparing),
)
