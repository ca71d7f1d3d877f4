"""The files for Kubernetes: what their schema does not know, and what others hold as well."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"


def _documents(pattern: str) -> Iterator[Any]:
    for file in sorted(FOLDER.glob(pattern)):
        if file.name != "kustomization.yaml":
            yield from YAML(typ="safe").load_all(file)


def _compose() -> Any:
    return YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]


def _place(text: str) -> str:
    """Return what Compose says as Kubernetes does: some of its machines have /run/secrets."""
    return text.replace("$$", "$").replace("/run/secrets/", "/etc/sendcode/")


@cache
def _objects() -> dict[tuple[str, str], Any]:
    return {(each["kind"], each["metadata"]["name"]): each for each in _documents("*/*.yaml")}


@cache
def _pods() -> dict[str, Any]:
    return {
        name: each["spec"]["template"]
        for (_, name), each in _objects().items()
        if "template" in each["spec"]
    }


OURS = ["worker", "web", "flower"]


def test_a_pod_is_bounded_and_has_no_rights(subtests: pytest.Subtests) -> None:
    assert _pods()
    for name, pod in _pods().items():
        with subtests.test(name):
            spec = pod["spec"]

            assert spec["automountServiceAccountToken"] is False
            assert spec["enableServiceLinks"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert container["resources"]["requests"].keys() == {"cpu", "memory"}
                assert container["resources"]["limits"].keys() == {"memory"}
                assert container["livenessProbe"]
                assert container["volumeMounts"]


@pytest.mark.parametrize("part", OURS)
def test_a_pod_sees_the_secrets_of_its_container_and_no_other(part: str) -> None:
    spec, service = _pods()[f"sendcode-{part}"]["spec"], _compose()[part]
    (container,) = spec["containers"]
    given = {each["name"]: each["value"] for each in container["env"]}

    (items,) = [each["secret"]["items"] for each in spec["volumes"] if "secret" in each]
    assert all(each["key"] == each["path"] for each in items)
    assert {each["key"] for each in items} == set(service["secrets"])
    of_compose = {
        name: _place(value)
        for name, value in service["environment"].items()
        if name.endswith("_FILE")
    }
    assert {name: value for name, value in given.items() if name.endswith("_FILE")} == of_compose


def test_a_worker_has_as_long_to_stop_as_it_needs_and_is_one_of_two() -> None:
    workers = _objects()["StatefulSet", "sendcode-worker"]["spec"]

    assert workers["replicas"] == 2
    assert workers["template"]["spec"]["terminationGracePeriodSeconds"] >= 30
    assert not any("Autoscaler" in kind for kind, _ in _objects())
    budget = _objects()["PodDisruptionBudget", "sendcode-worker"]["spec"]
    assert budget["maxUnavailable"] == 1


def test_what_selects_pods_selects_some_and_asks_ports_that_they_have() -> None:
    labels = [each["metadata"]["labels"] for each in _pods().values()]
    ports = {
        port["name"]
        for pod in _pods().values()
        for container in pod["spec"]["containers"]
        for port in container["ports"]
    }

    selectors = [
        each["spec"][key].get("matchLabels", each["spec"][key])
        for each in _objects().values()
        for key in ("selector", "podSelector")
        if key in each["spec"]
    ]
    assert len(selectors) > len(_pods()) * 2
    assert all(any(each.items() <= of.items() for of in labels) for each in selectors)
    for (kind, _), each in _objects().items():
        if kind == "Service":
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
        if kind == "ServiceMonitor":
            assert {endpoint["port"] for endpoint in each["spec"]["endpoints"]} <= ports


def test_the_alerts_are_those_of_prometheus() -> None:
    rules = YAML(typ="safe").load(ROOT / "deploy/prometheus/sendcode.rules.yml")

    assert _objects()["PrometheusRule", "sendcode"]["spec"] == rules, "make rules"


def test_redis_is_started_and_asked_as_in_compose() -> None:
    (container,) = _pods()["redis"]["spec"]["containers"]
    service = _compose()["redis"]

    assert container["image"] in service["image"]
    assert container["args"] == [_place(each) for each in service["command"]]
    asked = container["readinessProbe"]["exec"]["command"][-1]
    assert asked.strip() == _place(service["healthcheck"]["test"][-1]).strip()


@pytest.mark.parametrize("folder", ["base", "example"])
def test_kustomize_makes_one_whole_of_them(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if not kubectl or not (version := _kustomize(kubectl)) or int(version[0]) < 4:
        pytest.skip("there is no kubectl 1.21 or newer")

    ran = subprocess.run(
        [kubectl, "kustomize", str(FOLDER / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    made = {
        (each["kind"], each["metadata"]["name"])
        for each in YAML(typ="safe").load_all(ran.stdout)
        if each["metadata"]["namespace"] == "sendcode"
    }
    wanted = _documents("*/*.yaml" if folder == "example" else "base/*.yaml")
    assert {(each["kind"], each["metadata"]["name"]) for each in wanted} < made


def _kustomize(kubectl: str) -> str:
    """Return the version of the kustomize in kubectl, "5.0.1"; empty if it has none."""
    ran = subprocess.run(
        [kubectl, "version", "--client", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    document = json.loads(ran.stdout or "{}")
    return str(document.get("kustomizeVersion", "")).removeprefix("v")
