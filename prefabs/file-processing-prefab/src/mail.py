"""Mail: the header fields that matter, the text, and what is attached."""

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from .document import Document, Options
from .html import markdown_of
from .markdown import heading, one_line, table
from .problem import Problem

LARGEST = 128 << 20
FIELDS = ("From", "To", "Cc", "Date")
MOST_PARTS = 1000


def read(path: Path, options: Options) -> Document:
    if path.stat().st_size > LARGEST:
        raise Problem("TOO_LARGE", "mail may have up to 128 MB", "邮件不能超过 128 MB")
    with path.open("rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject = one_line(_field(message, "Subject"))
    document = Document("eml", iter(()), title=subject or None)
    attachments = [_attachment(part) for part in _parts(message) if _is_attached(part)]
    document.details["attachments"] = [{"name": name, "type": kind, "size": size} for name, kind, size in attachments]
    document.pieces = _pieces(message, subject, attachments, document)
    return document


def _pieces(
    message: EmailMessage, subject: str, attachments: list[tuple[str, str, int]], document: Document
) -> Iterator[str]:
    if subject:
        yield heading(1, subject)
    for name in FIELDS:
        if value := one_line(_field(message, name)):
            yield f"**{name}:** {value}  \n"
    yield "\n"
    body = message.get_body(("plain", "html"))
    if body is not None:
        if body.get_content_type() == "text/html":
            text = markdown_of(_content(body).encode("utf-8", "replace"))[0]
        else:
            text = _content(body).replace("\r\n", "\n")
        yield f"{text.strip()}\n\n"
    if attachments:
        chinese = any("\u4e00" <= character <= "\u9fff" for character in subject)
        yield heading(2, "附件" if chinese else "Attachments")
        rows = [["name", "type", "bytes"], *([name, kind, str(size)] for name, kind, size in attachments)]
        yield from table(rows, 3)
        document.warnings.append(
            (f"{len(attachments)} attachments are only listed", f"{len(attachments)} 个附件只列出了名称")
        )


def _field(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # the library stumbles over some malformed fields
        return ""


def _parts(message: EmailMessage) -> list[EmailMessage]:
    parts = []
    for part in message.walk():
        parts.append(part)
        if len(parts) >= MOST_PARTS:
            break
    return parts


def _is_attached(part: EmailMessage) -> bool:
    return not part.is_multipart() and (part.is_attachment() or bool(part.get_filename()))


def _attachment(part: EmailMessage) -> tuple[str, str, int]:
    content = part.get_payload(decode=True)
    name = one_line(part.get_filename() or "?")
    return name, part.get_content_type(), len(content) if isinstance(content, bytes) else 0


def _content(part: EmailMessage) -> str:
    """Its text; where the declared charset is unknown or wrong, the bytes decide."""
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    declared = part.get_content_charset() or "utf-8"
    for codec in ("utf-8", {"gb2312": "gb18030", "gbk": "gb18030"}.get(declared, declared), "gb18030"):
        try:
            return content.decode(codec)
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode("latin-1")
