"""The chart as Helm renders it for three sets of values (``deploy/helm/rendered``; `make deploy-check` renders it anew)."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.deploy import DEPLOY, check_command, check_environment, manifests, metrics, routes, script
from tailorbird.settings import check_closed, load_settings

HELM = DEPLOY / "helm"
EXAMPLES = sorted(path.name for path in (HELM / "values").glob("*.yaml"))
RENDERED = {name: manifests(HELM / "rendered" / name) for name in EXAMPLES}


def of_kind(name: str, kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in RENDERED[name] if manifest["kind"] == kind]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Component and specification of every pod that is made."""
    for manifest in RENDERED[name]:
        spec = manifest.get("spec", {})
        groups = [spec, spec.get("headGroupSpec", {}), *spec.get("workerGroupSpecs", ())]
        for group in groups:
            if "template" in group:
                component = group["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
                yield component, group["template"]["spec"]


def containers(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every container with its pod."""
    for _, pod in pods(name):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield pod, container


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {told["name"]: told["value"] for told in container.get("env", ()) if "value" in told}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_rendered_example_is_of_this_chart(name: str) -> None:
    first = (HELM / "rendered" / name).read_text(encoding="utf-8").partition("\n")[0]
    assert first + "\n" == script("deploy_check").head(HELM / "values" / name), "make deploy-render"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_is_nobody_s_and_has_no_token_of_the_cluster(name: str) -> None:
    found = list(pods(name))
    assert found
    for _, pod in found:
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert (security["runAsUser"], security["runAsGroup"]) == (10001, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        assert all("hostPath" not in volume for volume in pod["volumes"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_container_is_pinned_read_only_and_bounded(name: str) -> None:
    for _, container in containers(name):
        assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"])
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_is_one_of_the_product(name: str) -> None:
    ours = [container for _, container in containers(name) if "command" not in container and "args" in container]
    assert {container["args"][0] for container in ours} == {"database", "serve", "worker"}
    for container in ours:
        check_command(container["args"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_variable_is_read_by_somebody(name: str, tmp_path: Path) -> None:
    values = yaml.safe_load((HELM / "values" / name).read_text(encoding="utf-8"))
    for _, container in containers(name):
        if container["name"] != "engine":
            check_environment(variables(container), tmp_path, values.get("secretEnvironment", ()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_secrets_are_references_and_only_the_first_container_mounts_them(name: str) -> None:
    assert not of_kind(name, "Secret")
    for _, pod in pods(name):
        secret = {volume["name"] for volume in pod["volumes"] if "secret" in volume}
        assert secret
        for container in pod["containers"]:
            assert secret.isdisjoint(mount["name"] for mount in container["volumeMounts"])
            for told in container.get("env", ()):
                assert set(told) in ({"name", "value"}, {"name", "valueFrom"})
                assert "valueFrom" not in told or set(told["valueFrom"]) == {"secretKeyRef"}
        (prepare,) = pod["initContainers"]
        assert prepare["args"][0].startswith("umask 077\n")


def modes(folder: Path) -> dict[str, int]:
    """Files below ``folder`` with their modes."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_prepared_is_its_owner_s_and_taken_by_the_product(name: str, tmp_path: Path) -> None:
    settings = of_kind(name, "ConfigMap")[0]["data"]["settings.yaml"]
    for number, (_, pod) in enumerate(pods(name)):
        folder = tmp_path / str(number)
        here = {"/var/lib/tailorbird": folder / "state", "/run/tailorbird-ray": folder / "token", "/etc/tailorbird": folder / "etc"}
        for place in here.values():
            place.mkdir(parents=True)
        script_text = pod["initContainers"][0]["args"][0]
        for path, place in here.items():
            script_text = script_text.replace(path, str(place))
        for source in re.findall(r"^cp (\S+)", script_text, flags=re.MULTILINE):
            Path(source).parent.mkdir(exist_ok=True)
            Path(source).write_text(settings if source.endswith("settings.yaml") else "secret", encoding="utf-8")
            Path(source).chmod(0o644)
        for _start in range(2):  # a volume outlives its pod
            subprocess.run(["sh", "-euc", script_text], check=True)
        prepared = modes(folder / "state") | modes(folder / "token")
        assert {"workspace/settings.yaml", "workspace/keys/log.key", "secrets/pgpass"} <= set(prepared)
        assert set(prepared.values()) == {0o600}
        check_closed(load_settings(folder / "state" / "workspace", {}))


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_process_has_the_password_and_the_keys_of_its_role(name: str) -> None:
    roles = {"migration": "owner", "gateway": "gateway", "worker": "worker", "signer": "worker", "ray": "worker"}
    logins = {"owner": "tailorbird_owner", "gateway": "gateway1", "worker": "worker1"}
    for component, pod in pods(name):
        role = roles[component]
        (database,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "database"]
        assert database["items"] == [{"key": role, "path": "pgpass"}]
        (keys,) = [volume["secret"]["items"] for volume in pod["volumes"] if volume["name"] == "keys"]
        holds = {item["key"] for item in keys}
        asks = any(container.get("args") == ["worker"] for container in pod["containers"])
        assert {"log.key"} <= holds
        assert any(key.endswith(".worker.key") for key in holds) == asks
        urls = [value for told in pod["containers"] if (value := variables(told).get("TAILORBIRD_DATABASE"))]
        assert all(url.startswith(f"postgresql://{logins[role]}@") for url in urls)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_secret_reaches_the_roles_that_it_is_for_and_no_other(name: str) -> None:
    """With Ray the head's pod has the workers, and the head itself, which does no step, is given nothing."""
    values = yaml.safe_load((HELM / "values" / name).read_text(encoding="utf-8"))
    given = dict[str, set[tuple[str, str, str]]]()
    for component, pod in pods(name):
        for container in (*pod["initContainers"], *pod["containers"]):
            role = component
            if component == "ray":
                role = {"ray-node": "node", "ray-head": "head", "prepare": "prepare"}.get(container["name"], "worker")
            elif container["name"] in ("prepare", "engine"):
                role = container["name"]
            told = [entry for entry in container.get("env", ()) if "valueFrom" in entry]
            refers = [(entry["name"], entry["valueFrom"]["secretKeyRef"]) for entry in told]
            given.setdefault(role, set()).update((variable, ref["name"], ref["key"]) for variable, ref in refers)
    meant = values.get("secretEnvironment", {})
    assert {role for role, secrets in given.items() if secrets} == {role for said in meant.values() for role in said["roles"]}
    for role, secrets in given.items():
        assert secrets == {(variable, said["secretName"], said["key"]) for variable, said in meant.items() if role in said["roles"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_who_migrates_reads_no_artifacts(name: str) -> None:
    (migration,) = [pod for component, pod in pods(name) if component == "migration"]
    secret = {volume["name"] for volume in migration["volumes"] if "secret" in volume}
    assert secret == {"keys", "database"}
    text = migration["initContainers"][0]["args"][0]
    assert re.findall(r"^cp /etc/tailorbird/(\w+)/", text, flags=re.MULTILINE) == ["settings", "keys", "database"]
    others = [pod for component, pod in pods(name) if component != "migration"]
    assert all("artifacts" in {volume["name"] for volume in pod["volumes"]} for pod in others)


@pytest.mark.parametrize("name", EXAMPLES)
def test_probes_ask_where_the_gateway_answers(name: str) -> None:
    (gateway,) = [pod["containers"][0] for component, pod in pods(name) if component == "gateway"]
    asked = {kind: gateway[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: told["path"] for kind, told in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {told["path"] for told in asked.values()} <= routes()
    (port,) = gateway["ports"]
    assert {told["port"] for told in asked.values()} == {port["name"]}
    assert gateway["args"][gateway["args"].index("--port") + 1] == str(port["containerPort"])
    encrypted = "TAILORBIRD_TLS_CERT" in variables(gateway)
    assert {told["scheme"] for told in asked.values()} == {"HTTPS" if encrypted else "HTTP"}
    (service,) = [told for told in of_kind(name, "Service") if told["metadata"]["name"].endswith("-gateway")]
    assert [told["targetPort"] for told in service["spec"]["ports"]] == [port["name"]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_process_signs_checkpoints(name: str) -> None:
    signing = [
        component
        for component, pod in pods(name)
        for container in pod["containers"]
        if container.get("args", ["x"])[0] in ("serve", "worker") and variables(container)["TAILORBIRD_CHECKPOINT_MINUTES"] != "0"
    ]
    assert signing == ["signer"]
    (signer,) = [told for told in of_kind(name, "StatefulSet") if told["metadata"]["name"].endswith("-signer")]
    assert signer["spec"]["replicas"] == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_schema_is_made_before_anything_else(name: str) -> None:
    hooks = [manifest for manifest in RENDERED[name] if "helm.sh/hook" in manifest["metadata"].get("annotations", {})]
    assert [manifest["kind"] for manifest in hooks] == ["ConfigMap", "Job"]
    assert {manifest["metadata"]["annotations"]["helm.sh/hook"] for manifest in hooks} == {"pre-install,pre-upgrade"}
    (container,) = hooks[1]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["database", "migrate"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_reached_but_the_gateway_by_its_callers(name: str) -> None:
    policies = {told["metadata"]["name"]: told["spec"] for told in of_kind(name, "NetworkPolicy")}
    closed = policies["tb-tailorbird-closed"]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed
    assert "egress" not in closed
    for component, _ in pods(name):
        labels = {"app.kubernetes.io/name": "tailorbird", "app.kubernetes.io/instance": "tb", "app.kubernetes.io/component": component}
        assert closed["podSelector"]["matchLabels"].items() <= labels.items()
    opened = {told["podSelector"]["matchLabels"].get("app.kubernetes.io/component") for told in policies.values() if "ingress" in told}
    assert opened == ({"gateway", "ray"} if name == "ray.yaml" else {"gateway"})
    for told in policies.values():
        assert all(rule["from"] for rule in told.get("ingress", ()))
        assert all(rule["to"] for rule in told.get("egress", ()))
    if name == "ray.yaml":
        (rule,) = policies["tb-tailorbird-ray"]["ingress"]
        assert rule["from"] == [{"podSelector": policies["tb-tailorbird-ray"]["podSelector"]}]


def test_vllm_listens_on_loopback_as_its_driver_demands() -> None:
    from tailorbird.integrations.vllm import open_driver

    ((_, engine),) = [(pod, told) for pod, told in containers("vllm.yaml") if told["name"] == "engine"]
    arguments = engine["args"]
    told = {flag: value for flag, value in pairwise(arguments) if flag.startswith("--")}
    settings = yaml.safe_load(of_kind("vllm.yaml", "ConfigMap")[0]["data"]["settings.yaml"])
    assert settings["engine_url"] == f"http://{told['--host']}:{told['--port']}"
    assert settings["engine_model"] == told["--served-model-name"]
    open_driver(settings["engine_url"], "", settings["engine_model"], lambda _: None)  # type: ignore[arg-type, return-value]
    assert "--enable-lora" in arguments
    assert variables(engine)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert "ports" not in engine
    (state,) = [mount for mount in engine["volumeMounts"] if mount["name"] == "state"]
    assert (state["subPath"], state["readOnly"]) == ("workspace/cache", True)


def test_gateways_are_scaled_by_a_metric_that_they_show() -> None:
    (scaler,) = of_kind("vllm.yaml", "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in metrics()
    (rule,) = manifests(HELM / "prometheus-adapter.yaml")[0]["rules"]["custom"]
    assert rule["seriesQuery"].partition("{")[0] == name
    (gateway,) = of_kind("vllm.yaml", "Deployment")
    assert "replicas" not in gateway["spec"]
    (monitor,) = of_kind("vllm.yaml", "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] in routes()


def test_ray_asks_for_a_token_that_is_a_file() -> None:
    (cluster,) = of_kind("ray.yaml", "RayCluster")
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["include-dashboard"] == "false"
    assert "authOptions" not in cluster["spec"]
    ours = [container for component, pod in pods("ray.yaml") if component == "ray" for container in pod["containers"]]
    assert [container["name"] for container in ours] == ["ray-head", "worker-0", "worker-1", "ray-node"]
    for container in ours:
        told = variables(container)
        assert told["RAY_AUTH_MODE"] == "token"
        assert any(told["RAY_AUTH_TOKEN_PATH"].startswith(mount["mountPath"]) for mount in container["volumeMounts"])
        assert "RAY_AUTH_TOKEN" not in told
    head = ours[0]
    assert {mount["name"] for mount in head["volumeMounts"]} == {"tmp", "shm", "ray-token"}
    assert not [told for told in of_kind("ray.yaml", "StatefulSet") if told["metadata"]["name"].endswith("-worker")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_few_are_taken_away_at_once(name: str) -> None:
    kept = {told["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] for told in of_kind(name, "PodDisruptionBudget")}
    assert kept == ({"gateway", "ray"} if name == "ray.yaml" else {"gateway", "worker"})
    assert {told["spec"]["maxUnavailable"] for told in of_kind(name, "PodDisruptionBudget")} == {1}
