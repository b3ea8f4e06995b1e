"""Where things are: one place, so that a test file can move."""

from pathlib import Path

HELPERS = Path(__file__).parent
TESTS = HELPERS.parent
ROOT = TESTS.parent
CONFIGS = ROOT / "configs"
BENCHMARKS = ROOT / "benchmarks"
PARITY = TESTS / "parity"
SAMPLES = ROOT.parent / "shared" / "samples"  # real images; tests that need them skip where absent
