"""A plan of a network, with everything that its steps tell, against the same network run without numbers."""

import torch

from obverse import BatchNorm, Chain, Conv, MaxPool, ReLU

SHAPE = (3, 224, 224)


def network(blocks, channels=16):
    """Convolutions, norms, activations and pooling, made anew, so that nothing is remembered."""
    stage = [
        *(Conv(channels, 3, padding=1, bias=False), BatchNorm(), ReLU()),
        *(Conv(channels, 3, padding=1, bias=False), BatchNorm(), ReLU(), MaxPool(3, stride=1, padding=1)),
        Conv(channels, 1),
    ]
    return Chain(*(stage * (blocks // len(stage) + 1))[:blocks])


def told(chain):
    """All that a plan's steps tell."""
    plan = chain.plan(SHAPE)
    return plan.steps, plan.parameters, plan.multiply_adds


def test_a_plan_takes_a_small_part_of_a_forward_pass(timing, say):
    with torch.device("meta"):
        module, images = network(32).build(SHAPE).eval(), torch.rand(1, *SHAPE)
    chain, made = network(32), iter([network(32) for _ in range(250)])
    fresh, again, forward = timing.medians(
        lambda: told(next(made)), lambda: told(chain), lambda: module(images), rounds=200
    )
    for how, seconds in [("a plan of 32 blocks", fresh), ("planned again", again)]:
        say(f"{how}: {seconds / 32 * 1e6:.1f} µs a block, {forward / seconds:.0f} times faster than a forward on meta")
    assert forward > 5 * fresh


def test_a_block_costs_as_much_in_a_plan_of_20_000(timing, say):
    costs = {}
    for blocks, rounds in [(32, 200), (20_000, 10)]:
        chain = network(blocks)
        (seconds,) = timing.medians(lambda chain=chain: told(chain), rounds=rounds)
        costs[blocks] = seconds / blocks
    say(f"a block of 20,000 costs {costs[20_000] / costs[32]:.2f} times a block of 32")
    assert costs[20_000] < 10 * costs[32]
