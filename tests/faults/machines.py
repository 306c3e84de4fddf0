"""Two machines with a cable between them: network namespaces, with a file of hosts of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from bench.local_run import QUICK

LEARNER_HOST = "learner"
"""Name of the learner's machine on the actors' machine."""


class Machines:
    """The learner's machine, which may change its address, and the actors'."""

    def __init__(self, stack: ExitStack) -> None:
        number = os.getpid()
        self.learner, self.actors = f"faults{number}a", f"faults{number}b"
        self._ends = (f"a{number}", f"b{number}")
        self._hosts = Path("/etc/netns") / self.actors / "hosts"
        for machine in (self.learner, self.actors):
            ip("netns", "add", machine)
            stack.callback(ip, "netns", "del", machine)
        first, second = self._ends
        cable = ("type", "veth", "peer", second, "netns", self.actors)
        ip("link", "add", first, "netns", self.learner, *cable)
        ip("-n", self.actors, "address", "add", "10.0.0.2/24", "dev", second)
        for machine, end in ((self.learner, first), (self.actors, second)):
            for link in ("lo", end):
                ip("-n", machine, "link", "set", link, "up")
        self._hosts.parent.mkdir(parents=True)
        stack.callback(shutil.rmtree, self._hosts.parent)

    def move(self, address: str, old: str | None = None) -> None:
        """Gives the learner's machine another address, and its name to that.

        Packets to the old one still reach the cable's other end, where nobody answers: no reset, no
        unreachable host, only silence.
        """
        first, second = self._ends
        if old is not None:
            there = ("-n", self.learner)
            mac = _output(*there, "-br", "link", "show", first).split()[2]
            ip("-n", self.actors, "neigh", "replace", old, "lladdr", mac, "dev", second)
            ip(*there, "address", "del", f"{old}/24", "dev", first)
        ip("-n", self.learner, "address", "add", f"{address}/24", "dev", first)
        self.name(address)

    def name(self, address: str) -> None:
        """Gives the learner's name to an address."""
        self._hosts.write_text(f"{address} {LEARNER_HOST}\n")

    def start(
        self, machine: str, log: Path, service: str, *arguments: str
    ) -> subprocess.Popen[bytes]:
        """Starts a service there."""
        command = [sys.executable, "-P", "-m", f"asyncade_{service}", "--metrics-port=0"]
        with log.open("ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", machine, *command, *arguments],
                env=os.environ | QUICK,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def two_machines() -> Iterator[Machines]:
    """Makes them, or skips the test where that is not possible."""
    with ExitStack() as stack:
        try:
            machines = Machines(stack)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield machines


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _output(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout
