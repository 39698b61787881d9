"""Documents that the tests make."""

import io
import zipfile

import docx
import openpyxl
import pytest
from pptx import Presentation
from pypdf import PdfReader, PdfWriter
from reportlab.lib import colors
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

FONT = "STSong-Light"


def saved(document):
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


class Make:
    """Bytes of files."""

    def pdf(self, *story, title=None):
        """Of (style, text) pairs and of lists of rows."""
        pdfmetrics.registerFont(UnicodeCIDFont(FONT))
        styles = getSampleStyleSheet()
        grid = [("GRID", (0, 0), (-1, -1), 0.5, colors.black), ("FONT", (0, 0), (-1, -1), FONT)]
        flow = []
        for part in story:
            if isinstance(part, list):
                flow.append(Table(part, style=grid))
            else:
                name, text = part
                style = ParagraphStyle("zh", parent=styles[name], fontName=FONT, wordWrap="CJK")
                flow.append(Paragraph(text, style if not text.isascii() else styles[name]))
            flow.append(Spacer(1, 10))
        buffer = io.BytesIO()
        SimpleDocTemplate(buffer, title=title).build(flow)
        return buffer.getvalue()

    def pages(self, *pages):
        """A PDF with the lines of each page where they are put: (x, y, text)."""
        buffer = io.BytesIO()
        canvas = Canvas(buffer)
        for page in pages:
            for x, y, text in page:
                canvas.drawString(x, y, text)
            canvas.showPage()
        canvas.save()
        return buffer.getvalue()

    def locked_pdf(self, content, user="secret"):
        writer = PdfWriter(PdfReader(io.BytesIO(content)))
        writer.encrypt(user, "owner", algorithm="AES-256")
        buffer = io.BytesIO()
        writer.write(buffer)
        return buffer.getvalue()

    def docx(self, build):
        document = docx.Document()
        build(document)
        return saved(document)

    def xlsx(self, build):
        book = openpyxl.Workbook()
        build(book)
        return saved(book)

    def pptx(self, build):
        presentation = Presentation()
        build(presentation)
        return saved(presentation)

    def zip(self, members, compression=zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()


@pytest.fixture(scope="session")
def make():
    return Make()


@pytest.fixture
def parse(prefab, monkeypatch, tmp_path):
    """`parse("name", content)`: the result, in a temporary folder that goes with the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def call(name, content, **arguments):
        for old in (prefab.workspace / "data" / "outputs").iterdir():
            old.unlink()
        path = prefab.put("input", name, content)
        result = prefab.call("parse_file", **arguments)
        path.unlink()
        if result["success"]:
            assert result["metadata"]["output"] in prefab.outputs()
        else:
            assert prefab.outputs() == {}
            assert result["error"]
            assert "Traceback" not in result["error"]
        return result

    return call


@pytest.fixture
def refused(parse):
    """`refused("CODE", "name", content)`: the sentence."""

    def call(code, name, content, **arguments):
        result = parse(name, content, **arguments)
        assert (result["success"], result.get("error_code")) == (False, code), result
        return result["error"]

    return call
