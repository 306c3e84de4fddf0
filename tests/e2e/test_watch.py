"""The live page in a real browser: what it shows, that it follows the run, and that it is quiet.

With ASYNCADE_SCREENSHOTS=FOLDER screenshots are written there, of the run ASYNCADE_SCREENSHOTS_RUN
if that is given.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bench.local_run import free_ports

from asyncade_runtime.run_folder import RunFolder
from e2e.browser import Tab, browser, found
from e2e.commands import eventually, running
from rigs.page import row, run_folder

PROGRAM = found()

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium"),
]

ADDRESS = re.compile(r"http://\S+")
SCREENSHOTS = os.environ.get("ASYNCADE_SCREENSHOTS")


@pytest.fixture
def tabs(tmp_path: Path) -> Iterator[Callable[[], Tab]]:
    assert PROGRAM is not None
    with browser(PROGRAM, tmp_path / "profile") as new_tab:
        yield new_tab


@contextmanager
def watched(home: Path, run: Path) -> Iterator[str]:
    """Yields the address of a run's page."""
    with running(home / "watch.txt", "watch", run, "--port=0") as page:
        eventually(lambda: ADDRESS.search(page.text()), "an address", page)
        yield ADDRESS.findall(page.text())[0]
        page.signal(signal.SIGINT)
        assert page.exit_code() == 0
        assert "Traceback" not in page.text()


def text(tab: Tab, id_: str) -> str:
    return str(tab.value(f"document.getElementById('{id_}').textContent"))


def drawn(tab: Tab, screens: int) -> None:
    """Waits until more screens have been drawn."""
    before = tab.value("import('/static/page.js').then(({ shown }) => shown.film.drawn)")
    tab.wait_for(
        f"import('/static/page.js').then(({{ shown }}) => shown.film.drawn >= {before + screens})"
    )


def choose(tab: Tab, stop: int) -> None:
    """Moves the slider."""
    tab.value(
        f"(slider => {{ slider.value = {stop}; slider.dispatchEvent(new Event('input'));"
        " slider.dispatchEvent(new Event('change')); })(document.getElementById('checkpoint'))"
    )


def quiet(tab: Tab, address: str) -> None:
    """Asserts that a page has complained of nothing, and asked nobody else for anything."""
    assert tab.complaints == []
    assert {urlsplit(request).netloc for request in tab.requests} == {urlsplit(address).netloc}


def test_a_finished_run(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    run_folder(tmp_path / "run", game="pong")
    with watched(tmp_path, tmp_path / "run") as address:
        tab = tabs()
        tab.look_like(1280, 1000)
        tab.open(address)
        tab.wait_for("document.getElementById('game-name')?.textContent === 'Pong'")
        drawn(tab, 60)
        assert text(tab, "status-text") == "reached its target"
        assert text(tab, "mean-return") == "0.5"
        assert text(tab, "bottleneck").startswith("The learner waits for actors")
        names = tab.value("[...document.querySelectorAll('#actions li')].map(row => row.innerText)")
        assert [name.split("\n")[0] for name in names][:3] == ["wait", "fire", "right"]
        assert tab.value("document.querySelectorAll('#curve .line').length") == 1
        colours = tab.value(
            "new Set(new Uint32Array(document.getElementById('film').getContext('2d')"
            ".getImageData(0, 0, 160, 210).data.buffer)).size"
        )
        assert colours >= 3
        choose(tab, 0)
        assert text(tab, "checkpoint-name") == "after 1,000 env steps"
        assert tab.value("document.querySelectorAll('#curve .mark').length") == 1
        drawn(tab, 60)
        tab.value("document.getElementById('look').click()")
        tab.wait_for("!document.getElementById('attention').hidden")
        quiet(tab, address)


def test_a_run_that_can_show_no_game_says_why(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    folder = run_folder(tmp_path / "run", checkpoints=0)
    folder.append_metrics(row(11, target_env_steps=700, target_seconds=14.0))
    folder.write_summary({"ended_by": "max_minutes"})
    with watched(tmp_path, tmp_path / "run") as address:
        tab = tabs()
        tab.open(address)
        tab.wait_for("document.getElementById('film-note')?.textContent.includes('--resume')")
        ended = "reached its target after 700 env steps (14 s); ended at its time limit"
        assert text(tab, "status-text") == ended
        assert text(tab, "rate") == "50 a second on average"
        shutil.rmtree(tmp_path / "run")
        tab.wait_for("document.getElementById('status-text').textContent.endsWith('is gone')")
        assert text(tab, "curve") == "No game has ended"
        quiet(tab, address)


def test_what_cannot_be_played_is_said_until_something_can(
    tmp_path: Path, tabs: Callable[[], Tab]
) -> None:
    early = run_folder(tmp_path / "run").checkpoint_files()[-1]
    with watched(tmp_path, tmp_path / "run") as address:
        tab = tabs()
        tab.open(address)
        drawn(tab, 10)
        os.truncate(early, early.stat().st_size // 2)
        choose(tab, 0)
        tab.wait_for("document.getElementById('troubles').textContent.includes('cannot be played')")
        assert early.name in text(tab, "troubles")
        choose(tab, 2)
        drawn(tab, 10)
        tab.wait_for("document.getElementById('troubles').textContent === ''")
        quiet(tab, address)


def test_it_is_used_by_keyboard(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    run_folder(tmp_path / "run")
    with watched(tmp_path, tmp_path / "run") as address:
        tab = tabs()
        tab.open(address)
        drawn(tab, 10)
        tab.do("Input.dispatchKeyEvent", type="keyDown", key=" ", code="Space")
        assert text(tab, "pause") == "Play"
        tab.value("document.getElementById('curve').focus()")
        tab.do("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft")
        label = tab.value("document.getElementById('curve').getAttribute('aria-label')")
        assert label == "0.40 at 900 env steps"
        unnamed = tab.value(
            "[...document.querySelectorAll('button, input, canvas, section')].filter(one =>"
            " !one.ariaLabel && !one.labels?.length && !one.textContent.trim()"
            " && !one.getAttribute('aria-labelledby') && !one.ariaHidden).map(one => one.id)"
        )
        assert unnamed == []


def test_a_film_waits_to_be_asked_for_where_motion_is_to_be_reduced(
    tmp_path: Path, tabs: Callable[[], Tab]
) -> None:
    run_folder(tmp_path / "run")
    with watched(tmp_path, tmp_path / "run") as address:
        tab = tabs()
        tab.look_like(390, 844, prefers_reduced_motion="reduce")
        tab.open(address)
        tab.wait_for("document.getElementById('game-name')?.textContent === 'Catch'")
        assert "Play" in text(tab, "film-note")
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")  # of a phone
        tab.value("document.getElementById('pause').click()")
        drawn(tab, 10)
        assert text(tab, "film-note") == ""
        quiet(tab, address)


def test_ten_tabs(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    run_folder(tmp_path / "run")
    with watched(tmp_path, tmp_path / "run") as address:
        opened = [tabs() for _ in range(10)]
        for tab in opened:
            tab.open(address)
        for tab in opened:
            tab.do("Page.bringToFront")
            drawn(tab, 10)
            quiet(tab, address)


def test_a_training_is_followed_live(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    train = ("train", "--game=catch", "--target=null", f"--run-dir={tmp_path / 'run'}")
    with running(
        tmp_path / "train.txt", *train, "--actors=1", environ={"ASYNCADE_TRAIN_WATCH": "true"}
    ) as training:
        eventually(lambda: ADDRESS.search(training.text()), "an address", training)
        address = ADDRESS.findall(training.text())[0]
        tab = tabs()
        tab.open(address)
        tab.wait_for("document.getElementById('status-text')?.textContent === 'training'")
        drawn(tab, 10)
        tab.wait_for("document.getElementById('actors-rows')?.textContent.includes('actor-0')")
        before = text(tab, "games")
        tab.wait_for(f"document.getElementById('games').textContent !== {before!r}")
        quiet(tab, address)
        training.signal(signal.SIGINT)
        assert training.exit_code() == 128 + signal.SIGINT
        tab.wait_for("document.getElementById('status-text').textContent.includes('watch')")


def test_the_death_of_the_page_does_not_end_the_training(tmp_path: Path) -> None:
    run, taken = tmp_path / "run", socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    train = ("train", "--game=catch", "--target=null", f"--run-dir={run}", "--actors=1")
    environ = {"ASYNCADE_TRAIN_WATCH": "true", "ASYNCADE_WATCH_PORT": port}
    with taken, running(tmp_path / "train.txt", *train, environ=environ) as training:
        eventually(lambda: "live page ended" in training.text(), "its end", training)
        rows = len(RunFolder(run).read_metrics())
        eventually(lambda: len(RunFolder(run).read_metrics()) > rows, "more rows", training)


def test_a_learner_that_restarts(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    upstream, weights, *_ = free_ports(2)
    addresses = [
        f"--upstream-address=tcp://127.0.0.1:{upstream}",
        f"--weights-address=tcp://127.0.0.1:{weights}",
        "--metrics-port=0",
    ]
    run = tmp_path / "run"
    learner = ("learner", f"--run-dir={run}", "--game=catch", *addresses)
    version = "import('/static/page.js').then(({ shown }) => shown.version)"
    with running(tmp_path / "actor.txt", "actor", *addresses) as actor:
        with running(tmp_path / "one.txt", *learner) as one:
            eventually(lambda: RunFolder(run).checkpoint_files(), "a checkpoint", one, actor)
            one.signal(signal.SIGKILL)
        with running(tmp_path / "two.txt", *learner) as two, watched(tmp_path, run) as address:
            eventually(lambda: RunFolder(run).read_metrics(), "rows", two, actor)
            tab = tabs()
            tab.open(address)
            tab.wait_for(f"{version}")
            two.signal(signal.SIGKILL)
            two.process.wait()
            before = tab.value(version)
            with running(tmp_path / "three.txt", *learner) as three:
                eventually(
                    lambda: (tab.value(version) or 0) > before + 10, "newer weights", three, actor
                )
                tab.wait_for("document.getElementById('status-text')?.textContent === 'training'")
                quiet(tab, address)


def test_the_page_of_an_evaluator(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    upstream, weights, page = free_ports(3)
    addresses = [
        f"--upstream-address=tcp://127.0.0.1:{upstream}",
        f"--weights-address=tcp://127.0.0.1:{weights}",
        "--metrics-port=0",
    ]
    run = ("learner", f"--run-dir={tmp_path / 'run'}", "--game=catch", *addresses)
    evaluator = ("evaluator", *addresses[1:], f"--page-port={page}", "--episodes=8")
    with (
        running(tmp_path / "learner.txt", *run) as learner,
        running(tmp_path / "evaluator.txt", *evaluator) as evaluating,
    ):
        address = f"http://127.0.0.1:{page}/"
        eventually(lambda: address in evaluating.text(), "its address", learner, evaluating)
        tab = tabs()
        tab.open(address)
        tab.wait_for("document.getElementById('learning-title')?.textContent.includes('round')")
        drawn(tab, 10)
        tab.wait_for("/[0-9]/.test(document.getElementById('games').textContent)")
        assert tab.value("document.getElementById('senders').hidden")
        quiet(tab, address)
        evaluating.signal(signal.SIGTERM)
        assert evaluating.exit_code() == 0


def test_the_page_of_an_evaluator_that_asks_the_learner(
    tmp_path: Path, tabs: Callable[[], Tab]
) -> None:
    upstream, weights, metrics, page = free_ports(4)
    addresses = [
        f"--upstream-address=tcp://127.0.0.1:{upstream}",
        f"--weights-address=tcp://127.0.0.1:{weights}",
    ]
    run = ("learner", f"--run-dir={tmp_path / 'run'}", "--game=catch", *addresses)
    asked = f"--learner-http=http://127.0.0.1:{metrics}"
    evaluator = ("evaluator", addresses[1], "--metrics-port=0", f"--page-port={page}", asked)
    with (
        running(tmp_path / "evaluator.txt", *evaluator) as evaluating,
        running(tmp_path / "learner.txt", *run, f"--metrics-port={metrics}") as learner,
        running(tmp_path / "actor.txt", "actor", *addresses, "--metrics-port=0") as actor,
    ):
        address = f"http://127.0.0.1:{page}/"
        eventually(lambda: address in evaluating.text(), "its address", learner, evaluating)
        tab = tabs()
        tab.open(address)
        tab.wait_for("/a second/.test(document.getElementById('rate')?.textContent)")
        tab.wait_for("document.querySelectorAll('#actors-rows tr').length === 1")
        tab.wait_for("document.getElementById('bottleneck').textContent.includes('of its time')")
        assert text(tab, "learning-title") == "Mean return of the last 100 games"
        assert not tab.value("document.getElementById('axes').hidden")
        drawn(tab, 10)
        learner.signal(signal.SIGTERM)
        assert learner.exit_code() == 0
        tab.wait_for("document.getElementById('troubles').textContent.includes('cannot be read')")
        drawn(tab, 10)
        assert text(tab, "env-steps")[0].isdigit()
        quiet(tab, address)
        for process in (evaluating, actor):
            process.signal(signal.SIGTERM)
            assert process.exit_code() == 0


@pytest.mark.skipif(SCREENSHOTS is None, reason="ASYNCADE_SCREENSHOTS is not set")
def test_screenshots(tmp_path: Path, tabs: Callable[[], Tab]) -> None:
    run = os.environ.get("ASYNCADE_SCREENSHOTS_RUN")
    if run is None:
        run_folder(tmp_path / "run", game="pong")
    with watched(tmp_path, Path(run or tmp_path / "run")) as address:
        for name, width, height, scheme, looks in [
            ("early", 1280, 1000, "light", False),
            ("trained", 1280, 1000, "light", True),
            ("dark", 1280, 1000, "dark", False),
            ("phone", 390, 844, "light", False),
            ("phone-dark", 390, 844, "dark", False),
        ]:
            tab = tabs()
            tab.look_like(width, height, prefers_color_scheme=scheme)
            tab.open(address)
            drawn(tab, 60)
            if name == "early":
                choose(tab, 0)
            if looks:
                tab.value("document.getElementById('look').click()")
            drawn(tab, 600)
            tab.screenshot(Path(SCREENSHOTS or tmp_path) / f"{name}.png")
            quiet(tab, address)
