"""Train a model of any task: ``python tools/train.py CONFIG [options]``; the same as ``rsf train``."""

import sys

from rsfoundation.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
