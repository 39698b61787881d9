"""ZIP archives: what lies in them, and the Markdown of every member that is a document."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from .document import Document, Options
from .markdown import heading, table
from .problem import Problem, speaks_chinese

MOST_LISTED = 10_000
MOST_READ = 200
LARGEST_TOTAL = 1 << 30  # unpacked, of everything
LARGEST_MEMBER = 128 << 20
STEEPEST = 200  # times smaller than its content; office documents stay far below
STEEP_FROM = 50 << 20
UTF8_NAME = 0x800
LINK = 0o120000


def read(path: Path, options: Options, read_member: Callable[..., Document]) -> Document:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and not _is_noise(info.filename)]
    _check(path, members)
    document = Document("zip", iter(()))
    document.details = {"members": len(members), "converted": 0, "skipped": []}
    document.pieces = _pieces(path, members, options, read_member, document)
    return document


def _check(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if not members:
        raise Problem("EMPTY_FILE", "the archive is empty", "压缩包是空的")
    total = sum(info.file_size for info in members)
    steep = total > STEEP_FROM and total > STEEPEST * path.stat().st_size
    if len(members) > MOST_LISTED or total > LARGEST_TOTAL or steep:
        raise Problem(
            "TOO_LARGE",
            f"the archive unpacks to {len(members)} files and {total >> 20} MB, which is more than is safe; split it",
            f"压缩包解压后有 {len(members)} 个文件、{total >> 20} MB，超出安全范围；请拆分",
        )
    for info in members:
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        outside = ".." in parts or (parts and (parts[0] == "/" or parts[0].endswith(":")))
        if outside or (info.external_attr >> 16) & 0o170000 == LINK:
            raise Problem(
                "UNSAFE_FILE",
                f"the archive has a name that leads out of it ({info.filename[:100]}); pack it anew",
                f"压缩包中有指向外部的名称（{info.filename[:100]}）；请重新打包",
            )


def _is_noise(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in (".DS_Store", "Thumbs.db", "desktop.ini")


def _name(info: zipfile.ZipInfo) -> str:
    """Windows in China packs names as GBK and does not say so."""
    if info.flag_bits & UTF8_NAME:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for codec in ("utf-8", "gb18030"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return info.filename


def _pieces(
    path: Path,
    members: list[zipfile.ZipInfo],
    options: Options,
    read_member: Callable[..., Document],
    document: Document,
) -> Iterator[str]:
    yield heading(1, path.name)
    rows = [["name", "bytes"], *([_name(info), str(info.file_size)] for info in members)]
    yield from table(rows, 2)
    skipped: list[dict[str, str]] = []
    document.details["skipped"] = skipped
    converted = 0
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        for number, info in enumerate(members):
            name = _name(info)
            try:
                if converted >= MOST_READ:
                    raise Problem("TOO_LARGE", f"only {MOST_READ} are read", f"只读取 {MOST_READ} 个文件")
                member = _unpacked(archive, info, Path(folder) / f"{number}{PurePosixPath(name).suffix[:12]}")
                inner = read_member(member, options, inside_archive=True)
                yield heading(2, name)
                yield from inner.pieces
                yield "\n\n"
                converted += 1
            except Problem as problem:
                skipped.append(
                    {"name": name, "error": problem.text(options.language), "error_code": problem.error_code}
                )
                word = "未转换" if speaks_chinese(options.language) else "not converted"
                yield f"*{name} {word}: {problem.text(options.language)}*\n\n"
            shutil.rmtree(folder, ignore_errors=True)
            Path(folder).mkdir(exist_ok=True)
    document.details["converted"] = converted
    if skipped:
        names = ", ".join(entry["name"] for entry in skipped[:5]) + (", …" if len(skipped) > 5 else "")
        document.warnings.append((f"not converted: {names}", f"未转换：{names}"))


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> Path:
    """Under a name of our own: that of the archive is only shown."""
    if info.flag_bits & 1:
        raise Problem("ENCRYPTED_DOCUMENT", "it is encrypted; pack it without a password", "已加密；请不加密码重新打包")
    if info.file_size > LARGEST_MEMBER:
        raise Problem("TOO_LARGE", "it is too large to be read here", "文件太大，无法读取")
    try:
        with archive.open(info) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise Problem("CORRUPT_FILE", "it is damaged inside the archive", "在压缩包中已损坏") from error
    return target
