"""One loop that trains an autoencoder: on one CPU, on several processes, on GPUs, on several machines.

    history = train(model, digits, epochs=30, learning_rate=2e-3, held_out=others)
    history.write_csv("history.csv")

| file | what it holds |
|---|---|
| `loop.py` | `train` and `evaluate` |
| `images.py` | images in memory, and how several processes share a batch |
| `schedules.py` | how the learning rate moves |
| `history.py` | the numbers that come back |
| `checks.py` | what is refused before the first step |
| `company.py` | the device, and the other processes |
| `progress.py` | what the terminal shows |
| `ctrl_c.py` | an end between two steps |
"""

try:
    import accelerate as _accelerate  # noqa: F401  asked for here, so that one message serves every file
    import rich as _rich  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'obverse.training needs the package {error.name}.\nInstall it with: pip install "obverse[training]"',
        name=error.name,
    ) from None

from obverse.training.company import accelerator_on
from obverse.training.history import Epoch, History
from obverse.training.images import Images, Share
from obverse.training.loop import evaluate, train
from obverse.training.schedules import constant, one_cycle

__all__ = ["Epoch", "History", "Images", "Share", "accelerator_on", "constant", "evaluate", "one_cycle", "train"]
