"""Reports: one file that refers to nothing else, of runs in whatever state."""

from __future__ import annotations

import json
import shutil
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import pytest

from asyncade_cli.__main__ import main
from asyncade_cli.report import parts
from asyncade_cli.report.runs import ReportedRun, read_run
from asyncade_learner.settings import LearnerSettings
from asyncade_rl.games import num_actions
from asyncade_runtime.run_folder import RunFolder
from rigs.models import write_model

ARCHIVED = Path(__file__).parents[4] / "bench" / "results" / "pong-data-seed-1"


class Page(HTMLParser):
    """A page's elements, headings, text, and what it refers to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "line") or (tag == "line" and not self.rawdata_is_closed()):
            self.open.append(tag)

    def rawdata_is_closed(self) -> bool:
        return (self.get_starttag_text() or "").endswith("/>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data + "\n"


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        **{"seconds": 2.0 * number, "env_steps": 1000 * number, "updates": 10 * number},
        **{"episodes": 50 * number, "mean_return_100": number / 20, "policy_lag_mean": 0.5},
        **{"env_steps_per_second": 500.0, "point_share": -0.5, "loss_policy": -0.01},
        **{"messages_dropped": number, "messages_lost": 0, "updates_skipped": 0},
        "stage_shares": {"wait": 0.2, "forward_backward": 0.7, "publish": 0.1},
        **more,
    }


def write_run(
    root: Path,
    mode: str = "data",
    rows: int = 12,
    *,
    game: str = "catch",
    models: int = 0,
    ended: bool = True,
) -> Path:
    """Writes the folder of a run of Catch, with half a row at the end."""
    folder = RunFolder.create(root)
    settings = LearnerSettings(game="catch", learning_rate=5e-5)
    chosen = {"mode": mode, "game": game, "torch_threads": 2}
    folder.write_config("learner", settings.model_dump(mode="json") | chosen)
    folder.write_config("train", {"actors": 2})
    metrics = [row(number) for number in range(rows)]
    lines = "".join(json.dumps(one) + "\n" for one in metrics)
    (root / "metrics.jsonl").write_text(lines + '{"seconds": 1')
    if ended:
        last = {name: row(rows)[name] for name in ("env_steps", "seconds", "mean_return_100")}
        about = {"mode": mode, "game": game, "target": 0.9, "ended_by": "max_minutes"}
        folder.write_summary({**about, **last, "commit": "c0ffee", "actors": 2, "cores": 2})
    for number in range(models):
        write_model(folder, "catch", seed=number, env_steps=1000 * number, policy_version=number)
    return root


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path


def reported(*runs: Path, options: tuple[str, ...] = ("--no-films",)) -> Page:
    """Runs the command; returns the page, which refers to nothing."""
    assert main(["report", *map(str, runs), *options, "--out=page.html"]) == 0
    page = Page(Path("page.html"))
    for name, value in page.attributes:
        if name in ("src", "href", "data", "poster", "action", "xlink:href", "srcset"):
            assert value.startswith("data:")
        assert "://" not in value
    for tag in ("link", "iframe", "object", "img"):
        assert tag not in page.tags
    style = Path("page.html").read_text().partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    return page


def test_a_run_is_described(here: Path) -> None:
    page = reported(write_run(here / "one"))
    for heading in ("Curves", "Losses", "Settings", "Machine and versions", "What was lost"):
        assert heading in page.headings
    for fact in ("Catch: data mode", "its time was up", "trains 70%", "c0ffee", "learning_rate"):
        assert fact in page.text
    assert "5e-05" in page.text
    assert "discount" in page.text, "all settings, folded"
    assert page.tags.count("svg") == 6, "a chart of every column that has numbers"
    assert ("class", "target") in page.attributes


def test_evaluations_of_the_run_are_shown(here: Path) -> None:
    root = write_run(here / "one", models=1)
    assert "Evaluation" not in reported(root).headings
    page = reported(root, options=("--no-films", "--episodes=4"))
    assert "Evaluation" in page.headings
    assert "84x84" in page.text
    assert len(list(RunFolder(root).evaluations)) == 1


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("ended", [True, False])
def test_a_run_of_few_rows_is_reported(here: Path, rows: int, ended: bool) -> None:
    page = reported(write_run(here / "one", rows=rows, ended=ended))
    assert ("has not ended" in page.text) != ended


def test_an_archived_part_of_a_run_is_reported(here: Path) -> None:
    shutil.copytree(ARCHIVED, here / "one")
    page = reported(here / "one")
    assert "371,200 env steps" in page.text
    assert "no config.json" in page.text


def test_runs_are_side_by_side(here: Path) -> None:
    roots = [write_run(here / "a" / "x"), write_run(here / "b" / "x", "gradients")]
    page = reported(*roots)
    assert "Catch: data and gradients modes" in page.text
    for root in roots:
        assert str(root) in page.text, "two of the same name are told apart"
    assert page.tags.count("polyline") == 2 * page.tags.count("svg")
    colours = {value for name, value in page.attributes if value.startswith("line c")}
    assert colours == {"line c0", "line c1"}


def test_of_many_runs_each_mode_has_a_colour(here: Path) -> None:
    roots = [
        write_run(here / f"{mode}-{n}", mode) for n in (1, 2) for mode in ("data", "gradients")
    ]
    page = reported(*roots)
    colours = {value for name, value in page.attributes if value.startswith("line c")}
    assert colours == {"line c0", "line c1"}
    for root in roots:
        assert root.name in page.text


def test_three_films_show_how_it_learned(here: Path) -> None:
    page = reported(write_run(here / "one", models=5), options=())
    films = [value for name, value in page.attributes if name == "src"]
    assert len(films) == len(set(films)) == 3
    assert all(film.startswith("data:video/mp4;base64,") for film in films)
    for caption in ("early", "midway", "trained", "after 2,000 env steps", "after 4,000 env steps"):
        assert caption in page.text


def test_without_pyav_there_are_no_films_and_the_cure_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert "video" not in reported(write_run(here / "one", models=1), options=()).tags
    assert "pip install" in capsys.readouterr().err


def test_without_the_game_there_are_no_films(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_run(here / "one", models=1)

    def missing(run: ReportedRun) -> NoReturn:
        num_actions("dodge_of_nobody")
        raise AssertionError

    monkeypatch.setattr("asyncade_cli.report.command.films_of", missing)
    assert "video" not in reported(root, options=()).tags
    assert "install the game's package" in capsys.readouterr().err


def test_every_share_of_the_time_has_a_colour_and_a_name(here: Path) -> None:
    root = write_run(here / "one")
    stages = {"wait": 0.5, "prepare": 0.2, "optimise": 0.293, "decode": 0.004, "report": 0.003}
    RunFolder(root).append_metrics(row(13, stage_shares=stages))
    page = reported(root)
    slices = ["wait", "prepare", "optimise", "other"]
    kinds = [value for name, value in page.attributes if name == "class"]
    assert [kind for kind in kinds if kind in {*stages, "other"}] == slices
    assert [kind for kind in kinds if kind.startswith("key ")] == [f"key {one}" for one in slices]
    assert "other 0.7%" in page.text
    style = files("asyncade_cli.report").joinpath("style.css").read_text()
    assert all(f".{one} {{ background" in style for one in (*parts._STAGES, "other"))


def test_a_much_shorter_interval_has_no_pace(here: Path) -> None:
    root = write_run(here / "one")
    RunFolder(root).append_metrics(row(12, seconds=22.1, env_steps_per_second=90_000.0))
    paces = [y for _, y in read_run(root, "one").points("env_steps_per_second", "seconds")]
    assert set(paces) == {500.0}


def test_each_game_has_its_own_charts(here: Path) -> None:
    roots = [write_run(here / game, game=game) for game in ("catch", "pong")]
    page = reported(*roots)
    assert page.tags.count("polyline") == page.tags.count("svg") == 12
    one = reported(roots[0])
    assert one.tags.count("svg") == 6


def test_what_the_program_chose_is_marked(here: Path) -> None:
    assert "automatic" in reported(write_run(here / "one")).text


def test_names_are_no_markup(here: Path) -> None:
    page = reported(write_run(here / "<b>&"))
    assert "<b>&" in page.text


def test_the_report_is_written_into_the_run(here: Path) -> None:
    root = write_run(here / "one")
    assert main(["report", str(root), "--no-films"]) == 0
    assert (root / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "asyncade report RUN"),
        (["absent"], "absent"),
        (["one", "--out=one/config.json/page.html"], "--out"),
        (["one", "--out=one"], "--out one/report.html"),
        (["one", "--out=nowhere"], "--out nowhere.html"),
        (["one", "--out=nowhere/page.html"], "nowhere does not exist"),
        (["one", "--episodes=0"], "--episodes"),
        (["one", "--episodes=2"], "checkpoint"),
    ],
)
def test_bad_input_is_named(
    here: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(here / "one")
    assert main(["report", *arguments]) == 2
    assert named in capsys.readouterr().err
