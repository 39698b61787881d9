"""What a file is, by its content. The extension only decides where the content leaves it open."""

import re
import zipfile
from pathlib import Path

import olefile

from .problem import Problem

HEAD = 64 * 1024
READABLE = (
    "PDF, DOCX, XLSX, XLS, XLSB, PPTX, ODT, ODS, ODP, HTML, Markdown, text, CSV, TSV, JSON, XML, EPUB, RTF, EML and ZIP"
)
SAVE_AS = {  # what cannot be read, and what to do about it
    "doc": ("an old Word document (.doc); save it as DOCX", "旧版 Word 文档（.doc）；请另存为 DOCX"),
    "ppt": (
        "an old PowerPoint presentation (.ppt); save it as PPTX",
        "旧版 PowerPoint 演示文稿（.ppt）；请另存为 PPTX",
    ),
    "msg": ("an Outlook message (.msg); save it as EML", "Outlook 邮件（.msg）；请另存为 EML"),
    "ole": (
        "an old Office or Windows file; save it as DOCX, XLSX, PPTX or PDF",
        "旧版 Office 文件；请另存为新格式或 PDF",
    ),
    "iwork": (
        "an Apple iWork document; export it as PDF or to Office",
        "Apple iWork 文档；请导出为 PDF 或 Office 格式",
    ),
    "image": (
        "an image; there is no text recognition (OCR) here, so give a document with text",
        "图片；这里没有文字识别（OCR），请提供含文字的文档",
    ),
    "archive": ("an archive of another kind; unpack it, or pack it as ZIP", "其他类型的压缩包；请解压，或改用 ZIP"),
    "media": ("sound or video, not a document", "音频或视频，不是文档"),
    "program": ("a program, not a document", "程序，不是文档"),
    "parquet": ("a Parquet table; save it as CSV or XLSX", "Parquet 表格；请另存为 CSV 或 XLSX"),
    "sqlite": ("a database; export its tables as CSV", "数据库；请将表导出为 CSV"),
}
SIGNATURES = (
    (b"\x89PNG\r\n", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"II*\x00", "image"),
    (b"MM\x00*", "image"),
    (b"8BPS", "image"),
    (b"\x00\x00\x01\x00", "image"),
    (b"\x1f\x8b", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ\x00", "archive"),
    (b"\x28\xb5\x2f\xfd", "archive"),
    (b"\x7fELF", "program"),
    (b"MZ\x90\x00", "program"),
    (b"\xca\xfe\xba\xbe", "program"),
    (b"ID3", "media"),
    (b"OggS", "media"),
    (b"fLaC", "media"),
    (b"\x1aE\xdf\xa3", "media"),
    (b"FLV\x01", "media"),
    (b"PAR1", "parquet"),
    (b"SQLite format 3\x00", "sqlite"),
)
STREAMS = (  # in an OLE file; the first that is there tells
    ("EncryptedPackage", "encrypted"),
    ("WordDocument", "doc"),
    ("PowerPoint Document", "ppt"),
    ("__properties_version1.0", "msg"),
    ("Workbook", "xls"),
    ("Book", "xls"),
)
MIME = {
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
}


def kind_of(path: Path) -> str:
    """One of the binary formats, or "text"."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.strip():
        raise Problem(
            "EMPTY_FILE",
            "the file is empty; check what was uploaded",
            "文件是空的；请检查上传的文件",
        )
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(olefile.MAGIC):
        return _ole(path)
    _refuse_others(head)
    return "text"


def _refuse_others(head: bytes) -> None:
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            raise unsupported(kind)
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        raise unsupported("image" if head[8:12] == b"WEBP" else "media")
    if head[4:8] == b"ftyp":
        raise unsupported("image" if head[8:12] in (b"heic", b"heix", b"avif", b"mif1", b"msf1") else "media")
    if head[257:262] == b"ustar":
        raise unsupported("archive")
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        raise unsupported("image")
    if re.match(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]", head):
        raise unsupported("media")


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                mime = archive.read("mimetype").decode("ascii", "replace").strip()
                if kind := MIME.get(mime.removesuffix("-template")):
                    return kind
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        raise Problem(
            "CORRUPT_FILE",
            "the file is damaged or was cut off (it begins like an Office document or a ZIP archive); upload it again",
            "文件已损坏或不完整（开头像 Office 文档或 ZIP 压缩包）；请重新上传",
        ) from error
    if "[Content_Types].xml" in names:
        for start, kind in (("word/", "docx"), ("xl/", "xlsx"), ("ppt/", "pptx")):
            if any(name.startswith(start) for name in names):
                return kind
    if any(name.endswith(".iwa") for name in names):
        raise unsupported("iwork")
    return "epub" if "META-INF/container.xml" in names else "zip"


def _ole(path: Path) -> str:
    try:
        with olefile.OleFileIO(path) as file:
            kind = next((kind for stream, kind in STREAMS if file.exists(stream)), "ole")
    except Exception as error:  # whatever it makes of a damaged file
        raise Problem(
            "CORRUPT_FILE",
            "the file is damaged or was cut off (it begins like an old Office document); upload it again",
            "文件已损坏或不完整（开头像旧版 Office 文档）；请重新上传",
        ) from error
    if kind in SAVE_AS:
        raise unsupported(kind)
    return kind


def unsupported(kind: str) -> Problem:
    english, chinese = SAVE_AS[kind]
    return Problem("UNSUPPORTED_FORMAT", f"this is {english}", f"这是{chinese}")
