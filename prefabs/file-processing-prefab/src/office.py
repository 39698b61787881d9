"""What Office files have in common: they are ZIP archives of XML, or encrypted."""

import tempfile
import zipfile
from pathlib import Path

import msoffcrypto
from msoffcrypto.exceptions import DecryptionError, FileFormatError, InvalidKeyError

from .problem import Problem

CHUNK = 1 << 20
LARGEST_PACKAGE = 1 << 30  # unpacked
LARGEST_PART = 512 << 20
PARSED = (".xml", ".rels")
DOCTYPE = b"<!DOCTYPE"


def check(path: Path, largest_part: int = LARGEST_PART) -> None:
    """Unpacks everything once, into nothing: a bomb or a damaged part is found before a library meets it."""
    total = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                parsed = info.filename.lower().endswith(PARSED)
                if info.file_size > (largest_part if parsed else LARGEST_PACKAGE):
                    raise _too_large()
                if info.flag_bits & 1:
                    raise Problem("ENCRYPTED_DOCUMENT", "the document is encrypted", "文档已加密")
                with archive.open(info) as file:
                    first = True
                    while chunk := file.read(CHUNK):
                        if first and parsed and DOCTYPE in chunk[:4096]:
                            raise Problem(
                                "UNSAFE_FILE",
                                "the document defines entities of its own, as no Office program does; save it anew",
                                "文档含有自定义实体，正常的 Office 程序不会这样做；请重新保存",
                            )
                        first = False
                        total += len(chunk)
                        if total > LARGEST_PACKAGE:
                            raise _too_large()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise damaged() from error


def decrypted(path: Path, password: str | None) -> Path:
    """A copy without protection, in the temporary folder of this call."""
    if not password:
        raise Problem(
            "ENCRYPTED_DOCUMENT",
            "the document is protected by a password; give it as `password`",
            "文档有密码保护；请用 `password` 提供密码",
        )
    target = Path(tempfile.mkdtemp()) / path.name
    try:
        with path.open("rb") as source, target.open("wb") as plain:
            file = msoffcrypto.OfficeFile(source)
            file.load_key(password=password)
            file.decrypt(plain)
    except (DecryptionError, InvalidKeyError) as error:
        raise Problem("ENCRYPTED_DOCUMENT", "the password is not right", "密码不正确") from error
    except FileFormatError as error:
        raise damaged() from error
    return target


def damaged() -> Problem:
    return Problem(
        "CORRUPT_FILE",
        "the document is damaged or was cut off; save or upload it again",
        "文档已损坏或不完整；请重新保存或上传",
    )


def _too_large() -> Problem:
    return Problem(
        "TOO_LARGE",
        "the document unpacks to more than can be read; split it into smaller ones",
        "文档解压后过大，无法读取；请拆分成较小的文档",
    )
