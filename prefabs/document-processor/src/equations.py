"""Equations of Office documents in one line: E=mc^2, (a+b)/2, √(x)."""

from lxml import etree

M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
STRICT = "{http://purl.oclc.org/ooxml/officeDocument/math}"
EQUATIONS = (f"{M}oMath", f"{STRICT}oMath")


def linear(element: etree._Element) -> str:
    space = str(element.tag).partition("}")[0] + "}"
    name = etree.QName(element).localname

    def part(of: str) -> str:
        found = element.find(space + of)
        return linear(found) if found is not None else ""

    def sign(of: str, usual: str) -> str:
        found = element.find(f"{space}{name}Pr/{space}{of}")
        return found.get(f"{space}val", "") if found is not None else usual

    below, above = (f"{mark}{_grouped(part(of))}" if part(of) else "" for mark, of in (("_", "sub"), ("^", "sup")))
    match name:
        case "t":
            return element.text or ""
        case "f":
            return f"{_grouped(part('num'))}/{_grouped(part('den'))}"
        case "sSup" | "sSub" | "sSubSup":
            return f"{_grouped(part('e'))}{below}{above}"
        case "rad":
            return f"{part('deg')}√({part('e')})"
        case "nary":
            return f"{sign('chr', '∫')}{below}{above} {part('e')}"
        case "d":
            inside = sign("sepChr", "|").join(linear(child) for child in element.iterchildren(f"{space}e"))
            return f"{sign('begChr', '(')}{inside}{sign('endChr', ')')}"
        case "m":
            rows = (", ".join(map(linear, row.iterchildren(f"{space}e"))) for row in element.iterchildren(f"{space}mr"))
            return "; ".join(rows)
    children = (child for child in element.iterchildren("*") if not etree.QName(child).localname.endswith("Pr"))
    return "".join(map(linear, children))


def _grouped(text: str) -> str:
    return text if len(text) <= 1 or text.isalnum() else f"({text})"
