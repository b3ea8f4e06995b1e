"""The stand-in for mmcv._ext is there however Python is entered."""

import multiprocessing
import subprocess
import sys


def test_a_program_that_never_imports_rsfoundation_has_mmcv_ops():
    code = "import mmcv.ops, sys; print(sys.modules['mmcv._ext'].__spec__.origin)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


def _import_in_child(queue):
    import mmcv.ops

    queue.put(mmcv.ops.__name__)


def test_a_spawned_process_has_mmcv_ops():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_import_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=120) == "mmcv.ops"
    child.join()


def test_a_compiled_extension_wins(tmp_path):
    """The finder is asked last: a real mmcv._ext on the path is taken."""
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_ext.py").write_text("compiled = True\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import rsfoundation, mmcv._ext as e; assert e.compiled"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
