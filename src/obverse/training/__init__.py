"""One loop that trains an autoencoder: on one CPU, on several processes, on GPUs, on several machines.

    history = train(model, digits, epochs=30, learning_rate=2e-3, held_out=others)
    history.write_csv("history.csv")

`train` and `evaluate` are in `loop.py`; `calibrate`, for models with BatchNorm, in `calibration.py`. They stand on
`images.py` (images in memory, and how processes share a batch), `schedules.py`, `history.py` (the numbers that come
back), `checks.py` (what is refused before the first step), `company.py` (the device, and the other processes),
`progress.py` and `ctrl_c.py`.
"""

try:
    import accelerate as _accelerate  # noqa: F401  asked for here, so that one message serves every file
    import rich as _rich  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'obverse.training needs the package {error.name}.\nInstall it with: pip install "obverse[training]"',
        name=error.name,
    ) from None

from obverse.training.calibration import calibrate
from obverse.training.company import accelerator_on
from obverse.training.history import Epoch, History
from obverse.training.images import Images, Share
from obverse.training.loop import evaluate, train
from obverse.training.schedules import constant, one_cycle

__all__ = [
    "Epoch",
    "History",
    "Images",
    "Share",
    "accelerator_on",
    "calibrate",
    "constant",
    "evaluate",
    "one_cycle",
    "train",
]
