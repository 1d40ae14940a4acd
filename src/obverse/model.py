"""Encoder, Decoder and Autoencoder: modules grown from a chain and its mirror."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from obverse.block import Block, brief
from obverse.blocks.conv import Style
from obverse.chain import Chain
from obverse.config import MOST_PARAMETERS, AutoencoderConfig, check_number, to_config
from obverse.decoder import counterparts, mirror
from obverse.errors import ConfigError, ShapeError
from obverse.habits import learnable
from obverse.modules import Around, Place, Steps, grow_all
from obverse.plan import Plan
from obverse.ranges import warn_if_out_of_reach
from obverse.rewrite import Skips, with_skips, with_upsampling
from obverse.shapes import Shape, as_shape, beginners_batch, shape_text
from obverse.sketches import page
from obverse.solving import from_shapes
from obverse.starts import start
from obverse.tying import tie

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Autoencoder", "Decoder", "Encoder"]


class Encoder(Steps):
    """The module of a chain, which checks what it is given.

    >>> from obverse import Chain, Conv, ReLU
    >>> encoder = Encoder(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7)), (1, 28, 28))
    >>> list(encoder.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> encoder(torch.rand(5, 1, 29, 29)).shape    # any size that its blocks accept
    torch.Size([5, 12, 9, 9])

    Shapes: `N×C×…` to `N×` the chain's output shape.

    Args:
        block: a chain, or any block.
        input_shape: `(C, *spatial)` of one example, without the batch.
        device: where the parameters are made.
        dtype: of the parameters.

    Raises:
        ShapeError: for images without a batch or with other channels, for pixels that are no floating-point numbers,
            and for sizes that a block refuses.
    """

    def __init__(
        self, block: Block, input_shape: Shape, *, device: Place = None, dtype: torch.dtype | None = None
    ) -> None:
        self.block = as_chain(block)
        self.input_shape = as_shape(input_shape)
        super().__init__(grow_all(self.block, self.input_shape, device, dtype))

    @property
    def output_shape(self) -> Shape:
        """The planned shape of the code."""
        return self.plan.output_shape

    @cached_property
    def plan(self) -> Plan:
        """The chain held against the planned input shape."""
        return Plan.of(self.block, self.input_shape)

    def _repr_html_(self) -> str:
        """Its plan, for notebooks."""
        return page(self.plan)

    def forward(self, x: Tensor, at: Any = None, around: Around | None = None) -> Tensor:
        """The code of a batch; what goes round it is appended to `around`, if given."""
        # while tracing no size is compared: a comparison would tie the exported program to its answer
        if not torch.compiler.is_compiling() and (x.shape[1:] != self.input_shape or not x.is_floating_point()):
            self.check(x)
        return super().forward(x, None, around)

    def check(self, x: Tensor) -> None:
        """Refuse what the encoder does not take.

        Raises:
            ShapeError: saying what to give instead.
        """
        check_batch(x, self.input_shape)
        accept(self.block, self.input_shape, tuple(x.shape[1:]))


def check_batch(x: Tensor, planned: Shape) -> None:
    """Refuse what is no batch of a model, whatever its size.

    Raises:
        ShapeError: saying what to give instead.
    """
    if x.ndim != len(planned) + 1:
        raise _wrong_rank(x, planned)
    if x.shape[1] != planned[0]:
        raise _wrong_channels(x, planned)
    if not x.is_floating_point():
        raise ShapeError(
            f"the images are {str(x.dtype).removeprefix('torch.')}, and a layer takes floating-point numbers.",
            "Give x.float() / 255, for pixels from 0 to 255.",
        )


def _wrong_rank(x: Tensor, planned: Shape) -> ShapeError:
    given, wanted = shape_text(x.shape), f"N×{shape_text(planned)}"
    if x.ndim == len(planned) and tuple(x.shape) == planned:
        advice = "Give x[None]." + (_without_batch(planned) if beginners_batch(planned) else "")
        return ShapeError(f"one image of {given} was given, and a model takes batches, {wanted}.", advice)
    if x.ndim == len(planned) and x.shape[1:] == planned[1:]:
        return ShapeError(f"images of {given} have no channel axis; a model takes {wanted}.", "Give x[:, None].")
    advice = f"Give x of {wanted}."
    if x.ndim == len(planned):
        advice += _without_batch(planned)
    return ShapeError(f"x is {given}, with {x.ndim} axes; a model for {shape_text(planned)} takes {wanted}.", advice)


def _without_batch(planned: Shape) -> str:
    return f" If {planned[0]} in {planned} is the batch, build the model for {planned[1:]}."


def _wrong_channels(x: Tensor, planned: Shape) -> ShapeError:
    advice = f"Build the model for {(x.shape[1], *planned[1:])}."
    if x.shape[-1] == planned[0]:
        back = ", ".join(map(str, range(1, x.ndim - 1)))
        advice = f"The channels seem to come last: give x.permute(0, {x.ndim - 1}, {back})."
    elif planned[0] == 1 and x.shape[1] == 3:
        advice += " Or give it grey images: x.mean(1, keepdim=True)."
    return ShapeError(f"x has {x.shape[1]} channels, and the model was built for {planned[0]}.", advice)


def as_chain(block: Any) -> Chain:
    """A chain as it is; any other block as a chain of one.

    Raises:
        ShapeError: for what is no block.
    """
    return block if isinstance(block, Chain) else Chain(block)


@lru_cache(maxsize=1024)
def accept(chain: Chain, planned: Shape, shape: Shape) -> None:
    """Refuse a shape for which a model built for another one cannot be used.

    Raises:
        ShapeError: where a block refuses the shape, or has parameters whose shapes depend on it.
    """
    code = chain.output_shape(shape)
    there, here = as_chain(mirror(chain, planned)), as_chain(mirror(chain, shape))
    fixed = next(_fixed(chain, planned, chain, shape), None)
    fixed = fixed or next(_fixed(there, chain.output_shape(planned), here, code), None)
    if fixed is not None:
        raise ShapeError(
            f"an input of {shape_text(shape)} cannot be used: the weights of {fixed}.",
            f"Give inputs of {shape_text(planned)}. AdaptiveAvgPool in front of that block makes any size legal.",
        )


def _fixed(built: Chain, planned: Shape, here: Chain, shape: Shape) -> Iterator[str]:
    """The blocks that would need other weights at a shape than those they were built with."""
    links = zip(built.links, built.shapes(planned), here.links, here.shapes(shape), strict=False)
    for (place, block), before, (_, now), at in links:
        if (before, block) != (at, now) and block.parameter_shapes(before) != now.parameter_shapes(at):
            text = f"{brief(block):.120}"
            yield f"block {place}, {text}, were made for {shape_text(before)}, and it gets {shape_text(at)}"


class Decoder(Steps):
    """The module of a mirror: it takes codes back to the shapes that they came from.

    >>> from obverse import Chain, Conv, ReLU
    >>> decoder = Decoder(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7)), (1, 28, 28))
    >>> decoder(torch.rand(5, 12, 8, 8)).shape
    torch.Size([5, 1, 28, 28])
    >>> decoder(torch.rand(5, 12, 8, 8), size=(27, 28)).shape    # both sizes have a code of 8×8
    torch.Size([5, 1, 27, 28])

    At the planned size it costs what its layers cost. At another size it mirrors the encoder once more, at the shape
    to restore, by arithmetic only, and tells its layers the sizes to give out.

    Args:
        encoder: the chain, or block, to mirror.
        input_shape: `(C, *spatial)`, what goes into the encoder and shall come out here.
        output: a block to end with, such as `Sigmoid()` for pixels between 0 and 1.
        upsampling: how the mirrors of strided convolutions make sizes larger, as in `mirror`.
        literal: whether it is the mirror as the shapes ask for it. `False` adds what makes a mirror learn; see
            `obverse.habits.learnable`.
        device: where the parameters are made.
        dtype: of the parameters.

    Raises:
        ShapeError: for codes, or sizes, that the encoder does not give.
    """

    def __init__(
        self,
        encoder: Block,
        input_shape: Shape,
        *,
        output: Block | None = None,
        upsampling: Style = "transpose",
        literal: bool = True,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if output is not None:
            as_chain(output)  # which refuses what is no block
        self.output = output
        self.borrowed: frozenset[str] = frozenset()
        self.output_shape = as_shape(input_shape)
        styled = with_upsampling(as_chain(encoder), self.output_shape, upsampling)
        self.encoder_block = as_chain(styled if literal else learnable(styled, self.output_shape))
        self.input_shape = self.encoder_block.output_shape(self.output_shape)
        self.block = decoder_of(self.encoder_block, self.output_shape, output)
        restored = self.block.output_shape(self.input_shape)
        if restored != self.output_shape:
            raise ShapeError(
                f"with output={output!r} it gives {shape_text(restored)}, not {shape_text(self.output_shape)}.",
                "Give an output that keeps the shape, such as Sigmoid().",
            )
        super().__init__(grow_all(self.block, self.input_shape, device, dtype))
        if not literal:
            start(self)

    @cached_property
    def plan(self) -> Plan:
        """The mirror held against the planned shape of the code."""
        return Plan.of(self.block, self.input_shape, self.borrowed)

    def _repr_html_(self) -> str:
        """Its plan, for notebooks."""
        return page(self.plan)

    def forward(  # type: ignore[override]
        self, code: Tensor, size: int | Sequence[int] | None = None, around: Around | None = None
    ) -> Tensor:
        """The batch that a code stands for.

        Args:
            code: `N×` the shape of a code.
            size: the spatial sizes to restore; without them the planned ones, if the code has the planned shape.
            around: what the encoder handed round the code, if it has such parts; left as it is.
        """
        around = None if around is None else list(around)
        if torch.compiler.is_compiling():
            shape = self.output_shape if size is None else (self.output_shape[0], *_listed(size))
            return self._at(code, shape, around)
        planned = code.shape[1:] == self.input_shape
        if size is None:
            if not planned:
                raise self._which_size(code)
            return Steps.forward(self, code, None, around)
        shape = (self.output_shape[0], *(_listed(size) if not isinstance(size, int) else self._all_axes(size)))
        if planned and shape == self.output_shape:
            return Steps.forward(self, code, None, around)
        return self._told(code, shape, around)

    def _told(self, code: Tensor, shape: Shape, around: Around | None) -> Tensor:
        accept(self.encoder_block, self.output_shape, shape)
        expected = self.encoder_block.output_shape(shape)
        if code.shape[1:] != expected:
            raise ShapeError(
                f"a code of {shape_text(code.shape[1:])} does not come from {shape_text(shape)}, "
                f"which has a code of {shape_text(expected)}.",
                self._sizes_of(code),
            )
        return self._at(code, shape, around)

    def _at(self, code: Tensor, shape: Shape, around: Around | None) -> Tensor:
        known = decoder_of.__wrapped__ if torch.compiler.is_compiling() else decoder_of
        block = known(self.encoder_block, shape, self.output)
        return Steps.forward(self, code, (block, tuple(code.shape[1:])), around)

    def _all_axes(self, size: int) -> Shape:
        return (size,) * (len(self.output_shape) - 1)

    def _which_size(self, code: Tensor) -> ShapeError:
        if code.ndim != len(self.input_shape) + 1 or code.shape[1] != self.input_shape[0]:
            return ShapeError(
                f"a code of {shape_text(code.shape)} was given; the decoder takes N×{shape_text(self.input_shape)}.",
                "Give what the encoder gives.",
            )
        return ShapeError(
            f"a code of {shape_text(code.shape[1:])} is not the planned {shape_text(self.input_shape)}, "
            "and does not tell its size.",
            self._sizes_of(code),
        )

    def _sizes_of(self, code: Tensor) -> str:
        channels, *planned = self.output_shape
        try:
            axes = self.encoder_block.accepts((channels, *(None for _ in planned))).with_code(code.shape[1:])
        except ShapeError:  # it cannot be said axis by axis
            return f"Give the size that it was made of, as in decode(code, size={tuple(planned)})."
        if not all(axes):
            return "No input has such a code."
        example = tuple(next(iter(sizes)) for sizes in axes)
        return (
            f"Inputs of {' by '.join(map(str, axes))} have such a code: "
            f"give one of them, as in decode(code, size={example})."
        )


def _listed(size: Any) -> Shape:
    return tuple(size)


@lru_cache(maxsize=1024)
def decoder_of(encoder: Chain, shape: Shape, output: Block | None) -> Chain:
    """The decoder's blocks at a shape: the whole mirror, and the output at its end."""
    blocks = as_chain(mirror(encoder, shape)).blocks
    return Chain(*blocks) if output is None else Chain(*blocks, output)


class Autoencoder(nn.Module):
    """An encoder and the decoder that returns exactly the shape that went in.

    >>> from obverse import Chain, Conv, ReLU, Sigmoid
    >>> encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    >>> model = Autoencoder(encoder, (1, 28, 28), output=Sigmoid())
    >>> reconstruction, code = model(torch.rand(5, 1, 28, 28))
    >>> reconstruction.shape, code.shape
    (torch.Size([5, 1, 28, 28]), torch.Size([5, 12, 1, 1]))
    >>> model(torch.rand(5, 1, 27, 31))[0].shape    # the model that was built for 28×28
    torch.Size([5, 1, 27, 31])

    Args:
        encoder: a chain, or any block.
        input_shape: `(C, *spatial)` of one example, without the batch: what is planned for, and cheapest.
        output: a block to end with, such as `Sigmoid()` for pixels between 0 and 1; nothing by default, since only the
            data tell what range they have.
        skips: `"concat"` or `"add"` makes a U-Net: what reaches each block with a stride above 1 is handed round the
            code, and joined where its mirror restores that shape, aligned at every size. Or the places to skip from, as
            a plan shows them, `("2", "4")`, or `{"2": "add"}`. The input itself never skips unless it is named.
        tied: whether each convolution and linear layer of the decoder uses the weight of its counterpart, transposed,
            with a bias of its own. It is one parameter, the encoder's, used twice.
        upsampling: how the mirrors of strided convolutions make sizes larger: `"transpose"`, or `"resize"` or
            `"subpixel"`, which have no checkerboard. For a single block say it there, `Conv(..., upsampling="resize")`.
        literal: whether the decoder is the mirror and no more, which is so by default: a chain that is written out is
            mirrored as it stands. `False` adds what makes a mirror learn (see `obverse.habits.learnable`), and is the
            default for a module, which was not made to be mirrored.
        device: where the parameters are made; `"meta"` allocates nothing.
        dtype: of the parameters.

    A module in place of a block is kept as it is, on its device and in its dtype, and a decoder is grown for it that
    learns well. It takes `output` and `upsampling`, and `until` (the part of the module that gives the code, by its
    path or itself), `freeze_encoder`, `approximate` (whether a step without an exact mirror may be followed along its
    main path) and `literal` (whether the mirror stays as the shapes alone ask for it; see `obverse.habits.learnable`).

    >>> tied = Autoencoder(encoder, (1, 28, 28), tied=True)
    >>> sum(p.numel() for p in model.parameters()), sum(p.numel() for p in tied.parameters())
    (47245, 23677)
    >>> [name for name in tied.state_dict() if name.startswith("decoder")]
    ['decoder.0.bias', 'decoder.2.bias', 'decoder.4.bias']

    `forward(x)` gives `(reconstruction, code)`, always two items. `state_dict` has the keys of the model that one would
    write by hand, `encoder.0.weight` to `decoder.4.bias`.

    Raises:
        ShapeError: for a shape that the encoder does not take, and for tied weights in another style than
            `"transpose"`.
    """

    _compared = False

    def __new__(cls, encoder: Any = None, *_: Any, **options: Any) -> Autoencoder:
        """A module in place of a chain makes a model that keeps it."""
        is_module = isinstance(encoder, nn.Module)
        _check_options(encoder, is_module, options)
        if cls is Autoencoder and is_module:
            from obverse.lifting.model import LiftedAutoencoder

            return super().__new__(LiftedAutoencoder)
        return super().__new__(cls)

    def __init__(
        self,
        encoder: Block,
        input_shape: Shape,
        *,
        output: Block | None = None,
        skips: Skips = None,
        tied: bool = False,
        upsampling: Style = "transpose",
        literal: bool = True,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if skips is not None and not isinstance(skips, (str, bool)):
            skips = dict(skips) if isinstance(skips, Mapping) else tuple(skips)
        if tied and upsampling != "transpose":
            raise ShapeError(
                f"tied weights are those of transposed convolutions; upsampling={upsampling!r} has others.",
                "Leave out upsampling, or tied.",
                where="Autoencoder",
            )
        if tied and not literal:
            raise ShapeError(
                "tied weights are those of the mirror; with literal=False it is not the encoder's.",
                "Leave out literal, or tied.",
                where="Autoencoder",
            )
        chain = with_skips(as_chain(encoder), as_shape(input_shape), skips)
        self._given = AutoencoderConfig(encoder, as_shape(input_shape), output, skips, tied, upsampling, literal)  # type: ignore[arg-type]
        self.encoder = Encoder(chain, input_shape, device=device, dtype=dtype)
        self.decoder = Decoder(
            chain, input_shape, output=output, upsampling=upsampling, literal=literal, device=device, dtype=dtype
        )
        self.tied = tied
        if tied:
            self._tie()

    @classmethod
    def from_shapes(
        cls, shapes: Sequence[Shape], *, kernel_size: int | None = None, activation: Block | None = None, **options: Any
    ) -> Autoencoder:
        """The plainest model that goes through the given shapes: for those who have sizes, and no kernels.

        >>> model = Autoencoder.from_shapes([(1, 28, 28), (16, 14, 14), (32, 7, 7), (12, 1, 1)])
        >>> model.encoder.block
        Chain(Conv(16, 2, stride=2), ReLU(), Conv(32, 2, stride=2), ReLU(), Conv(12, 7))

        Args:
            shapes: what goes in, and what shall come out of each stage; the last one is the code's.
            kernel_size: of every stage; by default the plainest that does it.
            activation: the block between two stages; `ReLU()` by default.
            **options: what `Autoencoder` takes.

        Raises:
            ShapeError: where no convolution goes from one shape to the next, with the nearest that can be had.
        """
        return cls(from_shapes(shapes, kernel_size=kernel_size, activation=activation), shapes[0], **options)

    def _tie(self) -> None:
        pairs = list(counterparts(self.encoder.block, self.decoder.block, self.input_shape))
        tie(self.encoder, self.decoder, pairs)
        self.decoder.borrowed = frozenset(f"{place}.weight" for _, place in pairs)

    @property
    def input_shape(self) -> Shape:
        """The shape of one example that was planned for."""
        return self.encoder.input_shape

    @property
    def code_shape(self) -> Shape:
        """The shape of its code."""
        return self.encoder.output_shape

    @property
    def numbers_through(self) -> int:
        """How many numbers the code of one example has, at the planned size."""
        return prod(self.code_shape)

    @property
    def numbers_around(self) -> int:
        """How many numbers of one example go round the code (skips, unpooling indices), at the planned size.

        >>> from obverse import Chain, Conv
        >>> encoder = Chain(Conv(8, 3, stride=2, padding=1), Conv(4, 3, stride=2, padding=1))
        >>> [Autoencoder(encoder, (1, 28, 28), skips=skips).numbers_around for skips in (None, "add")]
        [0, 1568]
        """
        return self.encoder.block.numbers_around(self.input_shape)

    @cached_property
    def plan(self) -> Plan:
        """Encoder and decoder as one chain, held against the planned input shape."""
        borrowed = [f"1.{name}" for name in self.decoder.borrowed]
        return Plan.of(Chain(self.encoder.block, self.decoder.block), self.input_shape, borrowed)

    def _repr_html_(self) -> str:
        """The hourglass and the plans of its halves, for notebooks."""
        encoder, _ = self.plan.chain
        return page(Plan.of(encoder, self.input_shape), self.decoder.plan)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and code of a batch."""
        self._compare(x)
        around: Around | None = [] if self.encoder.block.around else None
        code = self.encoder(x, around=around)
        return self.decoder(code, x.shape[2:], around), code

    def _compare(self, x: Tensor) -> None:
        """Warn, on the first batch in training, if the output cannot give it back."""
        if torch.compiler.is_compiling() or self._compared or not self.training or self.decoder.output is None:
            return
        self._compared = True
        warn_if_out_of_reach(self.decoder.output, x)

    def encode(self, x: Tensor, around: Around | None = None) -> Tensor:
        """The code of a batch.

        Args:
            x: the batch.
            around: a list, to which is appended what goes round the code (skips, places of the largest values).
        """
        code: Tensor = self.encoder(x, around=around)
        return code

    def decode(self, code: Tensor, size: int | Sequence[int] | None = None, around: Around | None = None) -> Tensor:
        """The batch that a code stands for.

        >>> from obverse import Chain, Conv
        >>> model = Autoencoder(Chain(Conv(4, 3, stride=2)), (1, 28, 28))
        >>> model.decode(torch.rand(5, 4, 14, 14))
        Traceback (most recent call last):
            ...
        obverse.errors.ShapeError: a code of 4×14×14 is not the planned 4×13×13, and does not tell its size.
        Inputs of 29..30 by 29..30 have such a code: give one of them, as in decode(code, size=(29, 29)).

        Args:
            code: what `encode` gave.
            size: the spatial sizes to restore. Without them the planned ones, if the code has the planned shape.
            around: what `encode` appended to its list, where the model has parts that go round the code.

        Raises:
            ShapeError: without a size for a code of another shape, listing the sizes that have such a code; with a
                size that has another code; and where something went round the code and is missing.
        """
        reconstruction: Tensor = self.decoder(code, size, around)
        return reconstruction

    def export(self, path: str | Path | None = None) -> ExportedProgram:
        """The model as a program with free batch and free sizes; written to `path`, a `.pt2` or an `.onnx`, if given.

        See `obverse.exporting.export`.
        """
        from obverse.exporting import export

        return export(self, path)

    def to_config(self) -> dict[str, Any]:
        """What the model was made from, as plain values for JSON and TOML.

        >>> from obverse import Chain, Conv
        >>> model = Autoencoder(Chain(Conv(4, 3, stride=2)), (1, 28, 28), tied=True)
        >>> config = model.to_config()
        >>> config["input_shape"], config["tied"], Autoencoder.from_config(config).to_config() == config
        ([1, 28, 28], True, True)

        Raises:
            ConfigError: for a block that cannot be written, as in `obverse.config.to_config`.
        """
        return to_config(self._given)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        plugins: Collection[str] | None = None,
        max_parameters: int = MOST_PARAMETERS,
        device: Place = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """The model that a config describes, with new weights.

        Args:
            config: as `to_config` gives it.
            plugins: names of the plugins that may be imported; by default all that are installed.
            max_parameters: how many numbers the model may hold; they are counted before any is allocated.
            device: where the parameters are made.
            dtype: of the parameters.

        Raises:
            ConfigError: for anything that describes no model, and for one that is too large.
        """
        given = AutoencoderConfig.read(config, plugins)
        given.check_size(max_parameters)
        arguments: dict[str, Any] = {field.name: getattr(given, field.name) for field in fields(given)}
        try:
            model = cls(**arguments, device="meta")  # which allocates nothing: buffers have not been counted yet
            tensors = [*model.parameters(), *model.buffers()]
            check_number(sum(tensor.numel() for tensor in tensors), max_parameters)
            return cls(**arguments, device=device, dtype=dtype) if device != "meta" else model.to(dtype)
        except (ShapeError, RuntimeError) as error:  # of sizes that even the meta device does not take
            raise ConfigError(f"the config describes no model that can be built: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the model to a folder: `config.json`, `model.safetensors`, and a `README.md` if there is none.

        See `obverse.hub.save`.
        """
        from obverse.hub import save

        save(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, plugins: Collection[str] = (), **options: Any) -> Self:
        """The model that was saved to a folder, or to a repository of the Hugging Face Hub.

        See `obverse.hub.load`.
        """
        from obverse.hub import load

        return load(cls, folder, plugins=plugins, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Save the model to a repository of the Hugging Face Hub; gives the address of the commit.

        Args:
            repo_id: `"somebody/something"`.
            **options: what `huggingface_hub.ModelHubMixin.push_to_hub` takes: `private`, `token`, `commit_message`, …
        """
        from obverse.hub import push

        return push(self, repo_id, **options)

    def summary(self, batch_size: int = 1, **options: Any) -> str:
        """The table that torchinfo prints, as text.

        Args:
            batch_size: examples in the batch that it is counted for.
            **options: what `torchinfo.summary` takes.

        Raises:
            ImportError: if torchinfo is not installed: `pip install "obverse[summary]"`.
        """
        try:
            import torchinfo
        except ImportError as error:
            raise ImportError('the summary is torchinfo\'s: pip install "obverse[summary]"') from error
        return str(torchinfo.summary(self, input_size=(batch_size, *self.input_shape), verbose=0, **options))

    def extra_repr(self) -> str:
        shapes = f"{shape_text(self.input_shape)} → {shape_text(self.code_shape)} → {shape_text(self.input_shape)}"
        round_ = f", {self.numbers_around:,} numbers round the code" if self.numbers_around else ""
        return f"{shapes}, {self.numbers_through:,} numbers through the code{round_}"


OF_MODULES = {
    "until": "cut the chain itself: chain[:3]",
    "freeze_encoder": "model.encoder.requires_grad_(False) does it",
    "approximate": "its mirror is exact",
}
"""Options of a model whose encoder is a module, and what to do with an encoder of blocks."""
OF_BLOCKS = {
    "tied": "lift it: Autoencoder(lift(module, shape), shape, tied=True)",
    "device": "the model is made where the module is: module.to(...)",
    "dtype": "the model is made in the module's dtype: module.to(...)",
}


def _check_options(encoder: Any, is_module: bool, options: Mapping[str, Any]) -> None:
    """Refuse options of the other kind of encoder.

    Raises:
        ShapeError: saying what to do instead.
    """
    others = OF_BLOCKS if is_module else OF_MODULES
    for name in others.keys() & options.keys():
        raise ShapeError(
            f"{name} is an option for an encoder {'of blocks' if is_module else 'that is a module'}; "
            f"a {type(encoder).__name__} was given.",
            f"Leave it out; {others[name]}.",
            where="Autoencoder",
        )
