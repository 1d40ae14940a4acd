"""Sizes as letters: formulas of sympy, made plain and written as people write them.

sympy is needed for letters only, and imported when the first one is met.
"""

from __future__ import annotations

from typing import Any

from obverse.errors import ObverseError
from obverse.later import Later

__all__ = ["formula_text", "is_symbolic", "plain", "symbol"]

sympy: Any = Later("sympy")


def symbol(name: str) -> Any:
    """A size of which only the name is known: a positive integer.

    Raises:
        ObverseError: where sympy is not installed.
    """
    try:
        return sympy.Symbol(name, integer=True, positive=True)
    except ImportError:
        raise ObverseError(
            f"{name!r} stands for a size, and formulas are sympy's, which is not installed.",
            'Install it, pip install "obverse[symbols]", or give a number.',
        ) from None


def is_symbolic(size: Any) -> bool:
    """Whether a size is a formula with letters in it."""
    return type(size) is not int and bool(getattr(size, "free_symbols", ()))


def plain(formula: Any) -> Any:
    """A formula with floors of floors made one, and numbers drawn together; any other size as it is.

    >>> from obverse.arithmetic import conv_output_size
    >>> once = conv_output_size(symbol("n"), 3, stride=2, padding=1)
    >>> plain(conv_output_size(once, 3, stride=2, padding=1))
    floor(n/4 - 1/4) + 1
    """
    if not is_symbolic(formula):
        return int(formula) if getattr(formula, "is_Integer", False) else formula
    return sympy.expand(formula.replace(lambda part: isinstance(part, sympy.floor), _one_floor))


def _one_floor(floor: Any) -> Any:
    """`⌊(⌊x⌋ + k) / d⌋ = ⌊(x + k) / d⌋` for whole k and d."""
    inside = sympy.expand(floor.args[0])
    for term in sympy.Add.make_args(inside):
        share, factor = term.as_coeff_Mul()
        rest = sympy.expand((inside - term) / share)
        if isinstance(factor, sympy.floor) and share.p == 1 and rest.is_integer:
            return _one_floor(sympy.floor(sympy.expand((factor.args[0] + rest) * share)))
    return sympy.floor(inside)


def formula_text(size: Any) -> str:
    """A size as people write it, and as Python reads it.

    >>> formula_text(plain((symbol("H") - 1) // 2 + 1)), formula_text(28)
    ('(H + 1)//2', '28')
    """
    return _text(size) if is_symbolic(size) else str(size)


def _text(part: Any) -> str:
    if isinstance(part, sympy.Add):
        return _sum_text(part)
    if isinstance(part, sympy.floor):
        above, below = sympy.together(part.args[0]).as_numer_denom()
        return f"{_factor_text(sympy.expand(above))}//{below}"
    if isinstance(part, sympy.Mul):
        return "*".join(f"({_text(factor)})" if not factor.is_Atom else str(factor) for factor in part.args)
    if isinstance(part, sympy.Mod):
        return f"{_factor_text(part.args[0])} % {_factor_text(part.args[1])}"
    if isinstance(part, sympy.Pow):
        return f"{_factor_text(part.args[0])}**{part.args[1]}"
    return str(part)


def _factor_text(part: Any) -> str:
    return str(part) if part.is_Atom else f"({_text(part)})"


def _sum_text(whole: Any) -> str:
    """Terms with letters first; a number is drawn into the one floor that stands alone."""
    number, terms = whole.as_coeff_add()
    floors = [term for term in terms if isinstance(term, sympy.floor)]
    if number and len(floors) == 1 and len(terms) == 1:
        return _text(_unreduced(floors[0], number))
    texts = [(_text(-term), " - ") if term.could_extract_minus_sign() else (_text(term), " + ") for term in terms]
    texts += [(str(abs(number)), " - " if number < 0 else " + ")] if number else []
    texts.sort(key=lambda text: text[1] == " - ")
    first, sign = texts[0]
    return ("-" if sign == " - " else "") + first + "".join(sign + text for text, sign in texts[1:])


def _unreduced(floor: Any, number: Any) -> Any:
    return sympy.floor(sympy.expand(floor.args[0] + number), evaluate=False)
