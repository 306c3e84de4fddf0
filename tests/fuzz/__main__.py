"""Searches for inputs that break a target: `PYTHONPATH=tests python -m fuzz --help`.

Needs atheris (`pip install atheris`), which has wheels for Linux on x86-64 only, so it is no
dependency: without it `test_corpus.py` replays what was found.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.keep import keep
from fuzz.targets import CORPUS, NAMES, Target, find, plain

FOUND = Path(".fuzz")
"""What a search finds, below the folder it is started in."""

TIMEOUT_S = 30
"""An input that takes longer has hung."""

INSTRUMENTED = [
    *("asyncade_proto", "asyncade_runtime", "asyncade_rl", "asyncade_learner", "asyncade_relay"),
    *("asyncade_actor", "asyncade_evaluator"),
]
"""Packages whose branches guide the search."""

REFRESHED_EVERY = 256
"""Inputs between two looks at the memory in use, which the fuzzer's own growth changes."""


class Ceiling:
    """Makes allocations beyond a number of bytes fail, so that they become MemoryErrors."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._left = self._soft = 0

    def __enter__(self) -> None:
        if not self._left:
            self._left = REFRESHED_EVERY
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            self._soft = pages * resource.getpagesize() + self._allowed
        self._left -= 1
        resource.setrlimit(resource.RLIMIT_AS, (self._soft, resource.RLIM_INFINITY))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def search(name: str, seconds: int) -> None:
    """Runs one target in this process, until the time is over or something breaks."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = find(name)
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    (FOUND / "broken").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(target.seeds()):
            (Path(seeds) / f"seed-{number}").write_bytes(seed)
        options = [
            *(f"-max_len={target.largest}", f"-timeout={TIMEOUT_S}", "-rss_limit_mb=8192"),
            *(f"-max_total_time={seconds}", "-print_final_stats=1"),
            f"-artifact_prefix={FOUND}/broken/{name}-",
        ]
        folders = [found, CORPUS / name, Path(seeds)]
        _fuzz(atheris, target, [sys.argv[0], *options, *map(str, folders)])


def _fuzz(atheris: object, target: Target, argv: list[str]) -> None:
    ceiling = Ceiling(target.memory)

    def run(data: bytes) -> None:
        with ceiling:
            target.run(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        own = plain(rng)

        def plainly(some: bytes) -> bytes:
            if rng.random() < 0.5:
                return own(some)
            changed: bytes = atheris.Mutate(some, max(len(some) + 16, 32))  # type: ignore[attr-defined]
            return changed

        changed = target.mutate(data, rng, plainly)
        return changed if len(changed) <= max_size else data

    atheris.Setup(argv, run, custom_mutator=mutate)  # type: ignore[attr-defined]
    atheris.Fuzz()  # type: ignore[attr-defined]


def main() -> int:
    """Searches in one target, or in each of them in a process of its own."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--minutes", type=float, default=6.0, help="for each target (default: 6)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="search no more: add what reaches new code to the committed corpus",
    )
    chosen = parser.parse_args()
    names = NAMES if chosen.target == "all" else [chosen.target]
    if chosen.keep:
        for name in names:
            keep(name, find(name), (FOUND / name).glob("*"))
        return 0
    if len(names) == 1:
        search(names[0], round(60 * chosen.minutes))  # the fuzzer ends the process
        return 0
    again = [sys.executable, "-m", "fuzz", f"--minutes={chosen.minutes}"]
    return max(subprocess.run([*again, name]).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main())
