"""What to say of an operation that no rule knows, and the lines that add one."""

from __future__ import annotations

from obverse.lifting.recording import BATCH, Call
from obverse.lifting.rules_of_functions import FUNCTIONS
from obverse.lifting.rules_of_modules import RULES
from obverse.shapes import Shape, shape_text

__all__ = ["complaint"]


def complaint(call: Call, around: str = "", approximately: bool = False) -> tuple[str, str]:
    """What is wrong, and the lines that mend it.

    The lines run as they are. Their mirror is a plain one, learned where the shape changes; whoever knows what the
    operation does knows a better one.

    Args:
        call: what was recorded.
        around: where the module that was recorded is in what somebody gave.
        approximately: whether an approximate mirror would do.
    """
    inside = call.path if call.module is not None else ".".join(call.label.split(".")[:-1])
    place = ".".join(filter(None, (around, inside)))
    layer = f"the layer {place!r}, a {call.name}" if place else f"the module itself, a {call.name}"
    kind = layer if call.module is not None else f"{call.name}(), in {place or 'the module itself'}"
    where = f", at {call.source}" if call.source else ""
    if not all(value.has_batch for value in (*call.inputs, call.outputs[0])):
        before = " and ".join(_with_batch(value.sizes) for value in call.inputs)
        mixed = (
            f"{kind}{where}, takes {before} to {_with_batch(call.outputs[0].sizes)}, where N is the batch: what one "
            "example has is mixed with it, and a mirror knows one example."
        )
        return mixed, (
            "Leave the batch as the first axis, x.flatten(1) and the like; or do it in a module that takes and gives "
            "one shape, which is kept whole."
        )
    shapes = " and ".join(shape_text(value.shape) for value in call.inputs)
    reason = (
        f"{kind}{where}, takes {shapes} to {shape_text(call.outputs[0].shape)}, and nothing takes that back.\n"
        f"Tried: {_tried(call, around)}."
    )
    main_path = (
        "Give approximate=True, which follows its main path and drops the rest. Or add" if approximately else "Add"
    )
    return reason, f"{main_path} a rule, such as this one, with a mirror that suits the operation:\n\n{_lines(call)}\n"


def _with_batch(sizes: Shape) -> str:
    """Sizes as they are recorded, with N for the batch."""
    return "×".join(f"{size // BATCH if size > BATCH else ''}N" if size % BATCH == 0 else str(size) for size in sizes)


def _tried(call: Call, around: str) -> str:
    name = call.name
    own = f"a rule for {name}" if call.module is not None else f"a rule for the function {name!r}"
    shells = [".".join(filter(None, (around, scope.path))) for scope in reversed(call.scopes)]
    shells = [path for path in shells if path]
    tried = f"{own}; to keep a module around it whole, which must take one value and give one of the same shape"
    listed = f" ({', '.join(shells)})" if shells else ""
    return f"{tried}{listed}; to keep whole what lies between two values of the same shape"


def _lines(call: Call) -> str:
    if call.module is not None:
        kind = type(call.module)
        more = ", otherwise=True" if kind in RULES else ""
        head = f"from {kind.__module__} import {kind.__qualname__.split('.')[0]}\n\n"
        head += f"@lift.register({kind.__qualname__}{more})"
        if "<locals>" in kind.__qualname__:
            head = f"@lift.register({kind.__name__}{more})"
        start = "def rule(module, shape):\n"
        way = f"lift.kept(module, {_plain_mirror(call.inputs[0].shape, call.outputs[0].shape)})"
    else:
        more = ", otherwise=True" if call.name in FUNCTIONS else ""
        head = f"@lift.function({call.name!r}{more})"
        start = "def rule(call):\n    shape = call.input_shape\n"
        way = f"lift.followed(call, {_plain_mirror(call.inputs[0].shape, call.outputs[0].shape)})"
    imports = sorted(name for name in ("Chain", "Conv", "Flatten", "Identity", "Linear", "Unflatten", "Upsample")
                     if f"{name}(" in way)  # fmt: skip
    math = "from math import prod\n\n" if "prod(" in way else ""
    return f"{math}from obverse import {', '.join(imports)}, lift\n\n{head}\n{start}    return {way}"


def _plain_mirror(before: Shape, after: Shape) -> str:
    """What restores the shape, from the shape: it holds at every size, as long as no axis is lost."""
    if before == after:
        return "Identity()"
    if len(before) == len(after) and 2 <= len(before) <= 4:
        size = "Upsample(size=shape[1:])"
        return size if before[0] == after[0] else f"Chain(Conv(shape[0], 1), {size})"
    return "Chain(Flatten(), Linear(prod(shape)), Unflatten(1, shape))"
