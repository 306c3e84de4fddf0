"""The Grafana dashboard: order of its rows, layout, and provisioning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docker/grafana"
BOARD = json.loads((GRAFANA / "dashboards/asyncade.json").read_text())
QUESTIONS = (
    "Is it learning?",
    "How fast?",
    "What limits it?",
    "How stale is the data?",
    "What is dropped?",
    "What does each actor do?",
    "What do relays pass on?",
)


def provisioned(path: str) -> Any:
    return yaml.safe_load((GRAFANA / "provisioning" / path).read_text())


def test_rows_answer_the_questions_in_order() -> None:
    panels = sorted(BOARD["panels"], key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"]))
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert len(rows) == len(QUESTIONS)
    for title, question in zip(rows, QUESTIONS, strict=True):
        assert title.startswith(question)


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_has_a_query_of_the_provisioned_source() -> None:
    (source,) = provisioned("datasources/prometheus.yml")["datasources"]
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": source["uid"]}


def test_names_and_ids_are_unique() -> None:
    for key in ("id", "title"):
        values = [panel[key] for panel in BOARD["panels"] if panel["type"] != "row"]
        assert len(values) == len(set(values))


def test_compose_mounts_the_folders_that_grafana_reads() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    (provider,) = provisioned("dashboards/asyncade.yml")["providers"]
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./docker/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/asyncade.json"
