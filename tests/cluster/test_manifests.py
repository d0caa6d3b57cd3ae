"""The files of jobs/cluster and the Dockerfile: what they say is known to who reads them, and true of this project.

SWEEP_KUBERAY_CRD names a file with the definition of a RayJob (helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml of
the repository of KubeRay); with it, every key and value of kuberay.yaml is held against that, and no unknown key
passes.
"""

import copy
import os
import re
import shlex
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sweep import parser

ROOT = Path(__file__).parents[2]
PODS = {"containers", "nodeSelector", "securityContext", "terminationGracePeriodSeconds", "tolerations"}
CONTAINER = {"envFrom", "image", "name", "ports", "resources"}
GROUP = {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "replicas", "template"}
JOB = {"activeDeadlineSeconds", "backoffLimit", "entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes"}
JOB |= {"submitterConfig", "ttlSecondsAfterFinished"}
CLUSTER = {"authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "headGroupSpec", "rayVersion"}


@pytest.fixture
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "jobs/cluster/kuberay.yaml").read_text())
    return loaded


def closed(schema: Any) -> Any:
    """The schema in which objects have the properties that it names and no others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        found.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("anyOf", None)
        found["type"] = ["integer", "string"]
    return found


def problems(job: dict[str, Any], definition: dict[str, Any]) -> list[str]:
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == job["apiVersion"].partition("/")[2])
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(job)]


@pytest.mark.skipif("SWEEP_KUBERAY_CRD" not in os.environ, reason="SWEEP_KUBERAY_CRD names no definition of a RayJob")
def test_kuberay_knows_every_key(job: dict[str, Any]):
    definition = yaml.safe_load(Path(os.environ["SWEEP_KUBERAY_CRD"]).read_text())
    assert problems(job, definition) == []
    for path in (["spec"], ["spec", "rayClusterSpec", "headGroupSpec", "template", "spec"]):
        wrong = copy.deepcopy(job)
        place = wrong
        for key in path:
            place = place[key]
        place["unheardOf"] = 1
        assert problems(wrong, definition), "an unknown key is seen"


def groups(job: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Each group, the head's first, with its pod and the container that runs Ray."""
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert group["template"].keys() == {"spec"}
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        yield group, pod, container


def test_a_rayjob_has_known_keys_only(job: dict[str, Any]):
    assert job.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() == JOB
    assert job["spec"]["rayClusterSpec"].keys() == CLUSTER | {"workerGroupSpecs"}
    for at, (group, pod, container) in enumerate(groups(job)):
        assert group.keys() == (GROUP if at else {"rayStartParams", "template"})
        assert {"containers", "securityContext", "terminationGracePeriodSeconds"} <= pod.keys() <= PODS
        assert {"envFrom", "image", "name", "resources"} <= container.keys() <= CONTAINER
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "Ray takes them as texts"


def test_a_rayjob_asks_for_a_token_scales_from_zero_and_ends(job: dict[str, Any]):
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert spec["shutdownAfterJobFinishes"] is True
    for bound in ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        assert isinstance(spec[bound], int), bound
        assert spec[bound] > 0, bound
    (head, *workers) = groups(job)
    assert head[0]["rayStartParams"]["num-cpus"] == "0"
    for group, pod, container in workers:
        assert group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"]
        assert pod["tolerations"]
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
        assert group["rayStartParams"].get("num-gpus", "0") == gpus
        assert (group["rayStartParams"].get("num-cpus") == "0") is (gpus != "0"), "CPU tasks start no GPU node"
    for _, pod, container in (head, *workers):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["envFrom"] == [{"secretRef": {"name": "noisesweep-store"}}]
        assert container["image"] == head[2]["image"]


def test_the_command_of_a_rayjob_is_one_that_sweep_takes(job: dict[str, Any]):
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "sweep"
    options = parser.parser().parse_args(arguments)
    assert (ROOT / options.study).is_file()
    assert options.wait_for_nodes <= sum(group.get("maxReplicas", 0) for group, *_ in groups(job))
    assert options.address == "auto"
    assert options.yes


def test_versions_are_those_of_the_project(job: dict[str, Any]):
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"
    )
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == constraints["ray"]
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (python,) = set(re.findall(r"^FROM python:(3\.\d+)\.\d+-slim-\w+", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert f"Programming Language :: Python :: {python}" in asked["classifiers"]


def test_the_dockerfile_copies_what_there_is_and_is_not_ignored():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    names = {name for found in copied for name in found if not name.startswith("--")}
    assert all((ROOT / name).exists() for name in names)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == names
    assert any(line.startswith("USER ") and line != "USER 0" for line in lines)
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", "\n".join(lines), re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {*extras.split(",")} <= known.keys()
    assert any(requirement.startswith("ray[default]") for extra in extras.split(",") for requirement in known[extra])


@pytest.mark.parametrize("path", sorted((ROOT / "jobs/cluster").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_such(path: Path):
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert path.stat().st_mode & stat.S_IXUSR or path.name == "slurm.sh"  # which sbatch reads
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    commands = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not any("ray stop" in line for line in commands), "it would end others' Ray, too"
