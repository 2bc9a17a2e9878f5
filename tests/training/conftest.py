import sys
from pathlib import Path

# --import-mode=importlib gives tests no package; the helpers here are imported by name.
sys.path[:0] = [str(Path(__file__).parent)]
