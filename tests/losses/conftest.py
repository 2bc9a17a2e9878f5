import sys
from pathlib import Path

# --import-mode=importlib gives tests no package; the helpers here and the lattice's are imported by name.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "lattice")]
