"""Which backbones have a mirror: every classification model of torchvision, and one of each architecture of timm.

    python tools/coverage_of_backbones.py                  all of torchvision, and of timm where it is installed
    python tools/coverage_of_backbones.py resnet18 swin_t  only those, of torchvision
    python tools/coverage_of_backbones.py --write          into docs/coverage.md

Everything is on the meta device: shapes are those of real forward passes, numbers there are none. A mirror counts where
its module, run on what the encoder gives, has exactly the shape of the encoder's input: the literal mirror, and the one
that learns, too.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from obverse import ObverseError, lift, mirror
from obverse.lifting import Lifted
from obverse.shapes import Shape, shape_text

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
SIZES = ((224, 224), (225, 225), (197, 243))
MANNERS = ("exact", "kept", "whole", "approximate")


@dataclass
class Result:
    """What became of one model: for each size yes, no, or a refusal by the encoder; and how its steps are mirrored."""

    name: str
    until: str
    sizes: dict[Shape, str] = field(default_factory=dict)
    manners: Counter[str] = field(default_factory=Counter)
    trouble: str = ""

    @property
    def has_mirror(self) -> bool:
        """Whether the first size is restored, and every other that the encoder takes."""
        answers = list(self.sizes.values())
        return bool(answers) and answers[0] == "yes" and set(answers) <= {"yes", "–"}


def weightless(make: type | object, *args: object, **kwargs: object) -> nn.Module:
    """A model on the meta device; the few that compute while they are made are made first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return make(*args, **kwargs).eval()
        except (NotImplementedError, RuntimeError):
            return make(*args, **kwargs).eval().to("meta")


def measured(name: str, model: nn.Module, shapes: Sequence[Shape], until: str, approximate: bool = False) -> Result:
    """Try one model at some shapes, always with the same decoder."""
    result = Result(name, until)
    try:
        block = lift(model, shapes[0], until=until, approximate=approximate)
        ways = {"until": until, "approximate": approximate}
        decoders = [mirror(model, shapes[0], literal=literal, **ways).eval() for literal in (True, False)]
        if isinstance(block, Lifted):
            result.manners = Counter(manner for _, manner in block.drawing(shapes[0]).manners.values())
    except Exception as error:  # whatever it is, the other models are still of interest
        result.sizes[shapes[0]], result.trouble = "no", said_by(error)
        return result
    for shape in shapes:
        try:
            code = block.output_shape(shape)
            if not isinstance(block, Lifted):  # which was run; a chain only counts
                with torch.no_grad():
                    model(torch.empty(2, *shape, device="meta"))
        except (ObverseError, RuntimeError):
            result.sizes[shape] = "–"  # the encoder itself refuses it
            continue
        try:
            with torch.no_grad():
                restored = [decoder(torch.empty(2, *code, device="meta"), size=shape[1:]) for decoder in decoders]
            wrong = [given.shape[1:] for given in restored if given.shape != (2, *shape)]
            result.sizes[shape] = shape_text(wrong[0]) if wrong else "yes"
        except Exception as error:
            result.sizes[shape], result.trouble = "no", said_by(error)
    return result


def said_by(error: Exception) -> str:
    """The first line of an error, named if it is not ours."""
    line = " ".join(str(error).split("\n")[0].split())
    return line if isinstance(error, ObverseError) else f"{type(error).__name__}: {line}"


def before_pool(model: nn.Module) -> str:
    """The path of what stands in front of the pool: the last part at the top that gives more than one cell."""
    names = {part: path for path, part in model.named_modules()}
    lists = {path for path, part in model.named_modules() if isinstance(part, nn.ModuleList)}
    tops = {path for path in names.values() if path and ("." not in path or path.rpartition(".")[0] in lists)}
    seen: list[str] = []

    def note(part: nn.Module, _: object, given: object) -> None:
        if names[part] in tops and isinstance(given, torch.Tensor) and given.ndim > 2 and max(given.shape[2:]) > 1:
            seen.append(names[part])

    handles = [part.register_forward_hook(note) for part in model.modules()]
    with torch.no_grad():
        model(torch.empty(2, 3, 224, 224, device="meta"))
    for handle in handles:
        handle.remove()
    return next(path for path in reversed(seen) if path != "avgpool")


def of_torchvision(names: Sequence[str]) -> Iterator[tuple[Result, Result]]:
    """Each model, cut before its global pool, and whole."""
    import torchvision

    shapes = [(3, *size) for size in SIZES]
    for name in names or torchvision.models.list_models(module=torchvision.models):
        model = weightless(torchvision.models.get_model, name, weights=None)
        yield measured(name, model, shapes, before_pool(model)), measured(name, model, shapes, "")


def of_timm() -> Iterator[Result]:
    """The smallest model of each architecture file, without its pool and head; approximate where nothing else does."""
    import timm

    for architecture in sorted(timm.models._registry._module_to_models):
        found = smallest(architecture)
        if found is None:
            continue
        name, model = found
        shape = model.default_cfg["input_size"]
        result = measured(f"{architecture}: {name}", model, [shape], "")
        if not result.has_mirror:
            trouble = result.trouble
            result = measured(result.name, model, [shape], "", approximate=True)
            result.trouble = result.trouble or trouble
        yield result


def smallest(architecture: str) -> tuple[str, nn.Module] | None:
    """The model with the fewest parameters in a file of timm, and its name."""
    import timm

    found: list[tuple[int, str, nn.Module]] = []
    for name in sorted(timm.models._registry._module_to_models[architecture]):
        for settings in ({"num_classes": 0, "global_pool": ""}, {"num_classes": 0}, {}):
            try:
                model = weightless(timm.create_model, name, **settings)
            except Exception:  # whatever a model says to settings that it has not
                continue
            found.append((sum(p.numel() for p in model.parameters()), name, model))
            break
        found = [min(found, key=lambda entry: entry[:2])] if found else []
    return (found[0][1], found[0][2]) if found else None


# The table ---------------------------------------------------------------------------------------------------------


def table_of_torchvision(pairs: Sequence[tuple[Result, Result]]) -> Iterator[str]:
    """The models by rows, the sizes by columns."""
    sizes = " | ".join(shape_text(size) for size in SIZES)
    cut, whole = (sum(pair[at].has_mirror for pair in pairs) for at in (0, 1))
    yield f"torchvision: {cut} of {len(pairs)} cut before the global pool, {whole} of {len(pairs)} whole.\n"
    yield f"| model | cut at | {sizes} | whole, {sizes.replace(' | ', ' | whole, ')} | {' | '.join(MANNERS)} |"
    yield "|---" * (2 + 2 * len(SIZES) + len(MANNERS)) + "|"
    for part, all_of_it in pairs:
        answers = [result.sizes.get((3, *size), "no") for result in (part, all_of_it) for size in SIZES]
        yield f"| {part.name} | {part.until} | {' | '.join(answers)} | {counted(all_of_it)} |"
    yield from troubles([result for pair in pairs for result in pair])


def table_of_timm(results: Sequence[Result]) -> Iterator[str]:
    """One model a row."""
    strict = sum(result.has_mirror and not result.manners["approximate"] for result in results)
    some = sum(result.has_mirror for result in results)
    share, most = 100 * strict / len(results), 100 * some / len(results)
    yield f"timm: {strict} of {len(results)} ({share:.0f} %), {some} with approximate mirrors ({most:.0f} %).\n"
    yield f"| architecture: model | shape | mirror | {' | '.join(MANNERS)} |"
    yield "|---" * (3 + len(MANNERS)) + "|"
    for result in results:
        (shape, answer), *_ = result.sizes.items()
        yield f"| {result.name} | {shape_text(shape)} | {answer} | {counted(result)} |"
    yield from troubles(results)


def counted(result: Result) -> str:
    """How many steps are mirrored in which manner."""
    return " | ".join(str(result.manners[manner] or "") for manner in MANNERS)


def troubles(results: Sequence[Result]) -> Iterator[str]:
    """What is in the way where a mirror is missing, or only approximate."""
    lines = [
        f"- {result.name}{f' until {result.until}' * bool(result.until)}: {result.trouble}"
        for result in results
        if result.trouble
    ]
    yield from ["", "What has no mirror of its own:", "", *lines] if lines else []


HEAD = """# Coverage

Which backbones have a mirror, as `make coverage` finds it: the decoder's output has exactly the shape of the encoder's
input, at every size that the encoder takes, with the same decoder and the same weights. That holds for the literal
mirror and for [the one that learns](learning.md). `–` says that the encoder itself refuses a size. The last columns
count the steps of a network by how they are mirrored:

- **exact**: a counterpart of adjoint shape (a transposed convolution, a sum for a copy, the inverse of a permutation);
- **kept**: a step that keeps its shape, as it is (a norm, an activation);
- **whole**: a module that keeps its shape and whose inside has no transpose, as it is (squeeze-excitation, attention),
  or what lies between two values of the same shape where no module does;
- **approximate**: the main path alone (attention that changes its shape); only with `approximate=True`.

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the tables; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models of torchvision; all by default")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--only", choices=["torchvision", "timm"], help="one of the two libraries")
    options = parser.parse_args(arguments)
    lines: list[str] = []
    if options.only != "timm":
        lines += ["## torchvision", "", *table_of_torchvision(list(of_torchvision(options.names)))]
    if options.only != "torchvision" and not options.names:
        try:
            lines += ["", "## timm", "", *table_of_timm(list(of_timm()))]
        except ImportError:
            sys.stderr.write("timm is not installed: pip install timm\n")
    text = "\n".join(lines) + "\n"
    if options.write:
        PAGE.write_text(HEAD + text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
