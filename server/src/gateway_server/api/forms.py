"""Forms with a file, read as they arrive: no part of the file is held or written twice."""

import re
from collections.abc import AsyncIterable, AsyncIterator
from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway_server.errors import Invalid, PayloadTooLarge, Problem

_LONGEST_FIELD = 64 << 10
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8."""
_MOST_FIELDS = 100
_EXTENDED = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([!-:<-~]+)", re.IGNORECASE)
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""How browsers write these in a file name; nothing else is escaped."""


class FileForm:
    """A multipart form with one part `file`. The other fields are known when the file has been read to its end."""

    def __init__(self, content_type: str | None, body: AsyncIterable[bytes]) -> None:
        """
        Raises:
            Invalid: the content type is not that of a multipart form.
        """
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise _invalid("/file", "The file must be sent as a part named file of a multipart/form-data body.")
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.content_type: str | None = None
        self._body = body
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._field = ""
        self._text = bytearray()
        self._held: list[bytes] = []
        self._in_file = self._seen = self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._part_begins,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _invalid("/file", f"The form cannot be read: {error}.") from error

    async def file(self) -> AsyncIterator[bytes]:
        """The bytes of the file.

        Raises:
            Invalid: there is not exactly one file, or the form is broken.
            PayloadTooLarge: the other fields are too many or too long.
        """
        async for data in self._body:
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise _invalid("/file", f"The form cannot be read: {error}.") from error
            for piece in self._held:
                yield piece
            self._held.clear()
        if not self._ended:
            raise _invalid("/file", "The form ends before its last boundary.")
        if not self._seen:
            raise _invalid("/file", "The form has no part named file.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _part_begins(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._field == "file"
        if not self._in_file:
            if len(self.fields) >= _MOST_FIELDS:
                raise PayloadTooLarge(f"The form has more than {_MOST_FIELDS} fields.")
            self._text.clear()
            return
        if self._seen:
            raise _invalid("/file", "The form has more than one part named file; send one form for each file.")
        self._seen = True
        self.filename = _filename(disposition, options.get(b"filename", b""))
        self.content_type = self._headers.get(b"content-type", b"").decode("latin-1").strip() or None

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._held.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _LONGEST_FIELD * _LONGEST_CHARACTER:
            raise self._too_long()

    def _part_ends(self) -> None:
        if self._in_file:
            return
        value = self._text.decode("utf-8", "replace")  # only now: a chunk may have ended within a character
        if len(value) > _LONGEST_FIELD:
            raise self._too_long()
        self.fields[self._field] = value

    def _too_long(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The field {self._field[:80]} has more than {_LONGEST_FIELD} characters.")

    def _end(self) -> None:
        self._ended = True


def _filename(disposition: bytes, plain: bytes) -> str:
    extended = _EXTENDED.search(disposition)
    if extended is not None:  # RFC 5987, as some older libraries send names
        return unquote(extended[1].decode("ascii"), errors="replace")
    filename = plain.decode("utf-8", "replace")
    for escape, character in _ESCAPES.items():
        filename = filename.replace(escape, character)
    return filename


def _invalid(pointer: str, message: str) -> Invalid:
    return Invalid(message, [Problem(pointer, message)])
