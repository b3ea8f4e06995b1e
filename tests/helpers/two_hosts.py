"""Two hosts on one machine: network namespaces joined by a pair of virtual cards."""

import os
import signal
import subprocess
import sys
import uuid

from locations import HELPERS, ROOT


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class TwoHosts:
    """Context in which :meth:`start` runs a program on host 0 or 1."""

    def __init__(self):
        tag = uuid.uuid4().hex[:6]
        self.names = [f"rsf{tag}{host}" for host in range(2)]
        self.cards = [f"v{tag}{host}" for host in range(2)]
        self.addresses = ["10.77.0.1", "10.77.0.2"]
        self.started = []

    def __enter__(self):
        for name in self.names:
            _ip("netns", "add", name)
        _ip("link", "add", self.cards[0], "type", "veth", "peer", "name", self.cards[1])
        for name, card, address in zip(self.names, self.cards, self.addresses, strict=True):
            _ip("link", "set", card, "netns", name)
            for words in (("addr", "add", f"{address}/24", "dev", card), ("link", "set", card, "up")):
                _ip("-n", name, *words)
            _ip("-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        for process in self.started:
            if process.poll() is None:
                self.kill(process)
        for name in self.names:
            _ip("netns", "del", name)

    def start(self, host, folder, program, *words):
        """Start one rank of a two-host run under torchrun, with a rendezvous on host 0."""
        paths = os.pathsep.join(map(str, (ROOT, HELPERS)))
        command = ["ip", "netns", "exec", self.names[host], sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "7"]
        command += ["--rdzv-endpoint", f"{self.addresses[0]}:29400", "--local-addr", self.addresses[host]]
        # torchrun finds the host of the rendezvous by its name, which is one and the same here
        command += ["--rdzv-conf", f"is_host={int(host == 0)}"]
        process = subprocess.Popen(
            [*command, str(program), *map(str, words)],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": paths,
                "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": self.cards[host],
            },
            stdout=(folder / f"host{host}.log").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def unplug(self, host):
        """Take the network away without a farewell, as a power cut does."""
        _ip("-n", self.names[host], "link", "set", self.cards[host], "down")

    @staticmethod
    def kill(process):
        """Kill a launcher and its ranks."""
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
        )
        os.killpg(process.pid, signal.SIGKILL)
        for child in children.stdout.split():  # torchrun gives each rank a session of its own
            try:
                os.kill(int(child), signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


def permitted():
    """Say why there can be no namespaces here; ``None`` where there can."""
    try:
        _ip("netns", "add", "rsfprobe")
        _ip("netns", "del", "rsfprobe")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces are not permitted here: {getattr(error, 'stderr', error)}"
    return None
