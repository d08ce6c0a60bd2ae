"""The examples of deployment are what their readers take, and keep what they promise."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner

from etl import __version__
from etl.cli import audit_etl
from etl.config import load
from etl.monitoring.health import Monitor, serve_health
from tests import TOP
from tests.support import commands
from tests.support.commands import environment
from tests.support.database_servers import own_postgres
from tests.support.external_programs import program

CONFIG = TOP / "config"
KUBERNETES = ("daemon", "cronjob")
UNIT = (CONFIG / "audit-etl.service").read_text()
COMPOSE = yaml.safe_load((CONFIG / "compose.yaml").read_text())
#: What a container may not do, in compose and in Kubernetes.
CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Launch:
    """A command that an example runs, and the variables that it gives it."""

    where: str
    arguments: list[str]
    variables: Mapping[str, str]


def manifests(name: str) -> list[dict[str, Any]]:
    """What the file declares: the workload first."""
    return list(yaml.safe_load_all((CONFIG / "kubernetes" / f"{name}.yaml").read_text()))


def manifest(name: str) -> dict[str, Any]:
    return manifests(name)[0]


def pod(name: str) -> dict[str, Any]:
    spec = manifest(name)["spec"]
    found: dict[str, Any] = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    return found


def test_nobody_but_prometheus_may_ask_the_health_port() -> None:
    workload, policy = manifests("daemon")

    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    [allowed] = policy["spec"]["ingress"]
    assert allowed["ports"] == [{"port": 9464}]
    assert allowed["from"]


def containers(name: str) -> list[dict[str, Any]]:
    return [*pod(name)["initContainers"], *pod(name)["containers"]]


def instructions(name: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile."""
    text = (TOP / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(name)]


def of_unit(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, flags=re.MULTILINE)


def launches() -> Iterator[Launch]:
    variables = dict(setting.split("=", 1) for setting in of_unit("Environment"))
    [line] = of_unit("ExecStart")
    yield Launch("systemd", line.split()[1:], variables)
    for name in ("migrate", "daemon"):
        service = COMPOSE["services"][name]
        yield Launch(f"compose {name}", service["command"], service["environment"])
    for name in KUBERNETES:
        for container in containers(name):
            given = {variable["name"]: variable["value"] for variable in container["env"]}
            yield Launch(f"kubernetes {name} {container['name']}", container["args"], given)
    yield Launch("Dockerfile", json.loads(instructions("CMD")[0]), {})


LAUNCHES = list(launches())


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.where)
def test_each_example_runs_a_command_that_exists(launch: Launch) -> None:
    shown = CliRunner().invoke(audit_etl, [*launch.arguments, "--help"])

    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.where)
def test_each_example_gives_settings_that_are_accepted_and_secrets_in_files(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "client-secret").write_text("s\n")
    (tmp_path / "destination").write_text("postgresql://audit:p@database/audit?sslmode=disable\n")
    variables = {
        name: str(tmp_path / Path(value).name) if name.endswith("_FILE") else value
        for name, value in launch.variables.items()
    } | {"GENESYSCLOUD_REGION": "eu-central-1", "GENESYSCLOUD_OAUTHCLIENT_ID": "id"}

    settings = load(None, variables)

    if launch.where != "Dockerfile":
        settings.require_credentials()
        assert settings.destination.startswith("postgresql+psycopg://")
        secrets = {"GENESYSCLOUD_OAUTHCLIENT_SECRET", "AUDIT_ETL_DESTINATION"}
        assert not secrets & launch.variables.keys()


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_takes_the_manifests(name: str) -> None:
    newest = kubernetes_validate.latest_version()

    for found in manifests(name):
        kubernetes_validate.validate(found, newest, strict=True)

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest(name) | {"spek": {}}, newest, strict=True)


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_pod_is_confined(name: str) -> None:
    spec = pod(name)

    assert spec["enableServiceLinks"] is spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    uid = re.findall(r"--uid (\d+)", (TOP / "Dockerfile").read_text())
    assert [str(spec["securityContext"]["runAsUser"])] == uid == instructions("USER")
    for container in containers(name):
        assert container["securityContext"] == CONFINED
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["secrets"]["readOnly"] is True
        assert container["resources"].keys() == {"requests", "limits"}
    [secrets] = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert secrets["defaultMode"] == 0o440


def test_the_daemon_s_pod_is_probed_where_it_answers() -> None:
    [container] = pod("daemon")["containers"]

    [port] = container["ports"]
    paths = {
        kind: container[kind]["httpGet"] for kind in container if kind.endswith("Probe")
    }  # fmt: skip
    given = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert given["AUDIT_ETL_HEALTH_ADDRESS"] == f"0.0.0.0:{port['containerPort']}"
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": port["name"]},
        "livenessProbe": {"path": "/healthz", "port": port["name"]},
        "readinessProbe": {"path": "/readyz", "port": port["name"]},
    }


def test_compose_takes_the_file() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"

    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", CONFIG / "compose.yaml"],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_services_of_compose_are_confined_and_wait_for_each_other() -> None:
    services = COMPOSE["services"]

    for service in services.values():
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service["secrets"]) <= COMPOSE["secrets"].keys()
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    assert services["daemon"]["cap_drop"] == ["ALL"]
    assert services["daemon"]["ports"] == ["127.0.0.1:9464:9464"]
    assert services["daemon"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"}
    }
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert "healthcheck" in services["database"]


def test_systemd_takes_the_unit_and_finds_it_well_confined(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    unit = tmp_path / "audit-etl.service"
    unit.write_text(UNIT.replace("/opt/audit-etl/bin", str(Path(sys.executable).parent)))

    checks = [
        subprocess.run([analyze, *arguments, unit], capture_output=True, text=True)
        for arguments in (["verify"], ["security", "--offline=yes", "--threshold=15"])
    ]

    assert [(done.returncode, done.stderr) for done in checks] == [(0, "")] * 2


def test_the_secrets_of_the_unit_are_credentials() -> None:
    names = [line.split(":")[0] for line in of_unit("LoadCredential")]

    given = dict(setting.split("=", 1) for setting in of_unit("Environment"))
    assert sorted(given.values()) == sorted(f"%d/{name}" for name in names)
    assert all(name.endswith("_FILE") for name in given)


def test_the_image_s_health_check_tells_a_live_daemon_from_none() -> None:
    [text] = [text for text in instructions("HEALTHCHECK") if "CMD" in text]
    command = json.loads(text[text.index("CMD") + 4 :])
    assert "//127.0.0.1:9464/healthz" in command[-1]

    def check(port: str) -> int:
        script = command[-1].replace("9464", port)
        proxies = {"http_proxy": "http://127.0.0.1:9", "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [sys.executable, *command[1:-1], script], env=proxies, capture_output=True
        ).returncode

    with serve_health(("127.0.0.1", 0), Monitor()) as url:
        alive = check(url.rpartition(":")[2])
    dead = check(url.rpartition(":")[2])

    assert (alive, dead) == (0, 1)


def test_the_image_installs_what_the_makefile_installs() -> None:
    makefile = (TOP / "Makefile").read_text()

    [pinned, own] = [line.partition(" install ")[2] for line in instructions("RUN")[1:3]]

    assert f"$(INSTALL) {pinned}\n" in makefile
    assert f"$(INSTALL) {own[:-1]}-e .\n" in makefile


@pytest.mark.slow
def test_the_steps_of_the_image_make_a_program_that_runs(tmp_path: Path) -> None:
    source, image = tmp_path / "src", tmp_path / "image"
    for line in instructions("COPY"):
        if line.startswith("--from"):
            continue
        *names, target = line.split()
        for name in names:
            assert f"!{Path(name).parts[0]}" in (TOP / ".dockerignore").read_text().splitlines()
            to = source / target if len(names) == 1 and target != "./" else source / name
            to.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (TOP / name).is_dir() else shutil.copy)(TOP / name, to)

    for line in instructions("RUN")[:3]:
        words = shlex.split(line.replace("/opt/audit-etl", str(image)))
        if "--require-hashes" in words:  # is here already, and takes a minute
            [packages] = (image / "lib").glob("python*/site-packages")
            (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
            continue
        words[0] = sys.executable if words[0] == "python" else words[0]
        subprocess.run(words, cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)

    [entry] = json.loads(instructions("ENTRYPOINT")[0])
    shown = subprocess.run(
        [image / "bin" / entry, "config", "--example"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (shown.stdout, shown.stderr) == ((CONFIG / "audit-etl.toml").read_text(), "")
    for file in CONFIG.rglob("*.*"):
        installed = image.glob(f"lib/python*/site-packages/etl/_bundled/{file.relative_to(TOP)}")
        assert list(installed), file


def test_compose_makes_an_ordinary_role(tmp_path: Path) -> None:
    password = "it's a password"
    (tmp_path / "password").write_text(f"{password}\n")
    script = COMPOSE["configs"]["role"]["content"].replace(
        "/run/secrets/database-password", str(tmp_path / "password")
    )
    with own_postgres(tmp_path) as server:
        server.ask("CREATE DATABASE audit", "ALTER ROLE postgres PASSWORD 'a superuser''s'")
        at_server = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port)}
        path = os.pathsep.join([str(server.programs), os.environ["PATH"]])

        done = subprocess.run(["sh", "-ec", script], env={**at_server, "PATH": path}, check=False)

        assert done.returncode == 0
        assert server.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'audit'") == "False"
        superusers = "SELECT count(rolpassword) FROM pg_authid WHERE rolsuper"
        assert server.ask(superusers) == "0"
        url = sa.make_url(server.url).set(username="audit", password=password, database="audit")
        env = environment(AUDIT_ETL_DESTINATION=url.render_as_string(hide_password=False))
        assert commands.audit_etl("migrate", env=env).returncode == 0


def test_our_image_has_the_version_of_the_program() -> None:
    for file in (CONFIG / "kubernetes").iterdir():
        assert set(re.findall(r"image: audit-etl:(\S+)", file.read_text())) == {__version__}, file


def test_each_image_of_others_is_pinned_by_its_digest() -> None:
    texts = (TOP / "Dockerfile").read_text() + (CONFIG / "compose.yaml").read_text()
    images = [
        *re.findall(r"(?m)^FROM (\S+)", texts),
        *re.findall(r"(?m)^ *image: (?!audit-etl$)(\S+)", texts),
    ]

    assert len(images) == 3
    for image in images:
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
