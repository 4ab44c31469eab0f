"""The API's own description is true: a real engine is asked what the document allows, and answers as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from tests.support.engine_process import FAKE, EngineProcess, engine
from tests.support.serving import AGENT

pytestmark = pytest.mark.e2e

EXAMPLES = 4  # a way of asking each entry
STREAMS = ("/api/v1/events", "/api/v1/events/ws", "/api/v1/calls/{id}/listen")  # they end when the engine does
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
UNREADY = 503  # "not now" is an answer, not a failure, where the document has it


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineProcess, list[str]]]:
    """An engine that has had calls, and their ids; the last of them is still up."""
    folder = tmp_path_factory.mktemp("house")
    agents, home = folder / "agents", folder / "home"
    agents.mkdir()
    (agents / "desk.toml").write_text(AGENT)
    with engine(FAKE, str(agents), str(home), home=home) as started:
        ids = [started.text_call() for _ in range(3)]
        for call_id in ids:
            assert started.ask("POST", f"/api/v1/calls/{call_id}/text", {"text": "Hello there"})[0] == 200
        for call_id in ids[:2]:
            assert started.ask("POST", f"/api/v1/calls/{call_id}/hangup")[0] == 200
        started.wait_for_kind(ids[1], "CallEnded")
        yield started, ids


def test_the_document_is_valid_and_has_every_entry(house: tuple[EngineProcess, list[str]]) -> None:
    status, document = house[0].ask("GET", "/api/v1/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    for shape in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(shape)
    operations = [entry for path in document["paths"].values() for entry in path.values()]
    assert len({entry["operationId"] for entry in operations}) == len(operations)
    for path, entries in document["paths"].items():
        for method, entry in entries.items():
            assert entry["summary"], path
            assert (entry["security"] == []) is (entry["x-role"] == "open"), path
            done = min(entry["responses"])
            if method == "get" and done == "200":
                assert "schema" in next(iter(entry["responses"][done]["content"].values())) or path not in (
                    "/api/v1/calls",
                    "/api/v1/calls/{id}",
                    "/api/v1/engine",
                ), path


def test_the_engine_answers_as_the_document_says(house: tuple[EngineProcess, list[str]]) -> None:
    running, ids = house
    token = {"Authorization": f"Bearer {running.info['token']}"}
    session = requests.Session()
    session.trust_env = False
    base = f"http://127.0.0.1:{running.info['port']}"
    schema = schemathesis.openapi.from_dict(session.get(f"{base}/api/v1/openapi.json", headers=token).json())
    schema.config.update(base_url=base)
    seen: dict[str, set[int]] = {}
    turn = count()

    def ask(case: Any) -> None:
        if "id" in case.path_parameters and next(turn) % 2:
            case.path_parameters["id"] = ids[next(turn) % len(ids)]
        answer = case.call(session=session, headers=token)
        wanted = [check for check in CHECKS if check is not not_a_server_error or answer.status_code != UNREADY]
        case.validate_response(answer, checks=wanted)
        seen.setdefault(f"{case.method} {case.path}", set()).add(answer.status_code)

    problems = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path in STREAMS or operation.path.endswith("/shutdown"):
            continue
        strategy = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        examine = settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(strategy)(ask))
        try:
            examine()
        except (Exception, BaseExceptionGroup) as problem:
            told = problem.exceptions[0] if isinstance(problem, BaseExceptionGroup) else problem
            problems.append(f"{operation.label}: {type(told).__name__}: {str(told)[:900]}")
    assert not problems, "\n\n".join(problems)
    done = [name for name, statuses in seen.items() if min(statuses) < 300]
    assert len(done) > len(seen) / 2, {name: statuses for name, statuses in seen.items() if name not in done}
    assert running.process.poll() is None


def test_no_entry_forgets_to_ask_who_it_is(house: tuple[EngineProcess, list[str]]) -> None:
    running, _ = house
    _, document = running.ask("GET", "/api/v1/openapi.json")
    base = f"http://127.0.0.1:{running.info['port']}"
    for path, entries in document["paths"].items():
        for method, entry in entries.items():
            url = base + path.replace("{id}", "CA1").replace("{name}", "desk")
            answer = requests.request(method, url, timeout=20)
            if entry["x-role"] != "open":
                assert answer.status_code in (401, 429), path
                assert str(answer.status_code) in entry["responses"], path
