"""The example that gives a ResNet its decoder."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    import backbone

    threads = torch.get_num_threads()
    yield backbone
    torch.set_num_threads(threads)


def test_the_photographs_are_cut_into_squares_of_which_a_part_is_held_out(example):
    training, held_out = example.photographs(Path())
    assert training.shape == (672, 3, 64, 64)
    assert held_out.shape == (96, 3, 64, 64)
    assert training.dtype == torch.uint8
    assert (training[0, :, :, 32:] == training[1, :, :, :32]).all(), "neighbours overlap by half"


def test_it_trains_and_leaves_weights_and_pictures(example, monkeypatch, tmp_path, capsys):
    few = tuple(images[::40] for images in example.photographs(Path()))
    monkeypatch.setitem(example.DATA, "photographs", lambda _: few)
    weights = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    arguments = ["--weights", str(weights), "--freeze", "--until", "layer1", "--skips", "add", "--epochs", "1"]
    assert example.main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "weights.safetensors",
        "history.csv",
        "reconstructions.png",
        "loss.png",
    }
    assert "% of the variance explained" in capsys.readouterr().out


def test_what_is_not_there_is_named(example, tmp_path, capsys):
    assert example.main(["--data", "fashion", "--root", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "there is no FashionMNIST" in capsys.readouterr().err
    assert example.main(["--until", "layer9", "--out", str(tmp_path / "run")]) == 2
    assert "no module of Backbone" in capsys.readouterr().err
