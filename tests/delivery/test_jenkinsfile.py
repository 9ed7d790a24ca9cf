"""The pipeline parses, does what each branch should, and every step is a make target that exists."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path, PurePath

import pytest
import tree_sitter_groovy
from tests.delivery.manifests import ROOT
from tree_sitter import Language, Parser

JENKINSFILE = (ROOT / "Jenkinsfile").read_text()
# Stage, in order: on which branches it runs (None: all), and its make target.
STAGES = {
    "Check": (None, None),
    "Lint": (None, "lint"),
    "Test api-rest": (None, "test-api-rest"),
    "Test api-cache": (None, "test-api-cache"),
    "Test the rest": (None, "test-suites"),
    "Test the monitoring": (None, "test-prometheus"),
    "Build": (None, "build"),
    "Merge into develop": (["feature/*"], "merge"),
    "Conformance": (["develop", "main"], "test-conformance"),
    "Faults": (["develop", "main"], "test-faults"),
    "Stress": (["develop", "main"], "test-stress"),
    "Integration": (["develop", "main"], "e2e"),
    "Push": (["develop", "main"], "push"),
    "Deploy to UAT": (["develop"], "deploy"),
    "Approve": (["main"], None),
    "Deploy to production": (["main"], "deploy"),
}


def stages() -> dict[str, str]:
    """Each stage's text, up to the next stage."""
    parts = re.split(r"stage\('([^']+)'\)", JENKINSFILE.split("\nvoid ")[0])
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parses(source: str) -> bool:
    parser = Parser(Language(tree_sitter_groovy.language()))
    return not parser.parse(source.encode()).root_node.has_error


def test_it_parses_as_groovy() -> None:
    assert parses(JENKINSFILE)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("steps { sh 'make lint' }", "steps { sh 'make lint'"),
        ("'make lint'", "'make lint"),
        ("timeout(time: 15,", "timeout(time 15,"),
        ("tools: [[", "tools: ["),
        ("void deploy(", "void deploy"),
    ],
)
def test_the_parser_would_notice(right: str, wrong: str) -> None:
    assert right in JENKINSFILE
    assert not parses(JENKINSFILE.replace(right, wrong, 1))


@pytest.mark.skipif(not shutil.which("groovyc"), reason="Groovy's own compiler is not installed here")
def test_groovy_s_own_compiler_takes_it(tmp_path: Path) -> None:
    source = tmp_path / "Jenkinsfile.groovy"
    source.write_text(JENKINSFILE)
    java = {
        "JAVA_HOME": os.environ.get("JAVA_HOME", "/usr/lib/jvm/default-java"),
        "JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # so short a run is not worth more
    }
    done = subprocess.run(
        ["groovyc", "-d", tmp_path, source],
        env=os.environ | java,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_stages_in_their_order() -> None:
    assert list(stages()) == list(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_on_its_branches(name: str) -> None:
    when = stages()[name].split("steps {")[0]
    assert (re.findall(r"branch '([^']+)'", when) or None) == STAGES[name][0]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_calls_its_target(name: str) -> None:
    body = stages()[name].replace("deploy('", "sh 'make deploy' // deploy('")
    assert re.findall(r"sh 'make ([\w-]+)", body) == [target for target in [STAGES[name][1]] if target]


def test_every_step_is_a_make_target_that_exists() -> None:
    commands = re.findall(r"\bsh\b\s*\(?(.*)", JENKINSFILE)
    assert commands
    for command in commands:
        target = re.match(r"'make ([\w-]+)[^']*'", command)
        assert target, f"not a make target: {command}"
        listed = subprocess.run(
            ["make", "--dry-run", target[1]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert listed.returncode == 0, listed.stderr


def test_services_are_tested_in_parallel() -> None:
    parallel = JENKINSFILE.split("parallel {")[1].split("stage('Build')")[0]
    assert "stage('Test api-rest')" in parallel
    assert "stage('Test api-cache')" in parallel


def test_what_is_skipped_has_failed() -> None:
    assert "environment { STRICT = 'yes' }" in JENKINSFILE


@pytest.mark.parametrize("name", [name for name in STAGES if name != "Check"])
def test_no_stage_runs_forever(name: str) -> None:
    assert "options { timeout(" in stages()[name]


@pytest.mark.parametrize("name", [name for name, (_, target) in STAGES.items() if target])
def test_a_stage_that_works_runs_in_a_container(name: str) -> None:
    assert "agent { dockerfile { dir '.ci'" in stages()[name]


def test_the_engine_sees_what_the_integration_tests_mount() -> None:
    """Containers that they start get folders of /tmp, which must be the engine's own."""
    assert "--volume /tmp:/tmp " in stages()["Integration"]


def test_production_waits_for_a_person_and_holds_no_agent_meanwhile() -> None:
    approve = stages()["Approve"]
    assert "input {" in approve
    assert "beforeInput true" in approve
    assert "agent {" not in approve
    assert JENKINSFILE.split("{", 1)[1].lstrip().startswith("agent none")


def test_no_two_deploys_at_a_time() -> None:
    assert "disableConcurrentBuilds()" in JENKINSFILE


def test_each_cluster_has_its_own_credentials() -> None:
    assert re.findall(r"deploy\('([^']+)'\)", stages()["Deploy to UAT"]) == ["kubeconfig-uat"]
    assert re.findall(r"deploy\('([^']+)'\)", stages()["Deploy to production"]) == ["kubeconfig-production"]


def test_secrets_are_never_part_of_a_command() -> None:
    """Groovy would write them into the script that Jenkins prints: no step is a double-quoted string."""
    assert not re.search(r"\bsh\s*\(?\s*\"", JENKINSFILE)
    assert not re.search(r"sh '[^']*(PASSWORD|KUBECONFIG|USER)", JENKINSFILE)


# Those that keep reports.
TESTING = [name for name, (_, target) in STAGES.items() if (target or "").startswith(("test-", "e2e"))]


@cache
def reports(stage: str) -> set[str]:
    """The files that a stage writes for Jenkins."""
    (command,) = re.findall(r"sh '(make .+?)'", stages()[stage])
    done = subprocess.run(
        [*command.split(), "--dry-run", "--always-make"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(re.findall(rf'(?:--junitxml "|xml:){re.escape(str(ROOT))}/([^"]+)', done.stdout))


def published(stage: str) -> dict[str, str]:
    """What reads reports, and the pattern of their names."""
    text = stages()[stage]
    if service := re.search(r"publish\('(.+?)'\)", text):
        text = JENKINSFILE.split("\nvoid publish")[1].replace("${service}", service[1])
    return dict(re.findall(r"(junit|pattern:) ['\"](.+?)['\"]", text))


def matching(pattern: str, paths: set[str]) -> set[str]:
    return {path for path in paths if PurePath(path).match(pattern)}


@pytest.mark.parametrize("name", TESTING)
def test_all_reports_are_published_by_what_reads_them(name: str) -> None:
    written = reports(name)
    coverage = {path for path in written if "coverage" in path}
    assert matching(published(name)["junit"], written) == written - coverage != set()
    assert matching(published(name).get("pattern:", "none"), written) == coverage


@pytest.mark.parametrize("name", TESTING)
def test_no_report_is_published_twice(name: str) -> None:
    """A stage may find those of the stages before it: agents come back to one folder."""
    others = set().union(*(reports(other) for other in TESTING if other != name))
    for pattern in published(name).values():
        assert matching(pattern, others) == set()


def test_the_http_core_has_its_reports() -> None:
    """Its suite is api-cache's second and third."""
    assert len(reports("Test api-cache")) == 5
