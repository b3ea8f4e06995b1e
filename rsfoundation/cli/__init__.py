"""The console: ``rsf`` and the programs in ``tools/``. Thin: parse, call, print."""

from rsfoundation.cli.app import main

__all__ = ["main"]
