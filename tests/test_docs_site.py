"""The site of the documentation: it builds without warnings, needs no network, and its references are complete."""

import inspect
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gateway_sdk
from gateway_sdk import AsyncGatewayClient, BatchResult, GatewayClient, PrefabCall, PrefabResult, testing

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "scripts"))

import cli_reference  # noqa: E402
import docs  # noqa: E402

FETCHING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Fetched(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name == FETCHING.get(tag)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    docs.build(folder)
    return folder


def test_every_page_is_on_the_site_in_both_languages(site):
    for language, place in (("en", site), ("zh", site / "zh")):
        expected = {f"{name}.html" for name in docs.pages(language)}
        assert expected <= {path.name for path in place.glob("*.html")}


def test_no_page_is_left_out_of_the_navigation():
    named = {docs.source(name, language).name for language in docs.NAMES for name in docs.pages(language)}
    assert named == {path.name for path in DOCS.glob("*.md")}


def test_nothing_is_fetched_from_elsewhere(site):
    elsewhere = set()
    for path in site.rglob("*.html"):
        page = Fetched()
        page.feed(path.read_text("utf-8"))
        elsewhere |= {address for address in page.addresses if re.match(r"(https?:)?//", address)}
    for path in site.rglob("*.css"):
        elsewhere |= set(re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text("utf-8")))
    assert elsewhere == set()


def test_every_page_leads_to_its_twin(site):
    assert 'href="./zh/operate.html" hreflang="zh"' in (site / "operate.html").read_text("utf-8")
    assert 'href="../operate.html" hreflang="en"' in (site / "zh" / "operate.html").read_text("utf-8")


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_twins_have_the_same_headings(page):
    twin = page.with_name(page.name.replace(docs.TWIN, ".md"))
    if page == twin or not twin.exists():
        return
    levels = [[level for _, level, _ in docs.headings(path.read_text("utf-8"))] for path in (page, twin)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("language", docs.NAMES)
def test_the_command_line_is_told_as_it_is(language):
    missing = cli_reference.missing()
    assert missing == [], "give these Chinese words in scripts/cli_reference.zh.json"
    written = docs.source("cli", language).read_text("utf-8")
    assert written == cli_reference.page(language), "run .venv/bin/python scripts/cli_reference.py"


def signatures():
    for owner in (GatewayClient, PrefabCall, PrefabResult, BatchResult, testing.FakeGateway):
        for name, member in inspect.getmembers(owner, inspect.isroutine):
            if not name.startswith("_") and name not in ("async_client", "answer"):
                yield owner, name, member
    yield GatewayClient, "GatewayClient", GatewayClient
    yield PrefabCall, "PrefabCall", PrefabCall


def written(name, member):
    """A signature without types, as a page shows it."""
    shown = []
    for parameter in inspect.signature(member).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        shown.append(f"{stars}{parameter.name}{default}")
    return f"{name}({', '.join(shown)})"


@pytest.mark.parametrize("page", ["sdk.md", "sdk.zh-CN.md"])
@pytest.mark.parametrize(
    ("owner", "name", "member"), list(signatures()), ids=lambda part: getattr(part, "__name__", part)
)
def test_the_sdk_is_told_as_it_is(page, owner, name, member):
    assert written(name, member) in (DOCS / page).read_text("utf-8")


def test_both_clients_have_the_same_methods():
    for _, name, member in (entry for entry in signatures() if entry[0] is GatewayClient and entry[1][0].islower()):
        assert written(name, getattr(AsyncGatewayClient, name)) == written(name, member)


@pytest.mark.parametrize("page", ["sdk.md", "sdk.zh-CN.md"])
def test_every_name_of_the_sdk_is_told(page):
    text = (DOCS / page).read_text("utf-8") + (DOCS / "call-from-anywhere.md").read_text("utf-8")
    assert [name for name in gateway_sdk.__all__ if name not in text and name != "__version__"] == []
