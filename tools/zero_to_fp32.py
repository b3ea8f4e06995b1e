"""DeepSpeed checkpoint to a plain one: ``zero_to_fp32.py . OUT -t TAG``; as ``rsf convert zero-to-fp32``."""

import sys

from rsfoundation.cli import main

if __name__ == "__main__":
    main(["convert", "zero-to-fp32", *sys.argv[1:]])
