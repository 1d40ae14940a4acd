"""Write tools/torch.inv: where PyTorch's pages are, for the names that our reference shows.

PyTorch publishes such an inventory of all its names; ours holds only those that signatures of ours have, so that the
docs are built without asking anybody. Names that torch no longer has are refused.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from pathlib import Path

TARGET = Path(__file__).with_name("torch.inv")

PAGES = {
    "torch.Tensor": "tensors.html#torch.Tensor",
    "torch.device": "tensor_attributes.html#torch.device",
    "torch.dtype": "tensor_attributes.html#torch.dtype",
    "torch.nn.Module": "generated/torch.nn.Module.html#torch.nn.Module",
    "torch.nn.Sequential": "generated/torch.nn.Sequential.html#torch.nn.Sequential",
    "torch.optim.Optimizer": "optim.html#torch.optim.Optimizer",
    "torch.export.ExportedProgram": "user_guide/torch_compiler/export/api_reference.html#torch.export.ExportedProgram",
}


def inventory() -> bytes:
    """The file, in version 2 of Sphinx's format."""
    for name in PAGES:
        module, _, attribute = name.rpartition(".")
        getattr(import_module(module), attribute)
    head = "# Sphinx inventory version 2\n# Project: PyTorch\n# Version: stable\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = "".join(f"{name} py:class 1 {page} -\n" for name, page in sorted(PAGES.items()))
    return head.encode() + zlib.compress(lines.encode(), 9)


if __name__ == "__main__":
    TARGET.write_bytes(inventory())
