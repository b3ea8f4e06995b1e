"""Write ``mmcv_ops.npz``: results of a compiled onedl-mmcv 2.3.6 for the calls of ``op_cases``.

Run it where mmcv was compiled (``MMCV_WITH_OPS=1 pip install --no-binary onedl-mmcv
--no-build-isolation onedl-mmcv==2.3.6``); our stand-in is refused.
"""

from pathlib import Path

import mmcv
import mmcv._ext
import numpy as np
import torch
from op_cases import all_cases


def main():
    if not getattr(mmcv._ext, "__file__", "").endswith(".so"):
        raise SystemExit(f"mmcv._ext is not a compiled module: {mmcv._ext}")
    arrays = {"versions": np.array([mmcv.__version__, torch.__version__])}
    for name, call in all_cases().items():
        for index, value in enumerate(call()):
            arrays[f"{name}/{index}"] = np.asarray(value)
    np.savez_compressed(Path(__file__).with_name("mmcv_ops.npz"), **arrays)


if __name__ == "__main__":
    main()
