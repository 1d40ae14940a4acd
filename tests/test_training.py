"""The training loop: the same numbers however many processes share them, and words for what goes wrong."""

from __future__ import annotations

import importlib
import io
import itertools
import json
import math
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from obverse import Autoencoder, BatchNorm, Chain, Conv, Dropout, ObverseError, ReLU, ShapeError, Sigmoid
from obverse.training import Epoch, History, Images, accelerator_on, constant, evaluate, one_cycle, train
from obverse.training import ctrl_c as ctrl_c_module
from obverse.training.company import check_company
from obverse.training.ctrl_c import CtrlC
from obverse.training.progress import Live, PlainLines, reporter_for
from running import launched

SHAPE = (1, 9, 9)


SIGMOID = Sigmoid()


def model_of(*blocks, shape=SHAPE, output=SIGMOID, seed=0):
    torch.manual_seed(seed)
    return Autoencoder(Chain(*(blocks or (Conv(4, 3, stride=2, padding=1), ReLU(), Conv(3, 5)))), shape, output=output)


def pixels(count=50, shape=SHAPE, seed=1):
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def quietly(model, data, **settings):
    return train(model, data, **{"epochs": 2, "batch_size": 16, "progress": False} | settings)


def losses(history):
    return [(epoch.train_loss, epoch.held_out_loss) for epoch in history]


@pytest.fixture
def ordinary_ctrl_c():
    """Python's own handler, also where the tests run in the background and Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------------------------------------- the images


@pytest.mark.parametrize(
    ("count", "batch_size", "processes"), [*itertools.product((1, 2, 9, 50, 65), (1, 4, 64), (1, 2, 3))]
)
def test_every_image_comes_once_in_batches_of_nearly_one_size(count, batch_size, processes):
    images = Images(torch.arange(count).reshape(-1, 1, 1).float())
    seen, wholes = [], []
    for process in range(processes):
        shares = list(images.shares(batch_size, torch.Generator().manual_seed(3), process=process, processes=processes))
        assert len(shares) == images.batches(batch_size, processes) == math.ceil(count / (batch_size * processes))
        assert all(len(share.images) == max(share.size, 1) for share in shares)
        assert all(share.size <= batch_size for share in shares)
        seen += [value for share in shares for value in share.images[: share.size].flatten().tolist()]
        wholes.append([share.of for share in shares])
    assert sorted(seen) == list(range(count))
    assert all(whole == wholes[0] for whole in wholes)
    assert max(wholes[0]) - min(wholes[0]) <= 1


def test_the_generator_alone_decides_the_order():
    images = Images(torch.arange(20).reshape(-1, 1, 1).float())

    def order(seed):
        shares = images.shares(6, torch.Generator().manual_seed(seed))
        return torch.cat([share.images for share in shares]).flatten().tolist()

    assert order(0) == order(0) != order(1) != list(range(20))


def test_uint8_is_divided_and_floats_are_not():
    given = torch.tensor([0, 51, 255]).reshape(3, 1, 1)
    assert next(Images(given.to(torch.uint8)).shares(3)).images.flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert next(Images(given.double()).shares(3)).images.flatten().tolist() == [0, 51, 255]


@pytest.mark.parametrize("given", [torch.zeros(3, 1, 9, 9, dtype=torch.int64), torch.ones(3, 1, 9, 9) > 0])
def test_other_integers_could_mean_two_things(given):
    with pytest.raises(ShapeError, match=r"could mean 0\.\.255 or 0\.\.1"):
        Images(given)


@pytest.mark.parametrize("given", [torch.zeros(0, 1, 9, 9), torch.tensor(1.0)])
def test_no_image_is_refused(given):
    with pytest.raises(ShapeError, match="there are no images"):
        Images(given)


# --------------------------------------------------------------------------------------------------------- the loop


def test_training_learns_and_its_last_number_is_the_models():
    model, data, others = model_of(), pixels(64) // 64, pixels(30, seed=2) // 64
    before = evaluate(model, others)
    history = quietly(model, data, epochs=8, learning_rate=1e-2, held_out=others)
    assert history.held_out_loss == evaluate(model, others) < before / 2
    assert [epoch.number for epoch in history] == list(range(1, 9))
    assert all(epoch.images == 64 and epoch.images_per_second > 0 for epoch in history)
    assert not history.interrupted
    assert not model.training


def test_the_first_step_is_adams_on_the_mean_over_pixels():
    ours, by_hand, data = model_of(), model_of(), pixels(16)
    history = quietly(ours, data, epochs=1, learning_rate=1e-3)
    optimizer, images = torch.optim.Adam(by_hand.parameters(), lr=1e-3), data.float() / 255
    loss = (by_hand(images)[0] - images).square().mean()
    loss.backward()
    optimizer.step()
    assert history.train_loss == pytest.approx(loss.item())
    for mine, theirs in zip(ours.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_seed_repeats_everything_and_leaves_the_random_state_alone():
    def weights(seed):
        model = model_of(Conv(4, 3), Dropout(0.5), Conv(2, 3))
        state = torch.get_rng_state()
        quietly(model, pixels(), seed=seed)
        assert torch.equal(state, torch.get_rng_state())
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    first, other, again = weights(0), weights(1), weights(0)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_the_model_stays_as_it_was_but_for_its_weights():
    """Accelerate marks and patches what it is given; training twice must not meet the marks of the first time."""
    model = model_of()
    before = set(vars(model))
    keys = list(model.state_dict())
    quietly(model, pixels())
    quietly(model, pixels(), accelerator=Accelerator(cpu=True))
    assert set(vars(model)) - before <= {"plan", "_compared"}
    assert list(model.state_dict()) == keys


def test_a_model_is_left_on_the_device_that_it_came_from():
    class Away(nn.Conv2d):
        """On a device of its own: `there` is what `Module.to` was last told."""

        there = "nowhere"

        def to(self, *args, **kwargs):
            self.there = str(args[0])
            return super().to(*args, **kwargs)

    model = Away(1, 1, 3, padding=1)
    quietly(model, pixels())
    assert model.there == "cpu"


def test_a_plain_module_that_gives_only_a_reconstruction_trains():
    model = nn.Conv2d(1, 1, 3, padding=1)
    assert quietly(model, pixels(), epochs=5, learning_rate=1e-2).train_loss < evaluate(nn.Identity(), pixels()) + 1


def test_frozen_weights_stay():
    model = model_of()
    model.encoder.requires_grad_(False)
    before = [parameter.clone() for parameter in model.encoder.parameters()]
    after = [parameter.clone() for parameter in model.decoder.parameters()]
    quietly(model, pixels())
    assert all(map(torch.equal, before, model.encoder.parameters()))
    assert not any(map(torch.equal, after, model.decoder.parameters()))


def test_batchnorm_meets_no_batch_of_one():
    model = model_of(Conv(4, 9), BatchNorm(), Conv(4, 1))
    assert math.isfinite(quietly(model, pixels(65), batch_size=64).train_loss)
    with pytest.raises(ValueError, match="more than 1 value"):  # what cutting 65 into 64 and 1 would have met
        model.train()(pixels(1).float())


def test_the_schedule_moves_the_rate():
    history = quietly(model_of(), pixels(32), epochs=4, learning_rate=2.0, schedule=lambda part: part / 10)
    assert [epoch.learning_rate for epoch in history] == pytest.approx([0.025, 0.075, 0.125, 0.175])
    assert quietly(model_of(), pixels(), schedule=constant).epochs[-1].learning_rate == 1e-3


def test_one_cycle_rises_once_and_falls_to_nothing():
    rates = [one_cycle(part / 1000) for part in range(1001)]
    top = rates.index(max(rates))
    assert top == 150
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert (rates[0], rates[top], rates[-1]) == pytest.approx((0.04, 1, 0))


def test_another_optimizer_and_another_loss():
    model = model_of()
    history = quietly(model, pixels(), loss=nn.functional.l1_loss, optimizer=torch.optim.SGD, held_out=pixels())
    assert history.held_out_loss == evaluate(model, pixels(), loss=nn.functional.l1_loss)
    assert history.held_out_loss != pytest.approx(evaluate(model, pixels()))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 500])
def test_evaluation_is_exact_and_touches_nothing(batch_size):
    model, data = model_of(Conv(4, 3), BatchNorm(), Conv(4, 3)).train(), pixels(23)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    measured = evaluate(model, data, batch_size=batch_size)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    images = data.double() / 255
    exact = (model.double().eval()(images)[0] - images).square().mean().item()
    assert measured == pytest.approx(exact, rel=1e-5)


# ------------------------------------------------------------------------------------------------ several processes


@pytest.mark.parametrize(("count", "processes"), [(12, 2), (13, 2), (13, 3), (2, 3)])
def test_the_average_over_processes_is_the_average_over_images(count, processes):
    """What DistributedDataParallel averages, with the loop's factor, is the gradient of the whole batch."""
    model, images = model_of().double(), Images(pixels(count))

    def gradient(shares, of):
        total = 0
        for share in shares:
            model.zero_grad()
            given = share.images.double()
            nn.functional.mse_loss(model(given)[0], given).mul(share.size * of / share.of).backward()
            total = total + torch.cat([parameter.grad.flatten() for parameter in model.parameters()]) / of
        return total

    whole = gradient(images.shares(count), 1)
    size = math.ceil(count / processes)
    parts = [next(images.shares(size, process=process, processes=processes)) for process in range(processes)]
    torch.testing.assert_close(gradient(parts, processes), whole, rtol=1e-6, atol=1e-9)


TOGETHER = """
import json, sys, torch
from obverse.training import accelerator_on, train
sys.path.insert(0, {tests!r})
from test_training import TASKS, model_of, pixels
accelerator, told = accelerator_on("cpu"), []
for blocks, settings in TASKS:
    model = model_of(*blocks)
    held_out = pixels(31, seed=2)
    settings = settings | {{"batch_size": settings["batch_size"] // 2}}
    history = train(model, pixels(37), held_out=held_out, accelerator=accelerator, progress=False, **settings)
    weights = torch.cat([value.double().flatten() for value in model.state_dict().values()])
    told.append([[(e.train_loss, e.held_out_loss, e.images) for e in history], weights.tolist()])
everybody = accelerator.gather(torch.tensor(told[1][1])[None])
if accelerator.is_main_process:
    print(json.dumps([told, accelerator.num_processes, everybody.tolist()]))
accelerator.wait_for_everyone()
accelerator.end_training()
"""
TASKS = [
    ((), {"batch_size": 12, "epochs": 2, "learning_rate": 1e-2}),  # four batches of 10 or 9: shares of 5, of 5 and 4
    ((Conv(4, 3), BatchNorm(), Conv(2, 7)), {"batch_size": 12, "epochs": 1}),
]


def test_two_processes_reach_the_numbers_of_one(tmp_path):
    """And with BatchNorm, whose statistics they do not share, they still hold the same weights."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER.format(tests=str(Path(__file__).parent)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = launched(launch, timeout=120)
    assert done.returncode == 0, done.stderr
    together, processes, everybody = json.loads(done.stdout.splitlines()[-1])
    assert processes == 2

    model = model_of()
    history = train(model, pixels(37), held_out=pixels(31, seed=2), progress=False, **TASKS[0][1])
    alone = [[epoch.train_loss, epoch.held_out_loss, epoch.images] for epoch in history]
    assert together[0][0] == [pytest.approx(row, rel=1e-5) for row in alone]
    weights = torch.cat([value.double().flatten() for value in model.state_dict().values()])
    torch.testing.assert_close(torch.tensor(together[0][1], dtype=torch.double), weights, rtol=1e-3, atol=1e-5)
    assert everybody[0] == everybody[1]


def test_processes_that_do_not_find_each_other_are_not_let_loose(monkeypatch):
    alone = accelerator_on("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ObverseError, match="2 processes were started, but the accelerator knows of 1"):
        check_company(alone)
    with pytest.raises(ObverseError, match=r"Accelerator\(cpu=True\)"):
        quietly(model_of(), pixels(), accelerator=alone)


def test_devices_that_are_not_there():
    with pytest.raises(ObverseError, match="Give one of auto, cpu, cuda"):
        accelerator_on("gpu")
    for device in {"cuda", "mps"} - {str(torch.accelerator.current_accelerator(check_available=True) or "cpu")}:
        with pytest.raises(ObverseError, match="this machine has only"):
            accelerator_on(device)


# ----------------------------------------------------------------------------------------------- beginners' mistakes

MISTAKES = {
    "no batch": ((1, 9, 9), pixels()[0], "batch axis is missing"),
    "no channels": ((1, 9, 9), pixels()[:, 0], "channel axis is missing"),
    "channels last": ((3, 9, 9), pixels(20, (9, 9, 3)), "channels come last"),
    "flat": ((1, 9, 9), pixels(20, (81,)), "50|20×81"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_repair_that_the_message_prints_works(mistake):
    shape, images, said = MISTAKES[mistake]
    model = model_of(shape=shape)
    with pytest.raises(ShapeError, match=said) as caught:
        quietly(model, images)
    repair = re.search(r"images(\[.*?\]|\.\w+\(.*?\))(?=[.,])", caught.value.repair + ".")[0]
    assert len(quietly(model, eval(repair, {"images": images}))) == 2


@pytest.mark.parametrize("name", ["data", "held_out"])
def test_wrong_channels_are_named_with_both_ways_out(name):
    images = {"data": pixels(), "held_out": pixels()} | {name: pixels(shape=(3, 9, 9))}
    with pytest.raises(ShapeError) as caught:
        quietly(model_of(), images["data"], held_out=images["held_out"])
    assert str(caught.value) == (
        f"{name} is 50×3×9×9; a model planned for 1×9×9 takes N×1×9×9.\n"
        "The images have 3 channels: plan the model for (3, 9, 9), or give 1."
    )


def test_pixels_to_255_as_floats_under_a_sigmoid():
    with pytest.raises(ShapeError) as caught:
        quietly(model_of(), pixels().float())
    assert "from 0 to 255; the model's Sigmoid gives 0..1" in str(caught.value)
    assert "Give uint8, or floats divided by 255." in str(caught.value)
    assert len(quietly(model_of(), pixels().float() / 255)) == len(quietly(model_of(), pixels())) == 2


def test_standardised_pixels_under_a_sigmoid():
    standardised = (pixels().float() - 128) / 74
    with pytest.raises(ShapeError, match=r"Scale them to 0\.\.1, or leave the Sigmoid out"):
        quietly(model_of(), standardised)
    assert len(quietly(model_of(output=None), standardised)) == 2


def test_other_sizes_are_the_models_business():
    assert len(quietly(model_of(), pixels(shape=(1, 12, 15)))) == 2


def test_a_reconstruction_of_another_size_is_not_spread():
    with pytest.raises(ShapeError, match="gives 1×7×7 for images of 1×9×9"):
        quietly(nn.Conv2d(1, 1, 3), pixels())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": True}, "epochs=True"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"batch_size": 2.5}, r"batch_size=2\.5"),
        ({"learning_rate": 0}, "learning_rate=0 moves no weight"),
        ({"learning_rate": math.nan}, "learning_rate=nan"),
    ],
)
def test_settings_that_teach_nothing(settings, said):
    with pytest.raises(ObverseError, match=said):
        quietly(model_of(), pixels(), **settings)


def test_a_loss_that_is_no_number_ends_the_training():
    model = model_of(output=None)
    with pytest.raises(ObverseError, match=r"loss is (inf|nan) in epoch \d+, after \d+ of its images") as caught:
        quietly(model, pixels(), learning_rate=1e30, optimizer=torch.optim.SGD, epochs=20)
    assert "smaller learning_rate" in caught.value.repair


def test_a_held_out_loss_that_is_no_number_ends_it_too():
    held_out = torch.full((4, *SHAPE), math.inf)
    with pytest.raises(ObverseError, match=r"held-out loss is (inf|nan) after epoch 1"):
        quietly(model_of(output=None), pixels(), held_out=held_out)


@pytest.mark.parametrize("package", ["accelerate", "rich"])
def test_a_missing_package_is_named_with_its_remedy(package, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("obverse.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf'needs the package {package}.\nInstall .*pip install "obverse\[training\]"'
    ):
        importlib.import_module("obverse.training")


# ----------------------------------------------------------------------------------------------------------- Ctrl-C


class PressAfter:
    """A loss that presses Ctrl-C at its n-th call."""

    def __init__(self, calls, times=1):
        self.left, self.times = calls, times

    def __call__(self, reconstruction, images):
        self.left -= 1
        if self.left == 0:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return nn.functional.mse_loss(reconstruction, images)


@pytest.mark.usefixtures("ordinary_ctrl_c")
def test_ctrl_c_ends_after_the_step_and_gives_what_there_is():
    model, loss = model_of(), PressAfter(6)  # four steps and an evaluation make an epoch: this is the next one's first
    history = quietly(model, pixels(64), epochs=50, loss=loss, held_out=pixels(16))
    assert history.interrupted
    assert [epoch.images for epoch in history] == [64, 16]
    assert history.held_out_loss == evaluate(model, pixels(16))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ordinary_ctrl_c")
def test_a_second_ctrl_c_does_not_wait(monkeypatch):
    monkeypatch.setattr(ctrl_c_module, "PATIENCE", -1.0)
    history = quietly(model_of(), pixels(64), epochs=50, loss=PressAfter(6, times=2))
    assert history.interrupted
    assert [epoch.images for epoch in history] == [64]


@pytest.mark.usefixtures("ordinary_ctrl_c")
def test_one_ctrl_c_that_arrives_twice_is_one():
    assert [epoch.images for epoch in quietly(model_of(), pixels(64), loss=PressAfter(2, times=2))] == [32]


@pytest.mark.usefixtures("ordinary_ctrl_c")
def test_a_handler_of_the_programs_own_stays():
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append("mine"))
    with CtrlC() as ctrl_c:
        signal.raise_signal(signal.SIGINT)
    assert heard == ["mine"]
    assert not ctrl_c.pressed


# --------------------------------------------------------------------------------------------------------- progress


def test_a_plain_line_for_each_epoch_where_there_is_no_terminal(capsys):
    train(model_of(), pixels(), epochs=3, batch_size=16, held_out=pixels())
    lines = capsys.readouterr().out.splitlines()
    wanted = r"epoch {}/3  loss 0\.\d{{4}}  held out 0\.\d{{4}}  [\d,]+ images/s  0:\d\d left"
    assert len(lines) == 3
    assert all(re.fullmatch(wanted.format(number), line) for number, line in enumerate(lines, start=1))


def test_silence_where_it_is_wanted(capsys):
    quietly(model_of(), pixels())
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_epoch_losses_speed_and_time_left():
    screen = io.StringIO()
    with Live(2, 4, Console(file=screen, force_terminal=True, width=100)) as live:
        live.step(2, 4, 0.0213, 4987.0)
        live.epoch(Epoch(2, 0.0213, 0.0220, 1e-3, 64, 0.1))
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", screen.getvalue())
    assert re.search(r"epoch 2/2 .*loss 0\.0213 held out 0\.0220 4,987 images/s .*left", shown.replace("\r", "\n"))


def test_the_place_chooses_the_reporter(monkeypatch):
    assert isinstance(reporter_for(2, 4, wanted=True), PlainLines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(reporter_for(2, 4, wanted=True), Live)
    assert not isinstance(reporter_for(2, 4, wanted=False), (Live, PlainLines))


# ---------------------------------------------------------------------------------------------------------- history

HISTORY = History((Epoch(1, 1 / 3, 0.03, 1e-3, 4500, 0.9), Epoch(2, 0.02, None, 5e-4, 123, 0.1)), interrupted=True)


def test_a_history_comes_back_from_its_file_digit_by_digit(tmp_path):
    HISTORY.write_csv(tmp_path / "history.csv")
    assert History.read_csv(tmp_path / "history.csv") == History(HISTORY.epochs)
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_a_history_that_cannot_be_written_leaves_the_old_one(tmp_path):
    HISTORY.write_csv(tmp_path / "history.csv")
    with pytest.raises(TypeError):
        History((HISTORY.epochs[0], "no epoch")).write_csv(tmp_path / "history.csv")
    assert History.read_csv(tmp_path / "history.csv") == History(HISTORY.epochs)
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "number,train_loss\nx,y\n", "", "\x00"])
def test_a_file_that_is_no_history(tmp_path, text):
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(ObverseError, match=r"is no training history.\nIts first line should be number,train_loss"):
        History.read_csv(tmp_path / "other.csv")


def test_an_empty_history():
    assert math.isnan(History().train_loss)
    assert History().held_out_loss is None
    assert len(History()) == 0
