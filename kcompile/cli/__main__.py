"""`python -m kcompile.cli`."""

import sys

from kcompile.cli import main

sys.exit(main())
