"""A training step of the composed model against one of the model by hand, at the planned size."""

import torch
from torch import nn

from obverse import Autoencoder, Chain, Conv, ReLU, Sigmoid


class ByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 12, 7))
        )
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(12, 32, 7), nn.ReLU(), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid()),
        )

    def forward(self, x):
        code = self.encoder(x)
        return self.decoder(code), code


def composed():
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    return Autoencoder(encoder, (1, 28, 28), output=Sigmoid())


def training_step(model, images):
    optimizer = torch.optim.Adam(model.parameters())

    def step():
        optimizer.zero_grad()
        reconstruction, _ = model(images)
        nn.functional.mse_loss(reconstruction, images).backward()
        optimizer.step()

    return step


def test_a_training_step_costs_what_it_costs_by_hand(timing, say):
    for batch, rounds in [(128, 100), (1, 500)]:
        images = torch.rand(batch, 1, 28, 28)
        ours, theirs = timing.medians(training_step(composed(), images), training_step(ByHand(), images), rounds=rounds)
        say(f"training step, batch of {batch}: {ours / theirs:.3f} times the one by hand ({theirs * 1e3:.2f} ms)")
        assert ours < 2 * theirs


def test_another_size_costs_little_more(timing, say):
    model, by_hand = composed().eval(), ByHand().eval()
    images = torch.rand(64, 1, 27, 27)  # which the model by hand makes 28×28 of
    with torch.no_grad():
        ours, theirs = timing.medians(lambda: model(images), lambda: by_hand(images), rounds=200)
    say(f"forward pass at another size: {ours / theirs:.3f} times the one by hand ({theirs * 1e3:.2f} ms)")
    assert ours < 3 * theirs
