"""What a module of PyTorch does and everybody counts on, a manner a function, of every block and of models."""

import copy
import io
import pickle
import sys
import textwrap
from pathlib import Path
from sys import executable

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from obverse import (
    Autoencoder,
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Rejoin,
    ReLU,
    Residual,
    Sigmoid,
    Skip,
)
from obverse.registry import BUILT_IN, block_class
from running import called, launched

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import ways_out

SHAPE = (4, 8, 6)
SAID = ways_out.SAID | {
    "Chain": Chain(Conv(4, 3, padding=1), ReLU()),
    "MaxPool": MaxPool(2, ceil_mode=True),
    "AvgPool": AvgPool(2),
    "NearestUnpool": MaxPool(2).mirror((4, 16, 12)),  # not behind its counterpart, as the table has these three
    "MaxUnpool": MaxPool(2, return_indices=True).mirror((4, 16, 12)),
    "Rejoin": Rejoin(),
}


def example_of(name):
    """One sensible block of a kind; the plainest, where that says all."""
    return SAID[name] if name in SAID else block_class(name)()


ENCODER = Chain(
    Chain(Conv(4, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU()),
    Residual(Chain(Conv(6, 3, stride=2, padding=1), ReLU(), Conv(6, 4, padding="same"))),
    MaxPool(2),
    Conv(4, 2),
)
INPUT = (2, 16, 17)
MODELS = {
    "plain": {},
    "skips": {"skips": "concat"},
    "indices": {"encoder": Chain(Conv(4, 3, padding=1), MaxPool(2, return_indices=True), Conv(4, 3, stride=2))},
    "tied": {"tied": True},
    "resize": {"upsampling": "resize"},
    "subpixel": {"upsampling": "subpixel"},
    "dense": {"encoder": Chain(Conv(4, 3, stride=2), Flatten(), Linear(5))},
}
BLOCKS = [name for name in BUILT_IN if block_class(name).around != "takes"]


def model_of(name, **made):
    settings = {"encoder": ENCODER, "output": Sigmoid(), **MODELS[name]}
    return Autoencoder(settings.pop("encoder"), INPUT, **settings, **made)


def made(name, **how):
    """A module by the name of a block or of a model, as it is built on a device and in a dtype."""
    return model_of(name, **how) if name in MODELS else Chain(example_of(name)).build(SHAPE, **how)


def input_of(name, **how):
    return torch.rand(3, *(INPUT if name in MODELS else SHAPE), **how)


def first(result):
    """What comes out, or the reconstruction of it."""
    return result[0] if isinstance(result, tuple) else result


def same(one, other):
    torch.testing.assert_close(first(one), first(other), equal_nan=True)


each = pytest.mark.parametrize("name", [*BLOCKS, *MODELS])
each_model = pytest.mark.parametrize("name", MODELS)


def test_every_block_is_here():
    assert {name for name in BUILT_IN if block_class(name).around == "takes"} == {"MaxUnpool", "Rejoin"}
    for name in BUILT_IN:
        if name != "Rejoin":
            block = example_of(name)
            assert type(block) is block_class(name)
            block.output_shape(SHAPE)


# Made ---------------------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_is_made_on_a_device_and_in_a_dtype(name, dtype):
    with torch.device("cpu"):
        module = made(name, device="meta", dtype=dtype)
    assert {p.device.type for p in [*module.parameters(), *module.buffers()]} <= {"meta"}
    assert {p.dtype for p in module.parameters()} <= {dtype}
    assert first(module(input_of(name, device="meta", dtype=dtype))).dtype == dtype


@each
def test_made_on_meta_it_is_filled_by_load_state_dict(name):
    there, here = made(name).eval(), made(name, device="meta").eval()
    here.load_state_dict(there.state_dict(), strict=True, assign=True)
    x = input_of(name)
    same(here(x), there(x))


@each
def test_made_on_meta_it_is_filled_by_to_empty_and_reset_parameters(name):
    torch.manual_seed(3)
    there = made(name).eval()
    here = made(name, device="meta").to_empty(device="cpu").eval()
    for tensor in [*here.parameters(), *here.buffers()]:
        tensor.data.fill_(7)
    torch.manual_seed(3)
    for module in here.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert here.state_dict().keys() == there.state_dict().keys()
    for key, value in there.state_dict().items():
        assert not (here.state_dict()[key] == 7).any()
        if name != "tied":  # whose decoder, when it is made, draws weights that it then gives up
            torch.testing.assert_close(here.state_dict()[key], value)


# Twins --------------------------------------------------------------------------------------------------------------


def stored(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@each
@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), stored])
def test_a_twin_is_its_own_and_gives_the_same(name, twin_of):
    module, x = made(name).eval(), input_of(name)
    before = first(module(x.clone())).detach()
    twin = twin_of(module)
    same(twin(x.clone()), before)
    assert repr(twin) == repr(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(0.5)
    same(module(x.clone()), before)


# Run ----------------------------------------------------------------------------------------------------------------


@each
def test_train_and_eval_reach_every_part(name):
    module = made(name)
    for way in (module.eval(), module.train()):
        assert {part.training for part in way.modules()} == {way.training}
    state = copy.deepcopy(module.eval().state_dict())
    module(input_of(name))
    torch.testing.assert_close(dict(module.state_dict()), dict(state))  # nothing learns by being looked at


REORDERING = {"Rearrange", "Unflatten", "Flatten"}
"""Blocks that move axes: what lies where in memory is what the shape says."""


@each
def test_channels_last_goes_through(name):
    if name in REORDERING or name == "dense":
        pytest.skip("it moves axes")
    module = made(name).eval()
    expected = first(module(input_of(name).zero_().add_(0.5)))
    module = module.to(memory_format=torch.channels_last)
    x = input_of(name).zero_().add_(0.5).contiguous(memory_format=torch.channels_last)
    given = first(module(x))
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)
    if given.ndim == 4 and name not in ("Linear", "InstanceNorm"):  # PyTorch's own forget it
        assert given.is_contiguous(memory_format=torch.channels_last)


@each
def test_autocast_runs_in_bfloat16_and_gives_a_gradient(name):
    module = made(name)
    x = input_of(name).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = first(module(x.clone()))
    assert result.dtype in (torch.bfloat16, torch.float32)
    result.float().square().sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())


@each
def test_its_repr_says_its_settings(name):
    module = made(name)
    text = repr(module)
    for part in module.modules():
        assert type(part).__name__ in text
    said = [part.extra_repr() for part in module.modules()]
    assert not [words for words in said if "object at 0x" in words]
    if name in MODELS:
        assert module.extra_repr().startswith("2×16×17 → ")
    elif not list(module.parameters()) and getattr(block_class(name), "__dataclass_fields__", {}):
        block = example_of(name)
        settled = {v for f, v in vars(block).items() if f in type(block).__dataclass_fields__ and type(v) is int}
        assert not settled or any(words for words in said), "a setting and nothing said"


@each
def test_hooks_are_called_on_every_part(name):
    module = made(name)
    forward, backward = [], []
    for part in module.modules():
        part.register_forward_hook(lambda part, *_: forward.append(part))
        part.register_full_backward_hook(lambda part, *_: backward.append(part))
    x = input_of(name).requires_grad_()
    first(module(x)).square().sum().backward()
    assert set(forward) == set(module.modules())
    learned = {part for part in module.modules() if list(part.parameters())}
    assert learned <= set(backward)


# torch.func, and gradients of gradients -----------------------------------------------------------------------------


@each
def test_functional_call_uses_what_it_is_given(name):
    module, x = made(name).eval(), input_of(name)
    state = {key: value.detach().clone() for key, value in module.state_dict().items()}
    other = made(name).eval()
    same(functional_call(other, state, (x,)), module(x))


@each
def test_vmap_over_weights_is_an_ensemble(name):
    modules, x = [made(name).eval() for _ in range(2)], input_of(name)
    stacked = {key: torch.stack([m.state_dict()[key] for m in modules]) for key in modules[0].state_dict()}

    def run(state, batch):
        return first(functional_call(modules[0], state, (batch,)))

    if stacked:
        given = vmap(run, in_dims=(0, None), randomness="different")(stacked, x)
    else:
        given = vmap(run, in_dims=(None, 0), randomness="different")({}, torch.stack([x, x]))
    for one, module in zip(given, modules, strict=True):
        torch.testing.assert_close(one, first(module(x)), atol=1e-5, rtol=1e-4)


@each
def test_a_gradient_has_a_gradient(name):
    module = made(name, dtype=torch.float64).eval()
    x = input_of(name, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(first(module(x.clone())).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# Keys, and wrappers -------------------------------------------------------------------------------------------------

KEYS = {
    "Conv": ["0.weight", "0.bias"],
    "SubpixelConv": ["0.weight", "0.bias"],
    "ResizeConv": ["0.weight", "0.bias"],
    "ConvTranspose": ["0.weight", "0.bias"],
    "Linear": ["0.weight", "0.bias"],
    "BatchNorm": [f"0.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")],
    "GroupNorm": ["0.weight", "0.bias"],
    "LayerNorm": ["0.weight", "0.bias"],
    "RMSNorm": ["0.weight"],
    "Graph": ["0.body.weight", "0.body.bias"],
    "Chain": ["0.0.weight", "0.0.bias"],
    "Residual": ["0.body.0.weight", "0.body.0.bias"],
    "Parallel": ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"],
    "plain": [
        *("encoder.0.0.weight", *(f"encoder.0.1.{k}" for k in ("weight", "bias", "running_mean", "running_var"))),
        *("encoder.0.1.num_batches_tracked", "encoder.1.body.0.weight", "encoder.1.body.0.bias"),
        *("encoder.1.body.2.weight", "encoder.1.body.2.bias", "encoder.1.shortcut.weight", "encoder.1.shortcut.bias"),
        *("encoder.3.weight", "encoder.3.bias", "decoder.0.weight", "decoder.0.bias"),
        *("decoder.2.body.0.0.weight", "decoder.2.body.0.0.bias", "decoder.2.body.2.weight", "decoder.2.body.2.bias"),
        *("decoder.2.shortcut.weight", "decoder.2.shortcut.bias"),
        *(f"decoder.3.0.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        *("decoder.3.2.weight", "decoder.3.2.bias"),
    ],
}


@pytest.mark.parametrize("name", [*BLOCKS, "plain"])
def test_the_names_in_its_state_dict_stay(name):
    assert list(made(name).state_dict()) == KEYS.get(name, [])


@each_model
def test_weights_load_from_one_style_of_wrapper_into_another(name):
    module, x = made(name).eval(), input_of(name)
    wrapped = nn.DataParallel(module)
    assert [key.removeprefix("module.") for key in wrapped.state_dict()] == list(module.state_dict())
    same(wrapped(x), module(x))


PROGRAM = """
    import sys
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    sys.path.insert(0, {tests!r})
    from test_manners import INPUT, MODELS, model_of

    rank = int(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for name in MODELS:
        torch.manual_seed(0)
        x = torch.rand(4, *INPUT)
        alone, parallel, sharded = (model_of(name).eval() for _ in range(3))
        for other in (parallel, sharded):
            other.load_state_dict(alone.state_dict())
        expected = alone(x)[0]
        expected.square().mean().backward()
        ddp = DistributedDataParallel(parallel)
        mine = ddp(x[2 * rank : 2 * rank + 2])[0]
        torch.testing.assert_close(mine, expected[2 * rank : 2 * rank + 2], atol=1e-5, rtol=1e-4)
        mine.square().mean().backward()
        for (key, one), other in zip(alone.named_parameters(), parallel.parameters(), strict=True):
            torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-3, msg=lambda m: name + key + m)
        fully_shard(sharded, mesh=mesh)
        shared = sharded(x[2 * rank : 2 * rank + 2])[0]
        torch.testing.assert_close(shared, expected[2 * rank : 2 * rank + 2], atol=1e-5, rtol=1e-4)
        shared.square().mean().backward()
        for (key, one), other in zip(alone.named_parameters(), sharded.parameters(), strict=True):
            whole = other.grad.full_tensor()
            torch.testing.assert_close(whole, one.grad, atol=1e-5, rtol=1e-3, msg=lambda m: name + key + m)
    sys.stdout.write("all %d\\n" % len(MODELS))  # at once: two processes write to one pipe
    sys.stdout.flush()
    dist.barrier()
    dist.destroy_process_group()
"""


def test_wrappers_that_see_only_forward_give_the_gradients_of_one_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM).format(tests=str(Path(__file__).parent)))
    both = tmp_path / "both.py"
    both.write_text(
        textwrap.dedent(f"""
            import os, subprocess, sys
            store = {str(tmp_path)!r} + "/store" + str(os.getpid())
            running = [subprocess.Popen([sys.executable, {str(program)!r}, str(rank), store]) for rank in (0, 1)]
            sys.exit(max(abs(one.wait()) for one in running))
        """)
    )
    done = launched([executable, str(both)], timeout=300)
    assert done.stdout.count(f"all {len(MODELS)}") == 2, done.stderr[-3000:]


@pytest.mark.parametrize("name", ["MaxUnpool"])
def test_what_takes_something_from_round_the_code_takes_it(name):
    block = example_of(name)
    pooled = MaxPool(2, return_indices=True).build((4, 16, 12))
    around = []
    code = called(pooled, torch.rand(3, 4, 16, 12), around)
    assert called(block.build(SHAPE), code, around).shape == (3, 4, 16, 12)
    assert Skip().build(SHAPE)(code) is code
