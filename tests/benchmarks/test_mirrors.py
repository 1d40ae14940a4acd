"""The decoder of a ResNet-50: what it costs to make, to run and to keep for the backward pass, beside the encoder."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from obverse import Autoencoder, mirror
from obverse.lifting import lifted

SHAPE = (3, 224, 224)
UNTIL = "layer4"


def kept(run):
    """The bytes of the tensors that a forward pass keeps for the backward pass, each counted once."""
    seen = {}

    def note(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return sum(seen.values())


@pytest.mark.parametrize("literal", [True, False], ids=["literal", "learnable"])
def test_a_mirror_is_made_as_fast_as_the_network_itself(timing, say, literal):
    encoder = resnet50()

    def made():
        lifted._drawn.cache_clear()  # or it would be recorded once only
        mirror(encoder, SHAPE, until=UNTIL, literal=literal)

    mirrored, network = timing.medians(made, resnet50, rounds=10)
    how = f"resnet50, literal={literal}"
    say(f"{how}: its mirror is made in {mirrored:.2f} s, {mirrored / network:.2f} times torchvision's resnet50()")
    assert mirrored < 10 * network


@pytest.mark.parametrize("literal", [True, False], ids=["literal", "learnable"])
def test_a_mirror_costs_about_what_its_encoder_costs(timing, say, literal):
    model = Autoencoder(resnet50(), (3, 64, 64), until=UNTIL, literal=literal)
    images = torch.rand(2, 3, 64, 64)
    encode = nn.Sequential(*list(model.encoder.children())[:8])
    code = encode(images).detach()
    ours, theirs = timing.medians(
        lambda: model.decoder(code).mean().backward(), lambda: encode(images).mean().backward(), rounds=20
    )
    memory = kept(lambda: model.decoder(code)) / kept(lambda: encode(images))
    how = f"resnet50, literal={literal}"
    say(f"{how}: a step of the mirror takes {ours / theirs:.2f} times the encoder's, and {memory:.2f} of its memory")
    assert ours < 12 * theirs
    assert memory < (1.5 if literal else 3)
