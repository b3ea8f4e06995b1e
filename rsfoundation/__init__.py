"""rsfoundation: remote-sensing vision on MMEngine.

Importing this package is cheap (standard library only): it installs the stand-in for mmcv's compiled
operators, and a correction of mmrotate's boxes for when mmrotate is imported. Everything heavy is imported
where it is used.
"""

from rsfoundation._mmcv_ext import install as _install_mmcv_ext
from rsfoundation._rotated_boxes import install as _correct_rotated_boxes

__version__ = "0.1.0"

_install_mmcv_ext()
_correct_rotated_boxes()
