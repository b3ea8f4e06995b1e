import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_used_again():
    code = (
        "import resource, numpy as np\n"
        "from rsfoundation.cli.app import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "use = lambda: [np.ones(5 << 18) for _ in range(20)]\n"  # 200 MiB in blocks of 10
        "use()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "use()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(faults) < 1000  # ten thousand otherwise
