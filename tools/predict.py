"""Predict images of any size: ``python tools/predict.py IMAGE --model RUN``; the same as ``rsf predict``."""

import sys

from rsfoundation.cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
