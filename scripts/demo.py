#!/usr/bin/env python3
"""`make demo`: the whole product on this machine, in a temporary folder, and nothing left behind.

The story is told here, with the public SDK and command line alone; `demo_stage.py` starts, shows and cleans up. Every
line of Python that is shown after >>> is the line that runs.
"""

import os
import sys
import time
from pathlib import Path

from demo_stage import ROOT, Stage, Trouble, run_story, seconds

from gateway_sdk import GatewayClient, GatewayError, PrefabCall, StreamEventType

PREFABS = ("examples/echo", "prefabs/data-analyzer", "prefabs/document-processor", "prefabs/llm-client")
SALES = "examples/files/sales.csv"
REPORT = "examples/files/季度报告.pdf"


def story(stage: Stage) -> None:
    """All of it, in order."""
    start(stage)
    publish(stage)
    meet_user(stage)
    call(stage)
    call_with_files(stage)
    stream(stage)
    batch(stage)
    ask_agent(stage)
    look_up(stage)
    chat(stage)


def start(stage: Stage) -> None:
    stage.section("Start a gateway", "SQLite, files and keys lie in one folder; here it is a temporary one.")
    stage.start_gateway()
    isolation = stage.ask_ready()["isolation"]
    told = {
        "uids": "every worker process has a uid of its own, inside the namespaces of its prefab",
        "pids": "every prefab has namespaces of its own; its workers share a uid (root would give each its own)",
        "none": "none here: prefabs run as ordinary processes (`gateway doctor` says why)",
    }
    stage.say(f"isolation: {told.get(isolation, isolation)}")


def publish(stage: Stage) -> None:
    stage.section(
        "Publish prefabs",
        "Each is checked against its manifest, by reading alone, and gets an environment of its own.",
    )
    for path in PREFABS:
        name = stage.gateway("prefab", "publish", path)
        stage.expect(name.startswith(Path(path).name + "@"), f"publishing {path} answered {name!r}")


def meet_user(stage: Stage) -> None:
    stage.section("Make a user", "The admin's key was made at the first start; a user needs one to call.")
    key = stage.gateway("key", "create", "--user", "alice", show=lambda key: f"{key[:10]}…")
    stage.expect(key.startswith("sk-"), "no API key was printed")
    stage.become(key)
    stage.names.update(GatewayClient=GatewayClient, PrefabCall=PrefabCall, KEY=key, URL=stage.base_url)
    stage.python("client = GatewayClient.from_api_key(KEY, base_url=URL)")


def call(stage: Stage) -> None:
    stage.section("A plain call", "The first one starts the prefab's process; the next ones find it warm.")
    line = 'result = client.run("echo", "1.0.0", "echo", {"text": "hello"})'
    for _ in range(2):
        stage.python(line)
        result = stage.value("result.get_function_result()")
        stage.expect(result == {"success": True, "text": "hello"}, f"echo returned {result!r}")


def call_with_files(stage: Stage) -> None:
    stage.section("A call with files", "Upload, analyse; and a PDF whose text comes back as a file.")
    stage.python(f'sales = client.upload_input_file("{SALES}")')
    stage.python('result = client.run("data-analyzer", "1.0.0", "analyze", {}, files={"input": [sales]})')
    stage.expect(stage.names["result"].is_success(), f"analyze failed: {stage.names['result'].error}")
    found = stage.names["result"].get_function_result()
    stage.expect(found["data"]["total_rows"] == 24, f"analyze counted {found['data']['total_rows']} rows, not 24")
    stage.say("\n".join(found["content"].splitlines()[:14]))
    stage.say("…")
    stage.python(f'report = client.upload_input_file("{REPORT}")')
    stage.python(
        'result = client.run("document-processor", "1.0.0", "extract_text", {"language": "zh"}, '
        'files={"input": [report]})'
    )
    stage.expect(stage.names["result"].is_success(), f"extract_text failed: {stage.names['result'].error}")
    stage.value('result.get_files()["output"][0]')
    stage.names["here"] = str(stage.folder)
    stage.python('path = client.save_file(result.get_files()["output"][0], here)')
    text = Path(stage.names["path"]).read_text("utf-8")
    words = stage.names["result"].get_function_result()["data"]["word_count"]
    stage.say(f"{Path(stage.names['path']).name}: {words} words, beginning with")
    stage.say("\n".join([line for line in text.splitlines() if line.strip()][:3]))
    stage.expect("季度" in text, "the text of the PDF is not the expected one")


def stream(stage: Stage) -> None:
    stage.section("A streamed call", "Events arrive while the function still runs; beside each, when it came.")
    client: GatewayClient = stage.names["client"]
    stage.code('for event in client.run("echo", "1.0.0", "count", {"n": 4, "delay": 0.4}, stream=True):')
    stage.code("    print(event.type, event.data)", is_first=False)
    began, seen, status = time.monotonic(), [], None
    with client.run("echo", "1.0.0", "count", {"n": 4, "delay": 0.4}, stream=True) as events:
        for event in events:
            data = "" if event.type == StreamEventType.START else repr(event.data)
            stage.row(f"{event.type:9} {data}".rstrip(), time.monotonic() - began)
            seen.append((event.type, time.monotonic() - began))
            if event.type == StreamEventType.CONTENT and status is None:
                status = client.get_job(events.job_id)["status"]
                stage.say(f'          meanwhile, client.get_job(events.job_id)["status"] is {status!r}')
    first = next(at for kind, at in seen if kind == StreamEventType.CONTENT)
    stage.expect(seen[-1][0] == StreamEventType.DONE, f"the stream ended with {seen[-1][0]}")
    stage.expect(status == "running" and seen[-1][1] - first > 1, "the events did not arrive while the function ran")


def batch(stage: Stage) -> None:
    stage.section("A batch with one bad item", "The bad one is refused by name; the others run.")
    stage.python('inputs = [{"text": "one"}, {"txt": "two"}, {"text": "three"}]')
    stage.python('batch = client.run_batch([PrefabCall("echo", "1.0.0", "echo", item) for item in inputs])')
    outcome = stage.names["batch"]
    stage.value("batch.status")
    for result in outcome.results:
        if result.is_success():
            stage.say(f"{result.status}  {result.get_function_result()}")
        else:
            stage.say(f"{result.status}   {result.error['error_code']}: {result.error['message']}", style="yellow")
    kinds = [result.is_success() for result in outcome.results]
    stage.expect(kinds == [True, False, True], f"the batch went {kinds}")


def ask_agent(stage: Stage) -> None:
    stage.section("Ask an agent", "A web application that the gateway calls for alice, and that calls prefabs for her.")
    url = stage.start_agent("examples/guide_agent/main.py")
    stage.gateway("agent", "add", "guide", url, is_admin=True)
    reply = _agent(stage, "/process-and-save", f'{{"parameters": {{"input_file": "{stage.names["sales"]}"}}}}')
    saved = reply["data"][0]["metadata"]["output_file"]
    path = stage.gateway("file", "get", saved, str(stage.folder / "report.md"))
    stage.say("\n".join([line for line in Path(path).read_text("utf-8").splitlines() if line][:3]))
    stage.say("…")
    reply = _agent(stage, "/process-document", f'{{"parameters": {{"document_url": "{stage.names["report"]}"}}}}')
    stage.expect(reply["data"][0]["metadata"]["提取字数"] > 0, f"the agent answered {reply}")


def _agent(stage: Stage, path: str, body: str) -> dict:
    reply = stage.gateway_json("agent", "call", "guide", path, "-d", body)
    stage.expect(reply.get("success") is True, f"{path} answered {reply}")
    return reply


def look_up(stage: Stage) -> None:
    stage.section("Look up jobs and logs", "Every call is a job. What a function prints is its log, not its result.")
    folder = stage.make_prefab()
    stage.gateway("prefab", "publish", str(folder), is_admin=True)
    result = stage.names["client"].run("my-prefab", "1.0.0", "greet", {"name": "alice"})
    stage.expect(result.is_success(), f"my-prefab failed: {result.error}")
    stage.gateway("run", "my-prefab@1.0.0", "greet", "-p", "name=alice")
    stage.gateway("job", "list", "--limit", "6", is_table=True)
    log = stage.gateway("job", "logs", result.job_id)
    stage.expect("greeting alice" in log, f"the log is {log!r}")


def chat(stage: Stage) -> None:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key:
        stage.section(
            "What needs a key", "llm-client asks a language model. Without a key the gateway says what to do."
        )
        try:
            stage.python(
                'client.run("llm-client", "1.0.0", "chat", {"messages": [{"role": "user", "content": "Hello"}]})'
            )
        except GatewayError as error:
            stage.say(f"{type(error).__name__}: {error}", style="yellow")
            stage.expect(error.error_code == "MISSING_SECRET", "the refusal was expected to be MISSING_SECRET")
            stage.say("Give the demo a key, and it chats for real: OPENAI_API_KEY=… make demo")
            return
        raise Trouble("llm-client ran without a key")
    stage.section("Talk to a language model", "With the OPENAI_API_KEY of this environment, as alice's own secret.")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        if value := os.environ.get(name, "").strip():
            stage.gateway("secret", "set", "llm-client", name, stdin=value)
    stage.code('messages = [{"role": "user", "content": "Say hello in English and in Chinese, in one line each."}]')
    stage.code('for event in client.run("llm-client", "1.0.0", "chat", {"messages": messages}, stream=True): …')
    messages = [{"role": "user", "content": "Say hello in English and in Chinese, in one line each."}]
    began, text = time.monotonic(), ""
    with stage.names["client"].run("llm-client", "1.0.0", "chat", {"messages": messages}, stream=True) as events:
        for event in events:
            if event.type == StreamEventType.CONTENT:
                text += str(event.data)
            elif event.type == StreamEventType.DONE and not event.data.get("success"):
                stage.say(f"{event.data.get('error_code')}: {event.data.get('error')}", style="yellow")
    if text:
        stage.say(text)
    stage.row("", time.monotonic() - began)


def farewell(stage: Stage, took: float) -> None:
    """What to do with it."""
    gateway = Path(sys.executable).parent / "gateway"
    shown = gateway.relative_to(ROOT) if gateway.is_relative_to(ROOT) else gateway
    stage.ending(
        f"All of it worked, in {seconds(took)}. Everything has been removed again.",
        "What next: a prefab of your own.",
        (
            (f"{shown} init my-prefab", "a prefab that works as it is, in ./my-prefab"),
            (f"{shown} dev my-prefab", "serve it; every change is published at once"),
            (f"{shown} run my-prefab@1.0.0 greet -p name=you", "call it, in a second terminal; needs no key"),
        ),
    )


if __name__ == "__main__":
    sys.exit(run_story(story, farewell))
