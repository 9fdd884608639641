"""``python -m hpc_search``."""

from __future__ import annotations

import sys

from hpc_search.cli import main

sys.exit(main())
