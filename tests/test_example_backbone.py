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
    (tmp_path / "words.pth").write_text("no weights")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "others.pth")
    for name in ("words.pth", "others.pth"):
        assert example.main(["--weights", str(tmp_path / name), "--out", str(tmp_path / "run")]) == 2
        assert "is no state_dict of torchvision's resnet18" in capsys.readouterr().err


def test_fashion_mnist_is_read_from_a_folder(example, tmp_path, capsys):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, number in (("train", 160), ("t10k", 40)):
        images, labels = torch.randint(0, 256, (number, 28, 28), dtype=torch.uint8), torch.zeros(number)
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels.byte())
    training, held_out = example.fashion(tmp_path)
    assert (training.shape, held_out.shape) == ((16, 3, 64, 64), (4, 3, 64, 64))
    arguments = ["--data", "fashion", "--root", str(tmp_path), "--until", "layer1", "--epochs", "1"]
    assert example.main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert "16 images to train on, 4 held out" in capsys.readouterr().out


def write_idx(path, tensor):
    """A file as LeCun's format has it: type and rank, sizes, numbers."""
    head = [8 << 8 | tensor.ndim, *tensor.shape]
    path.write_bytes(b"".join(size.to_bytes(4, "big") for size in head) + tensor.numpy().tobytes())
