"""What mmcv's environment report asks its extension."""


def get_compiler_version() -> str:
    """Say that nothing was compiled."""
    return "none (rsfoundation.ops)"


def get_compiling_cuda_version() -> str:
    """Say that nothing was compiled."""
    return "not available"
