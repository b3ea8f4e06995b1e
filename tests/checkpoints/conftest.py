"""Lets the tests find the corpus of hostile files."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
