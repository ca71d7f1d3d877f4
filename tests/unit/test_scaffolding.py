"""What stands in more than one file must agree: settings, example, containers, locks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from config.settings import Settings
from tests.conftest import LONGEST

ROOT = Path(__file__).parents[2]
SECRETS = {
    "TENCENTCLOUD_SECRET_ID",
    "TENCENTCLOUD_SECRET_KEY",
    "TENCENTCLOUD_TOKEN",
    "SENDCODE_REDIS_URL",
    "SENDCODE_DATA_KEYS",
    "SENDCODE_FLOWER_PASSWORD",
}
GRAFANA_PASSWORD = "GF_SECURITY_ADMIN_PASSWORD_"
SETTINGS = {name.upper() for name in Settings.model_fields}
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def _services_of(file: str) -> Any:
    return YAML(typ="safe").load(ROOT / file)["services"]


@pytest.fixture(scope="module")
def services() -> Any:
    return _services_of("docker-compose.yml")


def test_the_example_of_env_names_every_setting_and_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    lines = dict(re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE))

    assert set(lines) == SETTINGS, "name every field of config.settings in .env.example"
    for name, value in lines.items():
        if name not in SECRETS:
            default = Settings.model_fields[name.lower()].default
            assert value == ("" if default is None else str(default).removesuffix(".0"))


def test_containers_take_every_setting_that_is_no_secret(services: Any) -> None:
    given = services["worker"]["environment"]
    passed_on = {name for name in given if not name.endswith("_FILE") and name[:5] != "OTEL_"}

    of_others = {"SENDCODE_FLOWER_USER", "SENDCODE_WEB_HOST", "SENDCODE_WEB_PORT"}
    assert passed_on == SETTINGS - SECRETS - of_others, (
        "name every field of config.settings in docker-compose.yml"
    )


def test_a_worker_s_figures_are_where_its_health_check_and_prometheus_ask(services: Any) -> None:
    worker = services["worker"]
    prometheus = YAML(typ="safe").load(ROOT / "deploy/prometheus/prometheus.yml")
    asked = {
        found["port"]
        for job in prometheus["scrape_configs"]
        for found in job.get("dns_sd_configs", [])
    }

    assert worker["environment"]["SENDCODE_METRICS_PORT"] == "0.0.0.0:9200"  # whatever .env says
    assert "http://127.0.0.1:9200/livez" in worker["healthcheck"]["test"][-1]
    assert asked == {9200}


def test_no_secret_is_in_the_environment_of_a_container(services: Any) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert name not in SECRETS
            if name.endswith("_FILE"):
                assert name.removesuffix("_FILE") in SECRETS | {GRAFANA_PASSWORD}
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_nothing_is_published_beyond_this_machine(services: Any) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_container_is_bounded_and_has_no_rights(services: Any) -> None:
    sandbox = _services_of("docker-compose.sandbox.yml")["sandbox"]

    for service in [*services.values(), sandbox]:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"]
        assert service["mem_limit"]
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        assert all(",mode=" in each and "size=" in each for each in service.get("tmpfs", []))


def test_any_number_of_workers_reaches_the_sandbox() -> None:
    services = _services_of("docker-compose.sandbox.yml")

    endpoint = urlsplit(services["worker"]["environment"]["SENDCODE_ENDPOINT"])
    assert endpoint.scheme == "https"
    assert endpoint.hostname in services
    assert not any("network_mode" in each for each in services.values())


def test_redis_keeps_what_it_is_told_and_goes_on_without_snapshots(services: Any) -> None:
    (script,) = services["redis"]["command"]

    assert {
        "appendonly yes",
        "appendfsync always",
        "maxmemory-policy noeviction",
        'save ""',
        "slowlog-log-slower-than -1",
    } <= {line.strip() for line in script.splitlines()}


def test_a_worker_has_time_to_finish_before_it_is_killed(services: Any) -> None:
    grace_s = int(services["worker"]["stop_grace_period"].removesuffix("s"))

    assert grace_s >= Settings.model_fields["sendcode_http_timeout"].default + 15


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_by_hash_and_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    packages = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())

    assert packages
    assert all(LOCKED.match(package) and "--hash=sha256:" in package for package in packages)
    assert "://" not in text


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_package_has_the_same_version_in_every_lock(lock: Path) -> None:
    everything = dict(LOCKED.findall((ROOT / "requirements/dev.lock").read_text()))

    own = dict(LOCKED.findall(lock.read_text()))
    if lock.stem == "bench":  # has what sendcode is measured against, too
        own = {name: version for name, version in own.items() if name in everything}
    assert own.items() <= everything.items()


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.split(r"[\[<>=]", requirement)[0] for requirement in project["dependencies"]}

    assert direct <= dict(LOCKED.findall((ROOT / "requirements/runtime.lock").read_text())).keys()


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {
        re.split(r"[\[<>=]", each)[0].lower()
        for each in [*project["dependencies"], *extras["demo"], *extras["otel"]]
    }
    distributions = packages_distributions()

    imported = {  # or looks so in a text, which harms nobody
        name
        for package in ("config", "demo", "jobs", "producer", "sandbox", "worker")
        for file in (ROOT / package).rglob("*.py")
        for name in re.findall(r"^ *(?:from|import) (\w+)", file.read_text(), re.MULTILINE)
    }
    assert {"celery", "redis", "requests", "tenacity", "flower"} <= imported

    libraries = imported & distributions.keys() - sys.stdlib_module_names
    names = {each: {_normal(name) for name in distributions[each]} for each in libraries}
    assert {each for each in libraries if not declared & names[each]} <= {"sendcode"}


def _normal(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_modules_that_take_longest_are_there() -> None:
    for name in LONGEST:
        folder, module = name.split("/")
        assert (ROOT / "tests" / folder / f"test_{module}.py").exists(), name


@pytest.mark.parametrize("unit", ["sendcode-worker@.service", "sendcode-web.service"])
def test_a_unit_of_systemd_is_hardened(unit: str, tmp_path: Path) -> None:
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    copy = tmp_path / unit
    copy.write_text((ROOT / "deploy/systemd" / unit).read_text())

    ran = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-300:] + ran.stderr
