"""Operators under the names and signatures of ``mmcv._ext``."""
