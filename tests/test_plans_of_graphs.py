"""A plan opens the graphs in it: its rows say what the modules do, cost as much as the whole, and fit a screen."""

import json
from functools import cache
from io import StringIO
from itertools import groupby

import pytest
import torch
from hypothesis import example, given
from torch import nn

from obverse import (
    AdaptiveAvgPool,
    Autoencoder,
    Chain,
    Conv,
    MaxPool,
    Parallel,
    ReLU,
    Residual,
    ShapeError,
    lift,
    mirror,
)
from obverse.graph import Copy, Graph, Node, Product, Sum
from obverse.plan import Plan, lines
from obverse.testing.strategies import chains_with_shapes

torchvision = pytest.importorskip("torchvision")

SHAPE = (3, 64, 64)
BACKBONES = {
    "resnet18": "layer4",
    "squeezenet1_1": "features",
    "densenet121": "features.transition1",
    "efficientnet_b0": "features.3",
    "convnext_tiny": "features.3",
    "swin_t": "features.3",
    "vit_b_16": None,
}
DEPTHS = (None, 0, 1, 2, 3, "all")


@cache
def backbone(name):
    with torch.device("meta"):
        module = getattr(torchvision.models, name)(**({"image_size": 64} if name == "vit_b_16" else {}))
    return module.eval()


@cache
def plan_of(name):
    return Autoencoder(backbone(name), SHAPE, until=BACKBONES[name]).plan


def in_a_line(chain):
    """A chain's blocks as a graph."""
    nodes = [Node(link.place, link.block, (at,), (at + 1,)) for at, link in enumerate(chain.links)]
    return Graph(*nodes)


@pytest.mark.parametrize("name", BACKBONES)
def test_rows_at_every_depth_cost_what_the_whole_costs(name):
    plan = plan_of(name)
    for depth in DEPTHS:
        rows = plan.rows(depth)
        assert sum(row["parameters"] for row in rows) == plan.parameters
        assert sum(row["multiply_adds"] for row in rows) == plan.multiply_adds
        assert json.loads(plan.json(depth))["steps"] == rows
        assert tuple(rows[-1]["output_shape"]) == plan.output_shape
    assert len(plan.rows()) == len(plan.steps) == 2


@pytest.mark.parametrize("name", BACKBONES)
def test_the_table_of_a_backbone_is_a_screenful_for_each_half(name):
    plan = plan_of(name)
    for depth in DEPTHS:
        table = plan.table(depth).splitlines()
        assert all(len(line) <= 80 for line in table)
        assert len(table) == len(lines(plan, depth)) + 3
    assert len(lines(plan)) <= 2 * 25
    assert str(plan).startswith(plan.table())


def test_rows_of_a_backbone_are_what_its_modules_give_and_learn():
    with torch.device("meta"):
        module, images = torchvision.models.resnet18().eval(), torch.rand(1, *SHAPE)
    given_out = {}

    def remember(name):
        return lambda part, taken, result: given_out.update({name: tuple(result.shape[1:])})

    hooks = [part.register_forward_hook(remember(name)) for name, part in module.named_modules()]
    module(images)
    for hook in hooks:
        hook.remove()
    parts = dict(module.named_modules())
    plan = Plan.of(lift(module, SHAPE, until="layer4"), SHAPE)
    found = 0
    for depth in (1, 2, "all"):
        for row in plan.rows(depth):
            name = row["place"].removeprefix("0.")
            if name in given_out and row["output_shape"] is not None:
                assert row["output_shape"] == list(given_out[name])
                assert row["parameters"] == sum(each.numel() for each in parts[name].parameters())
                found += 1
    assert found > 50


def test_what_is_not_run_and_what_a_module_keeps_for_itself_have_rows():
    resnet = {row["place"]: row for row in plan_of("resnet18").rows("all")}
    assert (resnet["0.0.fc"]["block"], resnet["0.0.fc"]["parameters"]) == ("not run", 513_000)
    vit = {row["place"]: row for row in plan_of("vit_b_16").rows("all")}
    assert (vit["0.0.class_token"]["block"], vit["0.0.class_token"]["parameters"]) == ("a parameter", 768)
    assert vit["0.0.encoder.pos_embedding"]["parameters"] == 17 * 768
    assert vit["0.0.class_token"]["output_shape"] is None
    places = list(vit)
    assert places.index("0.0.encoder.pos_embedding") == places.index("0.0.encoder.ln") + 1


def test_parameters_belong_to_the_nearest_node():
    nodes = [Node("a", Conv(4, 3, bias=False), (0,), (1,)), Node("a.b", Conv(4, 1, bias=False), (1,), (2,))]
    graph = Graph(*nodes)
    assert [row["parameters"] for row in Chain(graph).plan((1, 9)).rows("all")] == [12, 16]
    assert {name: weight.numel() for name, weight in graph.build((1, 9)).named_parameters()} == {
        "a.weight": 12,
        "a.b.weight": 16,
    }


def test_a_row_of_several_steps_leads_from_what_the_first_takes_to_what_the_last_gives():
    chain = Chain(Chain(Conv(4, 3, stride=2), ReLU(), Conv(8, 3)), Chain(MaxPool(2), Conv(16, 3)))
    plan = Chain(in_a_line(chain)).plan((1, 64, 64))
    first, second = plan.rows(1)
    assert (first["block"], second["block"]) == ("3 steps", "2 steps")
    assert (first["input_shape"], first["output_shape"]) == ([1, 64, 64], [8, 29, 29])
    assert (second["input_shape"], second["output_shape"]) == ([8, 29, 29], [16, 12, 12])
    assert first["activations"] == 2 * 4 * 31 * 31 + 8 * 29 * 29
    *_, one, other, _ = plan.cells(1)
    assert one == ("0.0", "3 steps", "8×29×29", "336", f"{4 * 9 * 31**2 + 8 * 36 * 29**2:,}", "7×7")
    assert (other[2], other[5]) == ("16×12×12", "17×17")


@given(chains_with_shapes())
@example((Chain(Conv(4, 3, stride=2), ReLU(), MaxPool(2), Residual(Conv(4, 3, padding=1))), (2, 21)))
def test_blocks_in_a_graph_have_the_rows_that_they_have_in_a_chain(drawn):
    chain, shape = drawn
    if any(block.around for _, block in chain.links):  # which a chain hands round the code, and a graph keeps
        return
    front = Conv(shape[0], 3, padding=1)
    flat, opened = Chain(front, *[block for _, block in chain.links]), Chain(front, in_a_line(chain))
    for one, other in zip(flat.plan(shape).rows(), opened.plan(shape).rows("all"), strict=True):
        assert one | {"place": ""} == other | {"place": ""}


def test_a_module_that_runs_twice_is_counted_once():
    conv = Conv(4, 3, padding=1, bias=False)
    graph = Graph(Node("same", conv, (0,), (1,)), Node("act", ReLU(), (1,), (2,)), Node("same", conv, (2,), (3,)))
    rows = Chain(graph).plan((4, 9)).rows("all")
    assert [row["parameters"] for row in rows] == [4 * 4 * 3, 0, 0]
    assert [row["multiply_adds"] for row in rows] == [9 * 48, 0, 9 * 48]
    built = graph.build((4, 9))
    assert sum(parameter.numel() for parameter in built.parameters()) == 48


def test_borrowed_parameters_are_not_counted_inside_either():
    plan = Plan.of(in_a_line(Chain(Conv(4, 3), Conv(4, 3))), (1, 9, 9), borrowed=["0.0.weight", "0.1.bias"])
    assert [row["parameters"] for row in plan.rows("all")] == [4, 4 * 4 * 9]
    assert plan.parameters == 4 + 4 * 4 * 9


def test_a_value_handed_on_has_no_row_and_one_that_is_joined_has():
    shared = [Node("fan", Copy(3), (0,), (1, 2, 3)), Node("gate", ReLU(), (1,), (4,))]
    graph = Graph(*shared, Node("join", Product(), (2, 4), (5,)), Node("sum", Sum(2), (5, 3), (6,)))
    plan = Chain(graph).plan((4, 9))
    assert [row["place"] for row in plan.rows("all")] == ["0.gate", "0.join", "0.sum"]
    assert [row["block"] for row in plan.rows("all")] == ["ReLU()", "Product()", "Sum(number=2)"]


def test_what_was_written_by_hand_stays_one_row():
    chain = Chain(Residual(Conv(4, 3, padding=1)), Parallel(Conv(4, 1), Conv(4, 3, padding=1)))
    plan = chain.plan((4, 9, 9))
    assert [line.steps for line in lines(plan, "all")] == [(step,) for step in plan.steps]


def test_rows_below_a_heading_are_as_deep_as_fits():
    sizes = {depth: len(lines(plan_of("resnet18"), depth)) for depth in (1, 2, "all")}
    assert sizes[1] < sizes[2] < sizes["all"]
    assert lines(plan_of("resnet18")) == lines(plan_of("resnet18"), 2)
    many = in_a_line(Chain(*[ReLU()] * 30))  # names without a dot, which nothing can sum up
    assert len(lines(Chain(many).plan((1, 9)))) == 31


@pytest.mark.parametrize("depth", [-1, 1.5, "everything", True])
def test_another_depth_is_refused_with_its_value(depth):
    with pytest.raises(ShapeError, match="depth") as refused:
        Chain(Conv(4, 3)).plan((1, 9, 9)).table(depth)
    assert str(depth).removeprefix("True") in str(refused.value)


def test_places_in_markdown_and_html_are_whole():
    plan = plan_of("resnet18")
    for table in (plan.markdown(), plan._repr_html_()):
        assert all(line.place in table for line in lines(plan))
    assert "| 0.0.layer1.0 | 7 steps | 64×16×16 |" in plan.markdown()
    assert "| 0.0 | `Lifted(ResNet, until='layer4')` | | | | |" in plan.markdown()
    assert plan._repr_html_().count("<tr>") == len(lines(plan)) + 3


def test_a_wide_table_shows_more_of_each_block():
    plan = plan_of("resnet18")
    assert "….encoder_layer_0  11 steps  " in plan_of("vit_b_16").table(3)
    assert "Conv(64, 7, stride=2, padding=3, bias=False)" in plan.table("all", width=120)
    assert "layer4.0.downsample.0" in plan.table("all", width=120)
    assert "Conv(64, 7, stride=2, padding=3, bias=False)" not in plan.table("all")


def test_formulas_are_opened_as_numbers_are():
    pytest.importorskip("sympy")
    chain = Chain(Conv(4, 3, stride=2, padding=1), ReLU(), MaxPool(3, stride=2), AdaptiveAvgPool((5, None)), Conv(1, 3))
    flat, opened = chain.plan((1, "H", "W")), Chain(in_a_line(chain)).plan((1, "H", "W"))
    table = opened.table().splitlines()
    assert [line.split()[0] for line in table[2:] if not line.startswith("    ")] == ["0", "0", "1", "2", "3", "4"]
    assert table[3].endswith("4 × (H + 1)//2 × (W + 1)//2")
    for one, other in zip(flat.rows(), opened.rows("all"), strict=True):
        assert one | {"place": ""} == other | {"place": ""}


def test_notes_that_say_the_same_are_one_with_all_places():
    chain = Chain(*[Conv(4, 3, stride=2, padding=1)] * 2, Residual(Conv(4, 3, stride=2, padding=1)))
    (same, other) = mirror(chain, (1, 64, 64)).plan((4, 8, 8)).notes
    assert same.startswith("0.body, 1, 2: 1 and 2 windows overlap by turns along H and W")
    assert other.startswith("0.shortcut: 0 and 1 windows overlap by turns")
    decoder = plan_of("resnet18").notes
    assert len(decoder) == len({note.split(": ", 1)[1] for note in decoder}) == 3
    places = {place for note in decoder for place in note.split(": ")[0].split(", ")}
    assert places <= {row["place"] for row in plan_of("resnet18").rows("all")}


def test_an_error_names_a_graph_by_its_size_and_its_repr_pastes_back():
    graph = in_a_line(Chain(*[Conv(4, 3), ReLU()] * 20))
    chain = Chain(Conv(4, 1), graph)
    with pytest.raises(ShapeError) as refused:
        chain.plan((1, 9, 9))
    assert "Graph of 40 nodes" in str(refused.value)
    assert "Node(" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert chain.plan((1, 99, 99)).rows()[1]["block"] == repr(graph)
    assert chain.plan((1, 99, 99)).cells(0)[3][:2] == ("1", "Graph of 40 nodes")
    assert eval(repr(chain), {"Chain": Chain, "Graph": Graph, "Node": Node, "Conv": Conv, "ReLU": ReLU}) == chain


def test_steps_and_pictures_are_of_the_chain_alone():
    from obverse.sketches import hourglass

    plan = plan_of("resnet18")
    assert [step.place for step in plan.steps] == ["0.0", "1.0"]
    encoder, _ = plan.chain
    picture = hourglass(Plan.of(encoder, SHAPE))
    assert "Lifted(ResNet" in picture
    assert "Graph of 4 nodes" in hourglass(Chain(Residual(Conv(3, 3, padding=1)).graph(SHAPE)).plan(SHAPE))


def test_the_command_line_dims_the_rows_that_keep_every_shape(monkeypatch):
    rich = pytest.importorskip("rich.console")
    from obverse import cli

    console = rich.Console(width=80, force_terminal=True, highlight=False, record=True, file=StringIO())
    monkeypatch.setattr(cli, "_console", lambda: console)
    plan = Chain(Conv(4, 3, stride=2, padding=1), in_a_line(Chain(ReLU(), Conv(1, 3)))).plan((1, 28, 28))
    cli._say_plan(plan)
    styled = console.export_text(styles=True).splitlines()
    plain = str(plan).splitlines()
    dim, bold = ([text for text, shown in zip(plain, styled, strict=True) if code in shown] for code in ("[2m", "[1m"))
    assert [line.split()[1] for line in dim[1:]] == ["ReLU()"]
    assert [line.split()[0] for line in bold] == ["1×28×28"]


class Twice(nn.Module):
    """Two stages, whose blocks run in turns."""

    def __init__(self):
        super().__init__()
        self.a = nn.ModuleList([nn.Conv2d(3, 3, 1) for _ in range(2)])
        self.b = nn.ModuleList([nn.Conv2d(3, 3, 1) for _ in range(2)])

    def forward(self, x):
        return self.b[1](self.a[1](self.b[0](self.a[0](x))))


def test_a_row_sums_up_a_run_and_not_what_comes_back_later():
    plan = Plan.of(lift(Twice(), SHAPE), SHAPE)
    names = [line.place for line in lines(plan, 1)]
    assert names == ["0", "0.a.0", "0.b.0", "0.a.1", "0.b.1"]
    assert [len(list(run)) for _, run in groupby(names)] == [1] * 5
