import sys
from pathlib import Path

# --import-mode=importlib gives tests no package; the toy transducer is imported by name.
sys.path.insert(0, str(Path(__file__).parent))
