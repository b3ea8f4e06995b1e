"""Test a checkpoint of any task: ``python tools/test.py CONFIG [options]``; the same as ``rsf test``."""

import sys

from rsfoundation.cli import main

if __name__ == "__main__":
    main(["test", *sys.argv[1:]])
