"""A plan counts what torchinfo and PyTorch count, where they count right; and prints in 80 columns."""

import json

import torchinfo
from hypothesis import example, given

from obverse import Autoencoder, Chain, Conv, ConvTranspose, Flatten, Linear, ReLU
from obverse.testing.strategies import chains_with_shapes

COUNTED = ("Conv", "Linear", "Flatten", "ReLU", "MaxPool")


@given(chains_with_shapes(COUNTED))
@example((Chain(Conv(4, 3, groups=2), Flatten(), Linear(3)), (2, 5, 5)))
def test_parameters_are_those_that_torchinfo_counts(drawn):
    chain, shape = drawn
    counted = torchinfo.summary(chain.build(shape).eval(), (1, *shape), verbose=0)
    assert counted.total_params == chain.plan(shape).parameters


@given(chains_with_shapes(("Conv", "ReLU"), most=3))
@example((Chain(Conv(4, 3, bias=False), ReLU(), Conv(2, 3, stride=2, bias=False)), (2, 9)))
def test_multiply_adds_are_those_that_torchinfo_counts_less_the_biases(drawn):
    chain, shape = drawn
    counted = torchinfo.summary(chain.build(shape).eval(), (1, *shape), verbose=0)
    biases = sum(step.activations for step in chain.plan(shape).steps if getattr(step.block, "bias", False))
    assert counted.total_mult_adds == chain.plan(shape).multiply_adds + biases


def test_torchinfo_counts_a_transposed_convolution_as_if_every_cell_that_comes_out_took_a_whole_kernel():
    chain = Chain(ConvTranspose(4, 4, stride=2, bias=False))
    plan = chain.plan((8, 10))
    assert plan.multiply_adds == 10 * 4 * 8 * 4
    counted = torchinfo.summary(chain.build((8, 10)), (1, 8, 10), verbose=0)
    assert counted.total_mult_adds == 22 * 4 * 8 * 4


def test_activations_are_the_numbers_that_modules_give():
    chain = Chain(Conv(4, 3, stride=2), ReLU(), Conv(2, 3))
    given_out = []
    module = chain.build((1, 28, 28))
    for layer in module:
        layer.register_forward_hook(lambda layer, taken, result: given_out.append(result[0].numel()))
    import torch

    module(torch.rand(3, 1, 28, 28))
    plan = chain.plan((1, 28, 28))
    assert [step.activations for step in plan.steps] == given_out
    assert plan.activations == sum(given_out)


@given(chains_with_shapes())
@example((Chain(Conv(2**20, (3, 5, 7), padding=(1, 2, 3), dilation=(1, 1, 1))), (1, 200, 300, 400)))
def test_a_plan_fits_80_columns_and_every_format_says_the_same(drawn):
    chain, shape = drawn
    plan = chain.plan(shape)
    assert all(len(line) <= 80 for line in str(plan).splitlines())
    said = json.loads(plan.json())
    assert said["steps"] == plan.rows()
    assert [tuple(row["output_shape"]) for row in said["steps"]] == [step.output_shape for step in plan.steps]
    table = [line for line in plan.markdown().splitlines() if line.startswith("|")]
    assert len(table) == len(plan.steps) + 4
    assert plan._repr_html_().count("<tr>") == len(plan.steps) + 3


def test_a_model_has_a_plan_of_both_halves():
    model = Autoencoder(Chain(Conv(4, 3, stride=2), ReLU(), Conv(2, 3)), (1, 28, 28))
    assert json.loads(model.plan.json())["output_shape"] == [1, 28, 28]
