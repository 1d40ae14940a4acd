"""Which backbones have a mirror: a table of models, cut before the global pool and whole, at several sizes."""

from __future__ import annotations

import sys
import time
import warnings

import torch
from torch import nn

SIZES = ((224, 224), (225, 225), (197, 243))


def cut_before_pool(model: nn.Module, shape: tuple[int, ...]) -> str:
    """The path of the last module at the top of a model whose output still has more than one cell."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    handles = []
    names = {id(part): name for name, part in model.named_modules() if name}
    for part in model.modules():
        if part is not model:
            handles.append(
                part.register_forward_hook(
                    lambda m, a, out: seen.append((names[id(m)], out.shape)) if isinstance(out, torch.Tensor) else None
                )
            )
    with torch.no_grad():
        model(torch.empty(2, *shape, device="meta"))
    for handle in handles:
        handle.remove()
    lists = {name for name, part in model.named_modules() if isinstance(part, (nn.ModuleList, nn.ModuleDict))}
    tops = [(name, size) for name, size in seen if "." not in name or name.rpartition(".")[0] in lists and name.count(".") == 1]
    spatial = [name for name, size in tops if len(size) > 2 and max(size[2:]) > 1 or len(size) == 3]
    return spatial[-1] if spatial else ""


def tried(model: nn.Module, until: str | None, **how) -> dict[str, str]:
    from obverse.lifting.model import LiftedAutoencoder

    result: dict[str, str] = {}
    try:
        both = LiftedAutoencoder(model, (3, 224, 224), until=until, **how).eval()
    except Exception as error:
        return {"224×224": f"{type(error).__name__}: {error}"[:3000]}
    for size in SIZES:
        x = torch.empty(2, 3, *size, device="meta")
        try:
            with torch.no_grad():
                both.encode(x)
        except Exception:
            result[f"{size[0]}×{size[1]}"] = "encoder refuses"
            continue
        try:
            with torch.no_grad():
                y, _ = both(x)
            result[f"{size[0]}×{size[1]}"] = "yes" if y.shape == x.shape else f"{tuple(y.shape)}"
        except Exception as error:
            result[f"{size[0]}×{size[1]}"] = f"{type(error).__name__}: {error}"[:1500]
    return result


def main() -> None:
    import torchvision

    names = sys.argv[1:] or [name for name in torchvision.models.list_models(module=torchvision.models)]
    for name in names:
        start = time.time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with torch.device("meta"):
                    model = torchvision.models.get_model(name, weights=None).eval()
            except NotImplementedError:
                model = torchvision.models.get_model(name, weights=None).eval().to("meta")
        until = cut_before_pool(model, (3, 224, 224))
        for cut in (until, None):
            print(name, cut, tried(model, cut), f"{time.time() - start:.1f}", flush=True)


if __name__ == "__main__":
    main()
