"""The page, the data and the picture of the benchmark suite."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from bench import report
from bench.machine import Machine, Noise
from bench.results import Bar, Results, Table, text
from bench.spread import Spread

MACHINE = Machine("a processor", 2, 8.0, "6.1", "3.11.7", "1.1.0", "starlette 1.0", "wrk", "root")
QUIET = Noise(steal=0.0, others=0.01, load_before=0.1, load_after=1.2, seconds=600)


def results() -> Results:
    found = Results(noise=Spread(1.0, 0.96, 1.04, 6))
    found.findings = {"unary.1": Spread(0.2, 0.1, 0.3, 4), "unary.16": Spread(1.5, 1.45, 1.6, 4)}
    found.tables = [Table("Calls", ("connections", "ratio"), [["16", "1.50"]], "A note.")]
    found.bars = [
        Bar("gateway", Spread(1.5, 1.45, 1.6, 4), is_product=True),
        Bar("other <1>", Spread(0.02, 0.01, 0.03, 4)),
    ]
    found.missing = {"cog 1.0": "no wheel for this machine"}
    return found


def test_all_three_are_written(tmp_path: Path) -> None:
    paths = report.write(tmp_path / "results", results(), MACHINE, QUIET, "python -m bench")
    assert sorted(path.name for path in paths) == ["latest.json", "latest.md", "latest.svg"]
    page, data, picture = ((tmp_path / f"results/latest.{ending}").read_text() for ending in ("md", "json", "svg"))
    assert (
        "| echo, 1 connection: p50 later than Starlette's by | ≤ 0.25 ms | ≤ 0.12 ms | **0.20 (0.10–0.30)** ms | met? |"
        in page
    )
    assert "requests/s against Starlette | ≥ 0.8 × | ≥ 1.4 × | **1.50 (1.45–1.60)** × | reached |" in page
    assert "The machine was **quiet**" in page
    assert "- cog 1.0: no wheel for this machine" in page
    assert [goal["key"] for goal in json.loads(data)["goals"]] == ["unary.16", "unary.1"]
    assert "other <1>" in "".join(ElementTree.fromstring(picture).itertext())


def test_a_fact_is_told_as_yes_or_no(tmp_path: Path) -> None:
    found = Results()
    found.state("honest.records", True)
    found.state("honest.kept", False)
    paths = report.write(tmp_path, found, MACHINE, QUIET, "python -m bench")
    page, data, picture = (path.read_text() for path in paths)
    assert "as many records as requests | yes | yes | **yes** | reached |" in page
    assert "after kill -9, too | yes | yes | **no** | missed |" in page
    assert [goal["median"] for goal in json.loads(data)["goals"]] == [1.0, 0.0]
    assert {"yes", "no"} <= set(ElementTree.fromstring(picture).itertext())


def test_a_run_without_findings_has_a_page_and_a_picture_too(tmp_path: Path) -> None:
    paths = report.write(tmp_path, Results(), MACHINE, QUIET, "python -m bench")
    ElementTree.fromstring(paths[2].read_text())


def test_a_machine_that_others_use_is_called_noisy() -> None:
    taken = Noise(steal=0.2, others=0.1, load_before=3, load_after=3, seconds=60)
    assert taken.verdict(None) == "noisy"
    assert QUIET.verdict(Spread(1.0, 0.9, 1.1, 4)) == "unsettled"
    assert QUIET.verdict(Spread(1.0, 0.7, 1.3, 4)) == "noisy"


def test_figures_have_three_digits() -> None:
    assert [text(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.1234, 0.01234)] == [
        *("12,346", "123", "12.3", "1.23", "0.12", "0.012"),
    ]
