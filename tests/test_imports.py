"""The upper half never imports torch, and one door shows all there is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import obverse
from obverse import errors

SOURCE = Path(obverse.__file__).parent

# Without torch -----------------------------------------------------------------------------------------------------

UPPER_HALF = """
import obverse
from obverse import (
    AdaptiveAvgPool, BatchNorm, Chain, Conv, Dropout, Flatten, Linear, MaxPool, Parallel, Rearrange, ReLU, Residual,
    ShapeError, Skip, mirror,
)
from obverse.config import AutoencoderConfig, from_config, from_json, from_toml, to_config, to_json, to_toml
from obverse.registry import block_class, entries, names

encoder = Chain(
    Chain(Conv(16, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU()),
    Residual(Chain(Conv(16, 3, padding="same"), Dropout())),
    Parallel(Conv(8, 1), Conv(8, 3, padding=1), join="concat"), Skip(), MaxPool(2, ceil_mode=True),
    Rearrange("c (h p) w -> (c p) h w", p=1), AdaptiveAvgPool(2), Flatten(), Linear(12),
)
print(encoder.plan((1, 28, 27)))
decoder = mirror(encoder, (1, 28, 27))
print(decoder, decoder.plan((12,)).multiply_adds, hash(decoder))
assert eval(repr(decoder), {}, {name: block_class(name) for name in names()}) == decoder
assert all(block_class(name).__name__ == name for name in names())
assert from_config(from_json(to_json(encoder.to_config()))) == from_config(from_toml(to_toml(to_config(encoder))))
described = AutoencoderConfig.read(to_config(AutoencoderConfig(encoder, (1, 28, 27), skips=("5",))))
described.check_size()
print(entries(), described.parameters())
try:
    encoder.plan((1, 1, 1, 1, 1))
except ShapeError as error:
    print(error)
"""

BUILDS = """
from obverse import Conv
Conv(16, 3).build((1, 28, 28))
"""

WITHOUT_TORCH = """
import sys

class Without:
    \"\"\"A finder that finds no torch, as on a machine that has none.\"\"\"

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] == "torch" else self.finder.find_spec(name, path, target)

sys.meta_path = [Without(finder) for finder in sys.meta_path]
"""

SAYS_WHETHER = """
import inspect, sys
inspect.stack()  # which looks at every module there is, and wakes stubs that only sleep
print("torch was imported:", "torch" in sys.modules)
"""


def ran(*parts):
    program = "".join(parts)
    return subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)


def test_plans_mirrors_reprs_and_names_do_not_import_torch():
    done = ran(UPPER_HALF, SAYS_WHETHER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("torch was imported: False\n")


def test_nor_do_they_need_it():
    done = ran(WITHOUT_TORCH, UPPER_HALF, SAYS_WHETHER)
    assert done.returncode == 0, done.stderr


def test_a_program_that_does_import_torch_is_caught():
    assert ran(BUILDS, SAYS_WHETHER).stdout.endswith("torch was imported: True\n")
    assert ran("import obverse; obverse.Autoencoder", SAYS_WHETHER).stdout.endswith("torch was imported: True\n")
    done = ran(WITHOUT_TORCH, BUILDS)
    assert done.returncode == 1
    assert "No module named 'torch'" in done.stderr


# One door ----------------------------------------------------------------------------------------------------------

PUBLIC = [
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AvgPool",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "MaxUnpool",
    "Upsample",
    "PixelShuffle",
    "PixelUnshuffle",
    "Linear",
    "Flatten",
    "Unflatten",
    "Rearrange",
    "Pad",
    "Crop",
    "BatchNorm",
    "GroupNorm",
    "LayerNorm",
    "InstanceNorm",
    "Dropout",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "GELU",
    "SiLU",
    "Mish",
    "Tanh",
    "Sigmoid",
    "Softplus",
    "Identity",
    "Pointwise",
    "Residual",
    "Parallel",
    "Chain",
    "Block",
    "Plan",
    "mirror",
    "Encoder",
    "Decoder",
    "Autoencoder",
    "ObverseError",
    "ShapeError",
    "MirrorError",
    "ConfigError",
    "RegistryError",
    "register",
]


def test_all_is_what_is_visible():
    stub = ast.parse((SOURCE / "__init__.pyi").read_text())
    listed = [alias.asname or alias.name for node in stub.body for alias in node.names]
    assert sorted(listed) == sorted(obverse.__all__) == sorted(dir(obverse))
    assert len(listed) == len(set(listed))
    assert set(PUBLIC) <= set(listed)


@pytest.mark.parametrize("name", obverse.__all__)
def test_what_is_visible_is_there_and_documented(name):
    assert getattr(obverse, name).__doc__


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="Convolution"):
        obverse.Convolution  # noqa: B018


def test_every_error_hangs_on_the_tree_that_its_module_draws():
    drawn = errors.__doc__.split()
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    assert len(classes) >= 5
    for value in classes:
        assert issubclass(value, errors.ObverseError)
        assert value.__name__ in drawn
