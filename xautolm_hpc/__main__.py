"""``python -m xautolm_hpc`` is ``xautolm-hpc``."""

import sys

from xautolm_hpc.cli import main

sys.exit(main())
