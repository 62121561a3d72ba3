"""A task that searches, reads a page and sends a mail, on a real Temporal server; and a worker that cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.control.compiling import compile_text
from engine.control.tools import load_catalog
from engine.core.plan.ir import AgentSnapshot, Plan
from engine.core.run.events import EventRecord, body_of
from engine.settings import HttpConfig, Project, load_project
from tests.backends.loopback import serving, simple_app
from tests.backends.smtp_receiver import MailServer, mail_server
from tests.support.lab import Lab

PASSWORD = "s3cret-of-the-mail"
KEY = "s3cret-of-the-search"
CONFIG = """
[http]
allow = ["127.0.0.1:*"]
[backends.none]
base_url = "http://127.0.0.1:1/v1"
[tools.integrations.search]
provider = "brave"
base_url = "{url}"
api_key_env = "SEARCH_KEY"
[tools.integrations.web]
[tools.integrations.email]
host = "127.0.0.1"
port = {port}
tls = "none"
user = "robot"
password_env = "MAIL_PASSWORD"
sender = "robot@example.com"
"""
TASK = """
name: report
main:
  - tool: search
    arguments: {query: $ _.topic, count: 1}
    retry: {attempts: 3, initial: 0s}
    label: found
  - tool: web
    arguments:
      url: $ _.results[0].url
    label: page
  - tool: email
    arguments: {to: ada@example.org, subject: "About {{ input.topic }}", body: $ _.text}
    on_error:
      - evaluate: $ error.code
"""


class Site:
    """A search service that is busy at first, and the page that it finds."""

    def __init__(self) -> None:
        self.url = ""
        self.searches = 0

    async def __call__(self, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if scope["path"] == "/page":
            return 200, {"content-type": "text/html"}, b"<h1>Tea</h1><p>Hot water on leaves.</p>"
        self.searches += 1
        if self.searches == 1:
            return 429, {"retry-after": "0"}, f"slow down, {KEY}".encode()
        reply = {"type": "search", "web": {"results": [{"title": "Tea", "url": f"{self.url}/page", "description": ""}]}}
        return 200, {}, json.dumps(reply).encode()


def set_up(lab: Lab, **places: Any) -> Project:
    file = lab.folder / "everstep.toml"
    file.write_text(CONFIG.format(**places))
    project = load_project(file)
    lab.project, lab.http = project, project.http
    lab.others = load_catalog(project, lab.folder).contracts()
    return project


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_KEY", KEY)
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)


def plan_for(lab: Lab, text: str = TASK) -> Plan:
    return compile_text(text, contracts=lab.others, agent=AgentSnapshot()).plan


async def told_of(lab: Lab, handle: Any) -> list[EventRecord]:
    await lab.until(handle, "finish")
    return await lab.events(handle)


async def test_a_task_searches_reads_and_writes_and_no_secret_is_kept(lab: Lab) -> None:
    site, mails = Site(), MailServer(logins={f"robot:{PASSWORD}"})
    async with serving(simple_app(site)) as site.url, mail_server(mails):
        set_up(lab, url=site.url, port=mails.port)
        async with lab.worker():
            handle = await lab.start(plan_for(lab), {"topic": "tea"})
            ended = await lab.end_of(handle)
            events = await told_of(lab, handle)
    [mail] = mails.mails
    assert mail.message["Subject"] == "About tea"
    assert mail.message.get_content().splitlines() == ["# Tea", "", "Hot water on leaves."]
    assert ended.output == {"success": True, "message_id": mail.message["Message-ID"], "to": ["ada@example.org"]}
    # the key of the call, by which whoever takes the mail can tell that it came twice
    assert ended.output["message_id"].startswith(f"<{handle.id}%3Amain%2E2@")
    assert site.searches == 2
    kept = [json.dumps(body_of(event)) for event in events]
    kept.append(str(await handle.fetch_history()))
    assert [text for text in kept if KEY in text or PASSWORD in text] == []
    failed = [body_of(event) for event in events if event.type == "attempt.failed"]
    assert [body["error"]["code"] for body in failed] == ["tool.http_status"]


async def test_a_mail_whose_fate_is_not_known_is_not_sent_again(lab: Lab) -> None:
    site, mails = Site(), MailServer(logins={f"robot:{PASSWORD}"}, drops="CONTENT")
    text = TASK.replace("    on_error", "    retry: {attempts: 3, initial: 0s}\n    on_error")
    async with serving(simple_app(site)) as site.url, mail_server(mails):
        set_up(lab, url=site.url, port=mails.port)
        async with lab.worker():
            ended = await lab.run(plan_for(lab, text), {"topic": "tea"})
    assert ended.output == "tool.unreachable"
    assert len(mails.mails) == 1


async def test_a_worker_without_the_integration_of_a_plan_says_so(lab: Lab) -> None:
    project = set_up(lab, url="http://127.0.0.1:1", port=1)
    plan = plan_for(lab)
    without = project.tools.model_copy(update={"integrations": {}})
    lab.project = project.model_copy(update={"tools": without, "http": HttpConfig()})
    async with lab.worker():
        ended = await lab.run(plan, {"topic": "tea"})
    assert ended.error is not None
    assert ended.error["code"] == "tool.unknown"
    assert "[tools.integrations.search]" in ended.error["hint"]


def test_the_example_of_the_documents_can_be_loaded(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
    first = page.split("```toml\n", 1)[1].split("```", 1)[0]
    file = tmp_path / "everstep.toml"
    file.write_text(first)
    assert set(load_catalog(load_project(file), tmp_path).contracts()) >= {"wikipedia", "web", "email"}
