"""What to say of an operation that no rule knows, and the lines that add one."""

from __future__ import annotations

from math import prod

from obverse.lifting.recording import BATCH, Call, Value
from obverse.shapes import Shape, shape_text

__all__ = ["complaint"]


def complaint(call: Call) -> tuple[str, str]:
    """What is wrong, and the lines that mend it.

    The lines run as they are. Their mirror is a plain one, learned where the shape changes; whoever knows what the
    operation does knows a better one.
    """
    place = ".".join(call.label.split(".")[:-1]) or "the module itself"
    shapes = " and ".join(map(_said, call.inputs))
    kind = f"the layer {call.path!r}, a {call.name}" if call.module is not None else f"{call.name}(), in {place}"
    where = f", at {call.source}" if call.source else ""
    reason = (
        f"{kind}{where}, takes {shapes} to {_said(call.outputs[0])}, and nothing takes that back.\n"
        f"Tried: {_tried(call)}."
    )
    return reason, f"Add a rule, such as this one, with a mirror that suits the operation:\n\n{_lines(call)}\n"


def _said(value: Value) -> str:
    """The shape of an example, or of the batch where that is not in front."""
    if value.has_batch or value.parts == 0:
        return shape_text(value.shape)
    batch = "batch" if value.parts == 1 else f"({value.parts}·batch)"
    return "×".join(batch if size == value.parts * BATCH else str(size) for size in value.sizes)


def _tried(call: Call) -> str:
    name = call.name
    own = f"a rule for {name}" if call.module is not None else f"a rule for the function {name!r}"
    shells = [scope.path for scope in reversed(call.scopes) if scope.path]
    listed = f" ({', '.join(shells)})" if shells else ""
    return (
        f"{own}; to keep a module around it whole, which must take one value and give one of the same shape{listed}; "
        "to keep whole what lies between two values of the same shape"
    )


def _lines(call: Call) -> str:
    mirror = _plain_mirror(call.inputs[0].shape, call.outputs[0].shape)
    if call.module is not None:
        kind = type(call.module)
        head = f"from {kind.__module__} import {kind.__qualname__.split('.')[0]}\n\n@lift.register({kind.__qualname__})"
        if "<locals>" in kind.__qualname__:
            head = f"@lift.register({kind.__name__})"
        body = f"def rule(module, shape):\n    return lift.kept(module, {mirror})"
    else:
        head = f"@lift.function({call.name!r})"
        body = f"def rule(call):\n    return lift.followed(call, {mirror})"
    return f"from obverse import Chain, Conv, Flatten, Identity, Linear, Unflatten, Upsample, lift\n\n{head}\n{body}"


def _plain_mirror(before: Shape, after: Shape) -> str:
    if before == after:
        return "Identity()"
    if len(before) == len(after) and 2 <= len(before) <= 4:
        size = f"Upsample(size={before[1:]})"
        return size if before[0] == after[0] else f"Chain(Conv({before[0]}, 1), {size})"
    return f"Chain(Flatten(), Linear({prod(before)}), Unflatten(1, {before}))"
