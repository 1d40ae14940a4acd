"""`python -m obverse` is `obverse`."""

import sys

from obverse.cli import main

sys.exit(main())
