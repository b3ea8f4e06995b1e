"""rsfoundation: remote-sensing vision on MMEngine.

Importing this package is cheap (standard library only): it puts the stand-in for mmcv's compiled
operators in place and nothing else. Everything heavy is imported where it is used.
"""

from rsfoundation._mmcv_ext import install as _install_mmcv_ext

__version__ = "0.1.0"

_install_mmcv_ext()
