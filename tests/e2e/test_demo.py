"""The demo as people run it: what it shows, that it ends well, and that it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "scripts" / "demo.py")]
FOLDER = re.compile(r"in (\S+gateway-demo-\w+), which is removed")


def environment(temporary):
    """Without a key of a language model, and with a temporary folder of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return {**ours, "TMPDIR": str(temporary)}


def left_over(folder):
    """Processes that have anything to do with the demo's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            place = os.readlink(process / "cwd")
        except OSError:
            continue
        if folder in command or place.startswith(folder):
            found.append(command)
    return found


def wait_until_gone(folder):
    ends = time.monotonic() + 5
    while (processes := left_over(folder)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert processes == []
    assert not Path(folder).exists()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The output of one whole run, piped; it must be there before anything can be checked."""
    temporary = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        COMMAND, env=environment(temporary), cwd="/", capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stderr == ""
    wait_until_gone(FOLDER.search(done.stdout)[1])
    assert list(temporary.iterdir()) == []
    return done.stdout


def sections(text):
    """Title -> what stands below it."""
    parts = re.split(r"\n *\d+ (?=[A-Z])", text)[1:]
    return {title: body for title, _, body in (part.partition("\n") for part in parts)}


def test_it_shows_each_part(shown):
    assert list(sections(shown)) == [
        "Start a gateway",
        "Publish prefabs",
        "Make a user",
        "A plain call",
        "A call with files",
        "A streamed call",
        "A batch with one bad item",
        "Ask an agent",
        "Look up jobs and logs",
        "What needs a key",
    ]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Start a gateway", r"gateway: listening on http://127\.0\.0\.1:\d+\n +isolation: \w+"),
        ("Publish prefabs", r"(?s)echo@1\.0\.0.*data-analyzer@1\.0\.0.*document-processor@1\.0\.0.*llm-client@1\.0\.0"),
        ("Make a user", r"gateway key create --user alice.*\n +sk-[\w-]+…\n"),
        ("A plain call", r"\{'success': True, 'text': 'hello'\}"),
        ("A call with files", r"24 rows · 6 columns"),
        ("A call with files", r"'s3://agent-builder/prefab-outputs/alice/.+/季度报告\.txt'"),
        ("A call with files", r"季度报告\.txt: 88 words"),
        ("A streamed call", r"(?s)start.*progress .*'current': 1.*content +'1\\n'.*is 'running'.*done .*'counted': 4"),
        ("A batch with one bad item", r"'PARTIAL_SUCCESS'"),
        ("A batch with one bad item", r"(?s)SUCCESS .*'one'.*FAILED +VALIDATION_ERROR: .*txt.*SUCCESS .*'three'"),
        ("Ask an agent", r'"output_file":"s3://agent-builder/agent-outputs/alice/guide/'),
        ("Ask an agent", r'"提取字数":88'),
        ("Look up jobs and logs", r"(?s)my-prefab@1\.0\.0 greet.*data-analyzer@1\.0\.0 analyze.*greeting alice"),
        ("What needs a key", r"MissingSecretError: .*gateway secret set llm-client OPENAI_API_KEY"),
    ],
)
def test_it_shows_real_results(shown, title, expected):
    assert re.search(expected, sections(shown)[title])


def test_every_step_has_its_time_and_nothing_is_coloured(shown):
    steps = re.findall(r"^   (?:\$ gateway|>>> result =) .*", shown, re.M)
    assert len(steps) > 12
    assert all(re.search(r" [\d.]+ m?s$", step) for step in steps)
    assert "\x1b" not in shown


def test_it_ends_with_what_to_do_next(shown):
    assert re.search(r"All of it worked, in [\d.]+ s\. Everything has been removed again\.", shown)
    assert [line.split()[1] for line in shown.splitlines()[-6:] if "#" not in line] == ["init", "dev", "run"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_it_cleans_up_when_it_is_interrupted(tmp_path, number):
    process = subprocess.Popen(
        COMMAND,
        env={**environment(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    text = ""
    with process:
        for line in process.stdout:
            text += line
            if "echo@1.0.0" in line:  # in the middle of publishing
                process.send_signal(number)
                break
        text += process.stdout.read()
    assert process.returncode == 130, text
    assert "Interrupted." in text
    assert "Traceback" not in text
    wait_until_gone(FOLDER.search(text)[1])
    assert list(tmp_path.iterdir()) == []


def test_it_says_why_it_cannot_go_on(tmp_path):
    """Without a temporary folder that works there is no gateway; the reason is told and the code is not 0."""
    broken = {**environment(tmp_path), "PYTHONPATH": str(tmp_path)}
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('no web server today')")
    done = subprocess.run(COMMAND, env=broken, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "The demo stopped. The gateway did not start" in done.stdout
    assert "no web server today" in done.stdout
    wait_until_gone(FOLDER.search(done.stdout)[1])
