"""Which reader reads what; whatever a library makes of a damaged file becomes a problem in words."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import archive, docx, epub, office, opendocument, pdf, sheets, slides, texts
from .document import Document, Options
from .kinds import kind_of
from .problem import Problem

READERS: dict[str, Callable[[Path, Options], Document]] = {
    "pdf": pdf.read,
    "docx": docx.read,
    "xlsx": sheets.read,
    "xls": sheets.read_old,
    "ods": sheets.read,
    "pptx": slides.read,
    "odt": opendocument.read,
    "odp": opendocument.read,
    "epub": epub.read,
    "text": texts.read,
}
log = logging.getLogger(__name__)


def read(path: Path, options: Options, inside_archive: bool = False) -> Document:
    document = _explained(lambda: _read(path, options, inside_archive), path)
    document.pieces = _pieces(document.pieces, path)
    return document


def _read(path: Path, options: Options, inside_archive: bool) -> Document:
    kind = kind_of(path)
    if kind == "encrypted":
        path = office.decrypted(path, options.password)
        kind = kind_of(path)
    if kind == "zip":
        if inside_archive:
            raise Problem(
                "UNSUPPORTED_FORMAT",
                "this is an archive inside an archive; unpack it first",
                "这是压缩包里的压缩包；请先解压",
            )
        return archive.read(path, options, read)
    return READERS[kind](path, options)


def _pieces(pieces: Iterator[str], path: Path) -> Iterator[str]:
    while (piece := _explained(lambda: next(pieces, None), path)) is not None:
        yield piece


def _explained(step: Callable[[], Any], path: Path) -> Any:
    try:
        return step()
    except Problem:
        raise
    except RecursionError as error:
        raise Problem(
            "CORRUPT_FILE",
            "the document is nested too deeply to be read; save it anew",
            "文档嵌套过深，无法读取；请重新保存",
        ) from error
    except MemoryError as error:
        raise Problem(
            "TOO_LARGE", "the file is too large to be read; split it", "文件太大，无法读取；请拆分"
        ) from error
    except Exception as error:
        log.exception("cannot read %r", path.name)
        raise Problem(
            "CORRUPT_FILE",
            f"the file is damaged and cannot be read ({type(error).__name__}); save or upload it again",
            f"文件已损坏，无法读取（{type(error).__name__}）；请重新保存或上传",
        ) from error
