"""A prefab for tests of commands: it greets, fails, sleeps, tells, and copies files."""

from pathlib import Path

from packages import write_package

SOURCE = '''
    import os
    import pathlib
    import time

    def greet(name: str, times: int = 1) -> dict:
        """Say hello."""
        print("greeting", name)
        return {"text": f"Hello, {name}" * times, "token": len(os.environ.get("TOKEN", ""))}

    def fail() -> dict:
        raise ValueError("it went wrong")

    def sleep(seconds: float) -> dict:
        time.sleep(seconds)
        return {}

    def chat(n: int) -> dict:
        """Print slowly, and stop within a line."""
        for i in range(n):
            print(f"行 {i}", flush=True)
            time.sleep(0.1)
        print("no end", end="", flush=True)
        time.sleep(60)
        return {}

    def tell(n: int) -> dict:
        for i in range(n):
            yield {"type": "progress", "data": {"at": i}}
            yield {"type": "content", "data": f"{i};"}
        yield {"type": "done", "data": {"told": n}}

    def tell_and_fail() -> dict:
        yield {"type": "content", "data": "before"}
        raise ValueError("it went wrong")

    def copy() -> dict:
        """Hand the input files back."""
        for path in pathlib.Path("data/inputs/input").iterdir():
            (pathlib.Path("data/outputs") / path.name).write_bytes(path.read_bytes().upper())
        return {"success": True}
'''
FUNCTIONS = {
    "greet": {"secrets": [{"name": "TOKEN", "description": "A token.", "required": False}]},
    "copy": {
        "files": {
            "input": {"type": "array", "items": {"type": "InputFile"}},
            "output": {"type": "array", "items": {"type": "OutputFile"}},
        }
    },
}
PREFAB = "speaker"


def write_speaker(folder: Path, **changes: str) -> Path:
    return write_package(folder, SOURCE, prefab_id=PREFAB, functions=FUNCTIONS, **changes)  # type: ignore[arg-type]
