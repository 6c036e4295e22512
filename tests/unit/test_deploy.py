"""docs/deploy: what people copy names what exists, and passes nothing but webhooks."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.connections import BACKLOG, OTHER_DESCRIPTORS, Limits


@pytest.fixture
def docs(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath / "docs"


@pytest.fixture
def rules(docs: Path) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((docs / "deploy/alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_rules_ask_for_metrics_that_there_are(docs: Path, rules: list[dict[str, Any]]) -> None:
    page = (docs / "reference/metrics.md").read_text()
    asked = {name for rule in rules for name in re.findall(r"kounta_mirror_\w+", rule["expr"])}
    assert asked
    assert {name for name in asked if f"| `{name}` |" not in page} == set()


def test_no_request_of_a_stranger_alone_raises_an_alert(rules: list[dict[str, Any]]) -> None:
    (rule,) = [rule for rule in rules if "kounta_mirror_refused_total" in rule["expr"]]
    counted, _, only_while = rule["expr"].partition(" and on(company) ")
    assert 'reason="signature_invalid"' in counted
    assert only_while == (
        '(kounta_mirror_deliveries_ruled_total == 0 or kounta_mirror_alert_open{alert="silence"} == 1)'
    )


def test_each_rule_leads_to_an_entry_of_the_runbook(docs: Path, rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        place, _, anchor = rule["annotations"]["runbook"].partition("#")
        page = (docs.parent / place).read_text()
        assert not anchor or "{{" in anchor or f'<a id="{anchor}"></a>' in page, rule["alert"]


def test_each_entry_of_the_runbook_says_what_to_do_and_how_to_know_that_it_worked(docs: Path) -> None:
    page = (docs / "how-to/troubles.md").read_text().split("## Other sentences")[0]
    entries = page.split("\n### ")[1:]
    assert len(entries) >= 12
    for entry in entries:
        assert [part for part in ("**Means**", "**Do**", "**It worked when**") if part not in entry] == []


@pytest.mark.parametrize("process", ["receiver", "worker"])
def test_a_unit_starts_its_process_and_gives_it_little(docs: Path, process: str) -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(docs / f"deploy/kounta-mirror-{process}.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[:2] == ["/opt/kounta-mirror/bin/kounta-mirror", process]
    assert service["Environment"] == f"MIRROR_DATA_DIR={service['WorkingDirectory']}"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert int(service["LimitNOFILE"]) >= Limits().connections + BACKLOG + OTHER_DESCRIPTORS
    assert service["MemoryMax"]


def test_the_port_is_a_socket_that_stays_open_while_the_receiver_restarts(docs: Path) -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(docs / "deploy/kounta-mirror-receiver.socket")
    service = ConfigParser(strict=False, interpolation=None)
    service.read(docs / "deploy/kounta-mirror-receiver.service")
    host, _, port = unit["Socket"]["ListenStream"].partition(":")
    assert service["Service"]["ExecStart"].endswith(f"receiver --host {host} --port {port}")
    assert service["Unit"]["Requires"] == "kounta-mirror-receiver.socket"
    assert int(unit["Socket"]["Backlog"]) == BACKLOG
    for name in ("Caddyfile", "nginx.conf"):
        assert f"{host}:{port}" in (docs / "deploy" / name).read_text()


@pytest.mark.parametrize(
    ("name", "line"),
    [("Caddyfile", "request_header -Upgrade"), ("nginx.conf", 'proxy_set_header Upgrade "";')],
)
def test_a_proxy_takes_the_wish_to_upgrade_away(docs: Path, name: str, line: str) -> None:
    assert line in (docs / "deploy" / name).read_text()


@pytest.mark.parametrize("name", ["Caddyfile", "nginx.conf"])
def test_a_proxy_passes_the_webhooks_alone(docs: Path, name: str) -> None:
    text = (docs / "deploy" / name).read_text()
    assert re.findall(r"/webhooks/", text) == ["/webhooks/"]
    assert "404" in text
    assert "8765" not in text
