"""Models in folders: what was saved comes back exactly, and what is damaged is refused by name, whole."""

import json
import os
import pickle
import signal
import stat
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from obverse import (
    Autoencoder,
    BatchNorm,
    Chain,
    ConfigError,
    Conv,
    Linear,
    MaxPool,
    ReLU,
    Residual,
    ShapeError,
    Sigmoid,
)
from obverse.files import write_whole
from obverse.hub import load_weights
from obverse.testing.strategies import chains_with_shapes

pytest.importorskip("safetensors")
from safetensors.torch import load_file, save_file

TUTORIAL = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
NORMED = Chain(Conv(4, 3, stride=2, bias=False), BatchNorm(), ReLU(), Residual(Conv(4, 3, padding=1)), MaxPool(2))
SMALL = Chain(Conv(4, 3, stride=2, padding=1), ReLU(), Conv(4, 3, stride=2, padding=1))
MODELS = {
    "tutorial": lambda: Autoencoder(TUTORIAL, (1, 28, 28), output=Sigmoid()),
    "tied": lambda: Autoencoder(TUTORIAL, (1, 28, 27), tied=True),
    "normed": lambda: Autoencoder(NORMED, (2, 13, 17)),
    "skips": lambda: Autoencoder(SMALL, (1, 13, 13), skips="concat", upsampling="resize"),
    "some skips": lambda: Autoencoder(SMALL, (1, 13, 13), skips={"2": "add"}),
    "any order": lambda: Autoencoder(SMALL, (1, 13, 13), skips=iter(["2"])),
    "subpixel": lambda: Autoencoder(SMALL, (1, 13, 13), upsampling="subpixel"),
    "a block": lambda: Autoencoder(Linear(3), (7,)),
    "half": lambda: Autoencoder(SMALL, (1, 13, 13), dtype=torch.bfloat16),
    "double": lambda: Autoencoder(SMALL, (1, 13, 13), dtype=torch.float64),
}


class ByHand(nn.Module):
    """The tutorial's model, as one writes it without obverse."""

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


def assert_same(model, other, x):
    assert other.to_config() == model.to_config()
    ours, theirs = model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name])
    for mine, its in zip(model.eval()(x), other(x), strict=True):
        assert torch.equal(mine, its)


# What was saved ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_exactly(name, tmp_path):
    model = MODELS[name]()
    x = torch.rand(3, *model.input_shape, dtype=next(model.parameters()).dtype)
    model(x)  # running statistics that are not those of a new model
    model.save_pretrained(tmp_path / "new" / "folder")
    again = Autoencoder.from_pretrained(tmp_path / "new" / "folder")
    assert not again.training
    assert_same(model, again, x)
    assert len(list(again.parameters())) == len(list(model.parameters()))
    again(x)[0].mean().backward()  # it can be trained further
    assert all(p.requires_grad for p in again.parameters())
    assert pickle.loads(pickle.dumps(again)).to_config() == model.to_config()


@given(chains_with_shapes(), st.booleans())
def test_every_model_comes_back(tmp_path_factory, drawn, tied):
    try:
        model = Autoencoder(*drawn, tied=tied)
    except ShapeError:
        assume(False)
    folder = tmp_path_factory.mktemp("models")
    model.save_pretrained(folder)
    again = Autoencoder.from_pretrained(folder)
    assert again.to_config() == model.to_config()
    ours, theirs = model.state_dict(), again.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_holds_one_config_the_weights_and_a_card(tmp_path):
    model = MODELS["tied"]()
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert json.loads((tmp_path / "config.json").read_text()) == model.to_config()
    assert "library_name: obverse" in (tmp_path / "README.md").read_text()
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.state_dict())
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_weights_of_the_model_written_by_hand_load_too(tmp_path):
    by_hand, model = ByHand(), MODELS["tutorial"]()
    save_file(by_hand.state_dict(), tmp_path / "model.safetensors")
    load_weights(model, tmp_path / "model.safetensors")
    x = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(model(x), by_hand(x))
    (tmp_path / "config.json").write_text(json.dumps(model.to_config()))  # and as a folder
    torch.testing.assert_close(Autoencoder.from_pretrained(tmp_path)(x), by_hand(x))
    model.save_pretrained(tmp_path)
    other = ByHand()
    load_weights(other, tmp_path / "model.safetensors")
    torch.testing.assert_close(other(x), model(x))


def test_a_config_makes_a_model_without_its_weights():
    model = MODELS["skips"]()
    other = Autoencoder.from_config(json.loads(json.dumps(model.to_config())), device="meta")
    assert all(p.is_meta for p in other.parameters())
    assert other.decoder.block == model.decoder.block


def test_a_model_without_values_is_not_saved(tmp_path):
    with pytest.raises(Exception, match="on the meta device"):
        Autoencoder(SMALL, (1, 13, 13), device="meta").save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()


# Written whole ------------------------------------------------------------------------------------------------------


def test_files_have_the_mode_that_the_umask_says(tmp_path):
    for mask in (0o022, 0o027):
        before = os.umask(mask)
        try:
            MODELS["a block"]().save_pretrained(tmp_path / str(mask))
        finally:
            os.umask(before)
        for file in (tmp_path / str(mask)).iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


KILLED = """
import os, signal, sys
from obverse.files import write_whole
really = os.fsync
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
write_whole(sys.argv[1], b"new" * 100_000)
"""


def test_who_is_killed_midway_leaves_the_old_file_whole(tmp_path):
    write_whole(tmp_path / "file", "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old"


def test_what_fails_midway_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(file):
        raise OSError("disk full")

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "file", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


# Damaged and hostile files -------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    MODELS["normed"]().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    MODELS["normed"]().save_pretrained(folder)
    return folder, (folder / "model.safetensors").read_bytes()


@given(st.data())
def test_a_flipped_bit_is_noticed(whole, data):
    folder, good = whole
    at = data.draw(st.integers(0, 8 * len(good) - 1))
    bad = bytearray(good)
    bad[at // 8] ^= 1 << at % 8
    (folder / "model.safetensors").write_bytes(bad)
    try:
        model = Autoencoder.from_pretrained(folder)
    except ConfigError as error:
        assert "model.safetensors" in str(error)  # noqa: PT017
    else:  # in the name of a checksum, which is then missing
        (folder / "model.safetensors").write_bytes(good)
        again = Autoencoder.from_pretrained(folder)
        assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


@given(st.data())
def test_a_truncated_or_lengthened_file_is_refused(whole, data):
    folder, good = whole
    end = data.draw(st.integers(0, len(good) - 1))
    (folder / "model.safetensors").write_bytes(data.draw(st.sampled_from([good[:end], good + good[: end + 1]])))
    with pytest.raises(ConfigError, match=r"model\.safetensors is damaged"):
        Autoencoder.from_pretrained(folder)


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


HOSTILE = [
    (b"", "damaged"),
    (b"\xff" * 8, "header would have 18,446,744,073,709,551,615 bytes"),
    ((10**8).to_bytes(8, "little") + b"{}", "header would have 100,000,000 bytes"),
    (with_header(b"[" * 100_000), "cannot be read"),
    (with_header(b"\xff\xfe"), "cannot be read"),
    (with_header(b"[]"), "no table"),
    (with_header(b'{"a": 1, "a": 1}'), "cannot be read"),
    (with_header({"encoder.0.weight": 3}), "neither dtype nor shape"),
    (with_header({"encoder.0.weight": {"dtype": "F32", "shape": [-1]}}), "neither dtype nor shape"),
    (with_header({"encoder.0.weight": {"dtype": "F32", "shape": [2**70]}}), "neither dtype nor shape"),
    (with_header({"encoder.0.weight": {"dtype": "F32", "shape": [True]}}), "neither dtype nor shape"),
    (with_header({"../../etc/passwd": {"dtype": "F32", "shape": [2**40, 2**20]}}), "another model"),
    (with_header({"encoder.0.weight": {"dtype": "evil", "shape": [4, 2, 3, 3]}}), "has evil, the model floating"),
    (with_header({}), "17 of them differ"),
]


@pytest.mark.parametrize(("data", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_refused(saved, data, said):
    (saved / "model.safetensors").write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        Autoencoder.from_pretrained(saved)


def test_offsets_that_lie_are_refused(saved):
    good = (saved / "model.safetensors").read_bytes()
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    del header["__metadata__"]
    names = list(header)
    header[names[0]]["data_offsets"] = [0, 2**50]
    (saved / "model.safetensors").write_bytes(with_header(header, good[8 + length :]))
    with pytest.raises(ConfigError, match="damaged"):
        Autoencoder.from_pretrained(saved)


def test_all_mismatches_are_told_at_once_and_nothing_is_loaded(tmp_path):
    save_file({**ByHand().state_dict(), "extra": torch.zeros(3)}, tmp_path / "model.safetensors")
    model = Autoencoder(Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1)), (1, 28, 28))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match="weights of another model") as refused:
        load_weights(model, tmp_path / "model.safetensors")
    said = str(refused.value)
    for line in (
        "encoder.0.weight: the file has 16×1×3×3, the model 8×1×3×3",
        "encoder.0.bias: the file has 16, the model 8",
        "encoder.4.weight: the file has 12×32×7×7, the model none",
        "extra: the file has 3, the model none",
    ):
        assert line in said
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_many_mismatches_are_counted(tmp_path):
    save_file({f"extra{n}": torch.zeros(1) for n in range(100)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"… and \d+ more"):
        load_weights(MODELS["a block"](), tmp_path / "model.safetensors")


def test_two_models_in_one_folder_are_noticed(saved):
    config = json.loads((saved / "config.json").read_text())
    config["input_shape"] = [2, 15, 17]  # the same weights, another model
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"config\.json is not the one"):
        Autoencoder.from_pretrained(saved)
    model = Autoencoder.from_config(config)
    load_weights(model, saved / "model.safetensors")
    assert model.input_shape == (2, 15, 17)


def test_a_config_may_be_written_anew_as_long_as_it_says_the_same(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(dict(reversed(config.items())), indent=7))
    Autoencoder.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "this is no JSON"),
        (lambda text: text.replace('"obverse": 1', '"obverse": 7'), "of version 7"),
        (lambda text: text.replace('"Autoencoder"', '"os.system"'), "no model 'os.system'"),
        (lambda text: text.replace('"BatchNorm"', '"BatchNrm"'), "Did you mean 'BatchNorm'"),
        (lambda text: text.replace('"kernel_size": 3', '"kernel_size": 3, "kernel_size": 3'), "is there twice"),
        (lambda text: "\udcff", "no text"),
        (lambda text: "[" * 100_000, "nests too deep"),
    ],
)
def test_a_damaged_config_is_refused(saved, change, said):
    text = change((saved / "config.json").read_text())
    (saved / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=said):
        Autoencoder.from_pretrained(saved)


def test_a_model_that_is_too_large_is_refused_before_anything_is_allocated(saved):
    for encoder, shape in [
        (Linear(2**31), (2**31,)),
        (Chain(BatchNorm(affine=False)), (2**31, 1)),  # no parameters, but running statistics
        (Conv(2**31, 2**31), (2**31, 2**31, 2**31)),
    ]:
        config = {"obverse": 1, "model": "Autoencoder", "input_shape": list(shape)}
        config["encoder"] = {key: value for key, value in encoder.to_config().items() if key != "obverse"}
        (saved / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=r"at most 1,000,000,000 are taken|cannot be built"):
            Autoencoder.from_pretrained(saved)
    with pytest.raises(ConfigError, match="at most 10 are taken"):
        Autoencoder.from_config(MODELS["a block"]().to_config(), max_parameters=10)


def test_a_missing_folder_or_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        Autoencoder.from_pretrained(tmp_path / "nowhere" / "at all")
    with pytest.raises(ConfigError, match=r"has no config\.json and no model\.safetensors"):
        Autoencoder.from_pretrained(tmp_path)


def test_a_plugin_is_imported_only_if_it_is_named(tmp_path, monkeypatch):
    info = tmp_path / "obverse_late-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: obverse-late\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[obverse.blocks]\nlate = obverse_late:Late\n")
    (tmp_path / "obverse_late.py").write_text("from obverse import LayerNorm\nclass Late(LayerNorm): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    from obverse.registry import block_class

    model = Autoencoder(Chain(Conv(3, 3), block_class("late")(), Conv(3, 3)), (1, 9, 9))
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"'late' is a plugin's, of obverse-late 1.*\n.*plugins=\['late'\]"):
        Autoencoder.from_pretrained(tmp_path / "model")
    assert_same(model, Autoencoder.from_pretrained(tmp_path / "model", plugins=["late"]), torch.rand(1, 1, 9, 9))
    del sys.modules["obverse_late"]


# The hub -------------------------------------------------------------------------------------------------------------


def test_a_model_goes_to_the_hub_and_comes_back(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    shelf = tmp_path / "hub"
    asked = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **options):
            folder_path.rename(shelf)
            return f"https://huggingface.co/{repo_id}/commit/1"

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options))
        return str(shelf / filename)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    model = MODELS["tied"]()
    assert model.push_to_hub("somebody/tutorial", private=True).endswith("somebody/tutorial/commit/1")
    again = Autoencoder.from_pretrained("somebody/tutorial", revision="main")
    assert_same(model, again, torch.rand(2, 1, 28, 27))
    assert asked[0] == ("somebody/tutorial", "config.json", {"revision": "main"})


@pytest.mark.parametrize("package", ["safetensors", "huggingface_hub"])
def test_what_is_not_installed_is_said(package, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    model = MODELS["a block"]()
    with pytest.raises(ImportError, match=rf'{package}: pip install "obverse\[hub\]"'):
        model.save_pretrained(tmp_path) if package == "safetensors" else model.push_to_hub("somebody/something")
