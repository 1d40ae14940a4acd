"""For those who test: the checks that every block passes, and hypothesis strategies.

>>> from obverse import Crop
>>> from obverse.testing import check_block
>>> from hypothesis import settings
>>> print(check_block(Crop(1), checks=["promise", "refusals", "mirror"], settings=settings(max_examples=20)))
Crop((1, 1)): 3 checks hold, in 60 examples
  promise      20
  refusals     20
  mirror       20
"""

from typing import TYPE_CHECKING

import lazy_loader as _lazy

try:
    import hypothesis as _hypothesis  # noqa: F401    # what all of this stands on
except ImportError as error:
    raise ImportError('obverse.testing stands on hypothesis: pip install "obverse[testing]"') from error

if TYPE_CHECKING:
    from obverse.testing import checks as checks
    from obverse.testing import strategies as strategies
    from obverse.testing.kit import Report as Report
    from obverse.testing.kit import check_block as check_block
    from obverse.testing.kit import parametrize_with_checks as parametrize_with_checks

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submodules=["checks", "strategies"],
    submod_attrs={"kit": ["Report", "check_block", "parametrize_with_checks"]},
)
