"""Trainings as forks of one process that has imported everything: imports cost more than toy trainings."""

import os
import socket
import sys
import traceback


def preload():
    """Import what trainings import, and leave out what tests of them do not look at."""
    from mmengine._strategy import base

    from rsfoundation.engine import run_hooks
    from rsfoundation.registry import TASKS

    TASKS.import_from_location()
    base.collect_env = dict  # looks for compilers
    run_hooks.draw_curves = lambda record, path: None
    leave_configs_plain()


def leave_configs_plain():
    """Let mmengine write configs as they are, not laid out by yapf, which takes a second each training."""
    from yapf.yapflib import yapf_api

    yapf_api.FormatCode = lambda text, **options: (text, True)


def fork(work, *arguments):
    """Run ``work`` in a forked process; return its number. It exits with 1 where ``work`` raises."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def on_ranks(ranks, work, *arguments):
    """Run ``work`` on every rank; end this process when one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [fork(_as_rank, rank, ranks, port, work, arguments) for rank in range(ranks)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(statuses):
        sys.exit(1)


def _as_rank(rank, ranks, port, work, arguments):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    work(*arguments)
