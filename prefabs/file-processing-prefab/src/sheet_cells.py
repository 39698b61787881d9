"""What the library does not tell of the cells of an .xlsx: formats of numbers, errors, formulas without a result."""

import posixpath
import re
import zipfile
from pathlib import Path
from typing import IO

from lxml import etree

from .number_formats import BUILT_IN

MOST_CELLS = 1_000_000  # that are kept in memory
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
STRICT = "{http://purl.oclc.org/ooxml/spreadsheetml/main}"
RELATION = re.compile(r"\{[^}]*\}id")
CHUNK = 1 << 20
MORE = re.compile(rb"""\bt=["']e["']|<(?:\w+:)?f[\s/>]""")
PLACE = re.compile(r"([A-Z]{1,3})(\d{1,7})")


class Cells:
    """Of one sheet, by row and column from 0: a text instead of the value, or the format of a number."""

    def __init__(self) -> None:
        self.texts: dict[int, dict[int, str]] = {}
        self.formats: dict[int, dict[int, str]] = {}
        self.formulas = 0  # without a result
        self.is_complete = True


class Book:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, str] = {}
        self._formats: list[str] = []
        try:
            with zipfile.ZipFile(path) as archive:
                self._parts = _parts(archive)
                if "xl/styles.xml" in archive.namelist():
                    self._formats = _formats(_parsed(archive, "xl/styles.xml"))
        except (KeyError, etree.XMLSyntaxError):
            self._parts = {}  # .xlsb, .ods, or unusual: values as stored

    def cells(self, sheet: str) -> Cells:
        cells = Cells()
        if part := self._parts.get(sheet):
            with zipfile.ZipFile(self._path) as archive, archive.open(part) as file:
                if any(self._formats) or _has_more_than_values(file):
                    file.seek(0)
                    self._collect(file, cells)
        return cells

    def _collect(self, file: IO[bytes], cells: Cells) -> None:
        tags = [f"{space}{name}" for space in (MAIN, STRICT) for name in ("c", "row")]
        count = 0
        for _, element in etree.iterparse(file, tag=tags, resolve_entities=False, no_network=True, huge_tree=True):
            if not element.tag.endswith("}c"):
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
            elif element.get("t", "n") in "ne" and (place := PLACE.fullmatch(element.get("r", ""))):
                row, column = int(place[2]) - 1, column_number(place[1].encode()) - 1
                count += self._keep(element, row, column, cells)
            if count > MOST_CELLS:
                cells.is_complete = False
                return

    def _keep(self, element: etree._Element, row: int, column: int, cells: Cells) -> bool:
        kind, style = element.get("t", "n"), element.get("s", "0")
        code = self._formats[int(style)] if style.isdecimal() and int(style) < len(self._formats) else ""
        if kind == "n" and not code and len(element) == 1:
            return False  # a number, as most
        values = {etree.QName(child).localname: child.text for child in element.iterchildren("*")}
        if not values.get("v") and "f" in values:
            cells.formulas += 1
            text = values["f"] and f"={values['f']}"
        else:
            text = values.get("v") if kind == "e" else None
        if text:
            cells.texts.setdefault(row, {})[column] = text
        elif kind == "n" and code:
            cells.formats.setdefault(row, {})[column] = code
        else:
            return False
        return True


def _has_more_than_values(file: IO[bytes]) -> bool:
    rest = b""
    while chunk := file.read(CHUNK):
        if MORE.search(rest + chunk):
            return True
        rest = chunk[-16:]
    return False


def column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _parts(archive: zipfile.ZipFile) -> dict[str, str]:
    """Where each sheet lies."""
    relations = {
        relation.get("Id"): posixpath.normpath(posixpath.join("/xl", relation.get("Target", "")))[1:]
        for relation in _parsed(archive, "xl/_rels/workbook.xml.rels").iter("{*}Relationship")
    }
    parts = {}
    for sheet in _parsed(archive, "xl/workbook.xml").iter("{*}sheet"):
        target = next((relations.get(value) for key, value in sheet.attrib.items() if RELATION.fullmatch(key)), None)
        if target and target in archive.namelist() and target.endswith(".xml"):
            parts[sheet.get("name", "")] = target
    return parts


def _formats(styles: etree._Element) -> list[str]:
    """The format of each style, empty where it shows the value as it is."""
    own = {entry.get("numFmtId"): entry.get("formatCode", "") for entry in styles.iter("{*}numFmt")}
    used = styles.find("{*}cellXfs")
    ids = [style.get("numFmtId", "0") for style in used.iterchildren("{*}xf")] if used is not None else []
    return [own.get(number) or BUILT_IN.get(int(number) if number.isdecimal() else 0, "") for number in ids]


def _parsed(archive: zipfile.ZipFile, part: str) -> etree._Element:
    return etree.fromstring(archive.read(part), etree.XMLParser(resolve_entities=False, no_network=True))
