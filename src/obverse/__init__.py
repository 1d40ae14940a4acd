"""Compose an encoder; obverse works out every shape and mirrors it into the decoder that restores it exactly.

>>> from obverse import Chain, Conv, ReLU
>>> encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
>>> encoder.output_shape((1, 28, 28))
(12, 1, 1)
>>> print(encoder.mirror((1, 28, 27)))
Chain(ConvTranspose(32, 7), ReLU(), ConvTranspose(16, 3, stride=2, padding=1, output_padding=1), ReLU(), \
ConvTranspose(1, 3, stride=2, padding=1, output_padding=(1, 0)))

The names are listed in `__init__.pyi` and loaded when they are first asked for, so that what needs no torch (plans,
mirrors, configs) never imports it.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
