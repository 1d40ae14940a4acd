"""An existing module as blocks, and so its mirror: rules by type of module and by name of function, and a recording.

>>> from torch import nn
>>> from obverse import lift
>>> lift(nn.Sequential(nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.Tanh()), (1, 28, 28))
Chain(Conv(16, 3, stride=2), BatchNorm(), Tanh())
"""

from obverse.lifting.lifted import Lifted, lift

__all__ = ["Lifted", "lift"]
