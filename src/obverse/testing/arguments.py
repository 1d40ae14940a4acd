"""Arguments for an author's class, found from the fields of its dataclass."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from inspect import get_annotations
from typing import Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st

from obverse.block import Block, default_of, is_required
from obverse.blocks.conv import Conv
from obverse.blocks.pointwise import Identity, ReLU
from obverse.errors import ObverseError

__all__ = ["blocks_of"]

Drawn = st.SearchStrategy[Any]

MOST = 4
"""The largest integer that is drawn where nothing else is said: kernels and strides that small shapes still take."""

BODIES: tuple[Block, ...] = (Identity(), ReLU(), Conv(2, 3, padding=1), Conv(3, 3, stride=2))
"""What is put where a block takes a block."""


def blocks_of(cls: type[Block], **arguments: Any) -> st.SearchStrategy[Block]:
    """Blocks of a class, with arguments found from its fields' annotations and defaults.

    >>> from hypothesis import find
    >>> find(blocks_of(ReLU), lambda relu: relu.inplace)
    ReLU(inplace=True)
    >>> find(blocks_of(Conv, out_channels=7, kernel_size=st.integers(3, 5)), lambda conv: not conv.bias).out_channels
    7

    Integers are drawn from 1 to 4, or 0 where that is the default; booleans, floats, the values of a `Literal`, tuples
    and unions as annotated. Arguments that the class refuses are not used.

    Args:
        cls: a frozen dataclass.
        **arguments: for any of its fields a strategy, or a value.

    Raises:
        TypeError: for arguments that the class has not, and for fields whose values cannot be guessed.
    """
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]    # every block is one
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise TypeError(
            f"{cls.__name__} has no argument {' and no '.join(map(repr, unknown))}; "
            f"there are {', '.join(known) or 'none'}."
        )
    return _made(
        cls,
        {name: _asked(arguments[name]) if name in arguments else _found(cls, field) for name, field in known.items()},
    )


def _asked(value: Any) -> Drawn:
    return value if isinstance(value, st.SearchStrategy) else st.just(value)


@st.composite
def _made(draw: Any, cls: type[Block], arguments: Mapping[str, Drawn]) -> Block:
    drawn = {name: draw(strategy) for name, strategy in arguments.items()}
    try:
        return cls(**drawn)
    except (ObverseError, ValueError):  # its own business: arguments that do not go together
        return draw(st.nothing())  # type: ignore[no-any-return]


def _found(cls: type[Block], field: Field[Any]) -> Drawn:
    strategy = _from_annotation(_annotation(cls, field), field)
    if strategy is not None:
        return strategy
    if not is_required(field):
        return st.just(default_of(field))
    raise TypeError(
        f"nothing is known of {cls.__name__}.{field.name}: {field.type}. Give a strategy, or a value: "
        f"check_block({cls.__name__}, {field.name}=...)."
    )


def _annotation(cls: type[Block], field: Field[Any]) -> Any:
    """What a field's annotation means; `None` where its names are there for the type checker only."""
    if not isinstance(field.type, str):
        return field.type
    for owner in cls.__mro__:
        if field.name in get_annotations(owner):
            names = vars(sys.modules.get(owner.__module__, types)) | {"Literal": Literal}
            try:
                return eval(field.type, dict(names), dict(vars(owner)))
            except Exception:
                return None
    return None


def _from_annotation(annotation: Any, field: Field[Any] | None = None) -> Drawn | None:
    default = None if field is None or is_required(field) else default_of(field)
    if annotation in PLAIN:
        plain: Drawn | None = PLAIN[annotation](default)
        return plain
    if isinstance(annotation, type) and issubclass(annotation, Block):
        known: list[Any] = [body for body in BODIES if isinstance(body, annotation)]
        return st.sampled_from(known or [default])
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return _one_of(inner, default)
    if origin is tuple:
        drawn = _tuple(inner)
        return drawn if drawn is None or default is None else st.just(default) | drawn
    return None


def _integers(default: Any) -> Drawn:
    if type(default) is not int:
        return st.integers(1, MOST)
    return st.integers(min(default, 1), max(default, MOST))


def _floats(default: Any) -> Drawn:
    return st.sampled_from([*([default] if isinstance(default, (int, float)) else []), 0.5, 1.0, 0.25])


PLAIN: Mapping[Any, Any] = {
    bool: lambda default: st.sampled_from([default, not default]) if type(default) is bool else st.booleans(),
    int: _integers,
    float: _floats,
    type(None): lambda default: st.none(),
    None: lambda default: None,
}
"""What is drawn for a plain type, given the default."""


def _one_of(kinds: Iterable[Any], default: Any) -> Drawn | None:
    """Whatever of a union is known; a default that is no part of it, too."""
    drawn = [strategy for kind in kinds if (strategy := _from_annotation(kind)) is not None]
    if type(default) is int:
        drawn = [_integers(default), *drawn]
    return st.one_of([*([st.just(default)] if default is not None else []), *drawn]) if drawn else None


def _tuple(inner: tuple[Any, ...]) -> Drawn | None:
    if not inner:
        return None
    each = [_from_annotation(kind) for kind in inner if kind is not ...]
    drawn = [strategy for strategy in each if strategy is not None]
    if len(drawn) < len(each):
        return None
    if ... in inner:
        return st.lists(drawn[0], min_size=1, max_size=3).map(tuple)
    return st.tuples(*drawn)
