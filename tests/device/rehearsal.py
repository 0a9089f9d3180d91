"""What `benchmarks.gpu_check` runs first in a rehearsal on the simulated device."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from simulated import introduce

introduce().set_copy_time(100)
