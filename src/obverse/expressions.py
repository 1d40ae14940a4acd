"""Blocks read from text, in the language of their reprs: `Conv(16, 3, stride=2) >> ReLU()`.

Text is parsed, never evaluated. A name is a block's name in the registry and nothing else; an argument is a plain
value, or a block. So an expression may come from a command line, a form or an address.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any
from warnings import catch_warnings, simplefilter

from obverse.block import Block
from obverse.chain import Chain
from obverse.errors import ConfigError, ObverseError, RegistryError
from obverse.graph import Concat, Copy, Graph, Node, Product, Split, Sum
from obverse.registry import block_class, names, near_misses

__all__ = ["parse"]

LONGEST = 100_000
"""Characters of an expression: a chain of some thousand blocks."""

DEEPEST = 50
"""Brackets in brackets: what nests deeper was not written by hand, and Python's own parser ends at 200."""

WIRING: dict[str, Callable[..., Any]] = {
    part.__name__: part for part in (Graph, Node, Copy, Sum, Concat, Split, Product)
}
"""What the mirrors of graphs are written with, beside the blocks that have a name in the registry."""


def parse(text: str) -> Block:
    """The block that a text describes: what its `repr` says, or blocks joined by `>>`.

    >>> parse("Conv(16, 3, stride=2, padding=1) >> ReLU() >> Conv(12, 7)")
    Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    >>> parse("Conv(16, 3, strides=2) >> ReLU()")
    Traceback (most recent call last):
        ...
    obverse.errors.ConfigError: Conv has no argument 'strides'.
      Conv(16, 3, strides=2) >> ReLU()
                  ^
    Did you mean 'stride'?

    Args:
        text: names of blocks, their arguments as numbers, strings, tuples, `True`, `False`, `None` and further blocks,
            and `>>`; on one line or several.

    Raises:
        ConfigError: with a caret under what is wrong, and the near misses of an unknown name.
    """
    return _Reader(text).block()


class _Reader:
    """One text, read once."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise ConfigError(f"an expression is text; {text!r} was given.", "Give it as in 'Conv(16, 3) >> ReLU()'.")
        self.text = text.strip()
        self.lines = self.text.split("\n")
        if not self.text:
            raise ConfigError("the expression is empty.", "Give it as in 'Conv(16, 3) >> ReLU()'.")
        if len(text) > LONGEST:
            raise ConfigError(
                f"the expression has {len(text):,} characters, and {LONGEST:,} are read.", "Write it as a config file."
            )

    def block(self) -> Block:
        """The block that the whole text describes."""
        node = self._tree()
        if isinstance(node, ast.Tuple):
            raise self.error(node.elts[-1], "blocks are joined by >>, not by a comma.", "Write Conv(16, 3) >> ReLU().")
        value = self.value(node, 0)
        if not isinstance(value, Block):
            raise self.error(node, f"{ast.unparse(node)} is no block.", "Begin with one, as in Conv(16, 3) >> ReLU().")
        return value

    def _tree(self) -> ast.expr:
        # in brackets an expression may take several lines; the first line is then one character further to the right
        try:
            with catch_warnings():
                simplefilter("ignore")  # about a backslash in a string, say: nobody will run this
                tree = ast.parse(f"({self.text}\n)" if len(self.lines) > 1 else self.text, mode="eval").body
        except SyntaxError as error:
            raise self._unreadable(error) from None
        except (RecursionError, MemoryError):
            raise ConfigError(
                f"it nests deeper than can be read: {self.text[:60]}…", "Join many blocks as in Chain(a, b, c)."
            ) from None
        except ValueError as error:
            raise ConfigError(f"it cannot be read: {error}.", "Leave out what is no text.") from None
        loose = len(self.lines) > 1 and (tree.lineno, tree.col_offset) == (1, 0)  # the outer brackets are not ours
        if loose and not isinstance(tree, ast.Tuple):
            raise ConfigError("the brackets do not match.", "Close each once.")
        return tree

    def _unreadable(self, error: SyntaxError) -> ConfigError:
        line, column = error.lineno or 1, (error.offset or 1) - 1
        if len(self.lines) > 1 and line == 1:
            column -= 1
        said = error.msg.removesuffix(". Perhaps you forgot a comma?")
        reason = "a bracket is never closed" if column < 0 or line > len(self.lines) else f"it cannot be read: {said}"
        pointed = self._pointed(min(line, len(self.lines)), max(column, 0))
        return ConfigError(f"{reason}.\n{pointed}", "Write it as in Conv(16, 3, stride=2) >> ReLU().")

    def value(self, node: ast.expr, depth: int) -> Any:
        """What a part of the text stands for: a block, or a plain value."""
        if depth > DEEPEST:
            raise self.error(node, f"it nests more than {DEEPEST} deep here.", "Write it flatter.")
        match node:
            case ast.BinOp(op=ast.RShift()):
                return self.chain(node, depth)
            case ast.Call():
                return self.call(node, depth + 1)
            case ast.Tuple() | ast.List():
                return tuple([self.value(item, depth + 1) for item in node.elts])
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                if not isinstance(number, bool):
                    return -number
            case ast.Constant(value=int() | float() | str() | None as plain):
                return plain
        raise self._not_plain(node)

    def chain(self, node: ast.BinOp, depth: int) -> Block:
        """Blocks joined by `>>`; the left side first, in a loop, since a long chain leans that way."""
        parts: list[ast.expr] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, ast.RShift):
            parts.append(left.right)
            left = left.left
        blocks: list[Block] = []
        for part in [left, *reversed(parts)]:
            block = self.value(part, depth + 1)
            if not isinstance(block, Block):
                raise self.error(part, f"{block!r} is no block, and >> joins blocks.", "Give a block, as in ReLU().")
            blocks += block.blocks if isinstance(block, Chain) else [block]
        return Chain(*blocks)

    def call(self, node: ast.Call, depth: int) -> Any:
        """A name with its arguments: a block, or a part of a graph."""
        made = self.named(node.func)
        self._fit(node, made)
        positional = [self.value(argument, depth) for argument in node.args]
        keywords = {str(keyword.arg): self.value(keyword.value, depth) for keyword in node.keywords}
        try:
            return made(*positional, **keywords)
        except ObverseError as error:
            repair = error.advice() if hasattr(error, "advice") else error.repair
            where = getattr(error, "where", "")
            refusal = self.error(node, f"{where}: {error.reason}" if where else error.reason, repair)
        except (TypeError, ValueError) as error:
            refusal = self.error(node, f"{self._source(node.func)}: {error}.", "")
        raise refusal

    def named(self, func: ast.expr) -> Callable[..., Any]:
        """What a name stands for."""
        if not isinstance(func, ast.Name):
            last = _plain(func.attr) if isinstance(func, ast.Attribute) else ""
            advice = f"Write {last}(...)." if last in names() else "Write a name, as in Conv(16, 3)."
            raise self.error(func, f"{self._source(func)} is no block's name.", advice)
        if func.id in WIRING:
            return WIRING[func.id]
        try:
            return block_class(func.id)
        except RegistryError as error:  # unknown, claimed twice, or broken
            repair = error.repair if func.id in names() else _near(func.id)
            refusal = self.error(func, error.reason, repair)
        raise refusal

    def _fit(self, node: ast.Call, made: Callable[..., Any]) -> None:
        """Refuse arguments that the block has not, has twice, or lacks."""
        name = self._source(node.func)
        parameters = [p for p in signature(made).parameters.values() if p.name != "self"]
        by_place = [p.name for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        by_name = [p.name for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
        kinds = {p.kind for p in parameters}
        takes = f"It takes {', '.join(p.name for p in parameters)}." if parameters else "It takes none."
        for argument in [*node.args, *node.keywords]:
            if isinstance(argument, ast.Starred) or (isinstance(argument, ast.keyword) and argument.arg is None):
                raise self.error(argument, "stars are not read.", "Write the arguments out.")
        if len(node.args) > len(by_place) and Parameter.VAR_POSITIONAL not in kinds:
            extra = node.args[len(by_place)]
            raise self.error(extra, f"{name} takes {_counted(len(by_place))}, and this is one more.", takes)
        given = set(by_place[: len(node.args)])
        for keyword in node.keywords:
            if keyword.arg in given:
                raise self.error(keyword, f"{name} is given {keyword.arg} twice.", "Give it once.")
            if keyword.arg not in by_name and Parameter.VAR_KEYWORD not in kinds:
                near = get_close_matches(str(keyword.arg), by_name, n=1)
                advice = f"Did you mean {near[0]!r}?" if near else takes
                raise self.error(keyword, f"{name} has no argument {keyword.arg!r}.", advice)
            given.add(str(keyword.arg))
        lacking = [p.name for p in parameters if _is_required(p) and p.name not in given]
        if lacking:
            raise self.error(node, f"{name} needs {' and '.join(lacking)}.", takes)

    def _not_plain(self, node: ast.expr) -> ConfigError:
        source = self._source(node)
        if isinstance(node, ast.Name) and (node.id in names() or node.id in WIRING):
            return self.error(node, f"{source} is a block's name.", f"Write {source}(), with its arguments.")
        if isinstance(node, ast.Name):
            return self.error(node, f"{source} is no plain value.", "Give a number, a string, a tuple, or a block.")
        if isinstance(node, ast.BinOp):
            return self.error(node, f"{source}: blocks are joined by >> alone, and sums are not worked out.", "")
        return self.error(node, f"{source} is neither a plain value nor a block.", "Give a number, a string, a tuple.")

    def _source(self, node: ast.AST) -> str:
        source = ast.unparse(node)
        return source if len(source) <= 40 else f"{source[:39]}…"

    def error(self, node: Any, reason: str, repair: str) -> ConfigError:
        """The error about a part of the text, with the part's line and a caret under it."""
        line, column = node.lineno, node.col_offset
        if line == 1 and len(self.lines) > 1:
            column -= 1
        before = self.lines[line - 1].encode()[:column]  # Python counts bytes
        return ConfigError(f"{reason}\n{self._pointed(line, len(before.decode()))}", repair)

    def _pointed(self, line: int, column: int) -> str:
        """A line, or as much of it as there is room for, above a caret."""
        start = max(column - WIDTH // 2, 0) if len(self.lines[line - 1]) > WIDTH else 0
        shown = self.lines[line - 1][start : start + WIDTH]
        return f"  {shown}\n  {' ' * (column - start)}^"


WIDTH = 76
"""Characters of a line that an error shows."""


def _counted(number: int) -> str:
    return f"{number or 'no'} argument{'s' * (number != 1)}"


def _is_required(parameter: Parameter) -> bool:
    variable = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and not variable


def _near(name: str) -> str:
    plain = _plain(name)
    if plain != name and plain in names():
        return f"Write {plain}: how many dimensions there are, and the channels that go in, the shape tells."
    near = near_misses(name, names())
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    return "See `obverse blocks`, or write Pointwise('Name') for a layer of torch.nn that keeps every shape."


def _plain(name: str) -> str:
    """A layer's name without its dimension: `Conv2d` is `Conv`."""
    return name[:-2] if name[-2:] in ("1d", "2d", "3d") else name
