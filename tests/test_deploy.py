"""Every file that a deployment is made of, held against its format's own rules by that format's own tools."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("base/*.yaml") if path.name != "kustomization.yaml")
VARIANTS = sorted(KUBERNETES.glob("*/kustomization.yaml"))


def check(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def test_the_dockerfile() -> None:
    check(BIN / "hadolint", "Dockerfile")


def test_the_compose_file() -> None:
    check(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest(path: Path) -> None:
    check(BIN / "kubernetes-validate", "--strict", path)


@pytest.mark.parametrize("path", VARIANTS, ids=lambda path: path.parent.name)
def test_a_variant_names_what_is_there(path: Path) -> None:
    (asked,) = documents(path)
    for name in [*asked["resources"], *(patch["path"] for patch in asked.get("patches", []))]:
        assert (path.parent / name).exists(), name
    listed = {path.parent / name for name in asked["resources"]}
    listed |= {path.parent / patch["path"] for patch in asked.get("patches", [])}
    assert {*path.parent.glob("*.yaml")} - {path} <= listed  # and nothing lies there that it does not name


def test_containers_run_without_privileges_and_what_scales_is_there() -> None:
    found = [document for path in MANIFESTS for document in documents(path)]
    deployments = {each["metadata"]["name"]: each for each in found if each["kind"] == "Deployment"}
    for deployment in deployments.values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}
    scaled = documents(KUBERNETES / "keda" / "scaled-object.yaml")[0]["spec"]["scaleTargetRef"]["name"]
    patched = documents(KUBERNETES / "ray" / "worker.yaml")[0]["metadata"]["name"]
    targets = [each["spec"]["scaleTargetRef"]["name"] for each in found if each["kind"] == "HorizontalPodAutoscaler"]
    assert {scaled, patched, *targets} <= set(deployments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", sorted((ROOT / "deploy" / "systemd").iterdir()), ids=lambda path: path.name)
def test_a_unit(path: Path, tmp_path: Path) -> None:
    unit = tmp_path / path.name.replace("@", "@1")
    unit.write_text(path.read_text().replace("/opt/mutoscope/bin/mutoscope", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if path.stem.rstrip("@") in line]
    assert ours == []


def test_the_commands_in_them_are_ours() -> None:
    """What each container and unit starts is a command that there is, with options that it has."""
    asked: list[list[str]] = []
    for document in (document for path in MANIFESTS for document in documents(path)):
        if document["kind"] == "Deployment":
            asked += [each["args"] for each in document["spec"]["template"]["spec"]["containers"]]
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    asked += [services[name]["command"] for name in ("api", "worker")]
    for path in (ROOT / "deploy" / "systemd").iterdir():
        (line,) = [line for line in path.read_text().splitlines() if line.startswith("ExecStart=")]
        asked.append(line.split()[1:])
    for command in {tuple(command) for command in asked}:
        done = subprocess.run(
            [sys.executable, "-m", "mutoscope", command[0], "--help"], capture_output=True, text=True, check=True
        )
        for option in (part for part in command if part.startswith("--")):
            assert option in done.stdout, command
