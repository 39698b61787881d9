"""Numbers as a spreadsheet shows them: 0.125 with the format `0.0%` is 12.5%."""

import re
from decimal import ROUND_HALF_UP, Decimal

BUILT_IN = {1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00"}
BUILT_IN |= dict.fromkeys((5, 6), '"$"#,##0;-"$"#,##0') | dict.fromkeys((7, 8), '"$"#,##0.00;-"$"#,##0.00')
BUILT_IN |= dict.fromkeys((37, 38), "#,##0;(#,##0)") | dict.fromkeys((39, 40), "#,##0.00;(#,##0.00)")
BUILT_IN |= {41: BUILT_IN[37], 42: '"$"#,##0;("$"#,##0)', 43: BUILT_IN[39], 44: '"$"#,##0.00;("$"#,##0.00)'}
PIECE = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[\$([^\]-]*)[^\]]*\]|\[([^\]]*)\]|(.)', re.DOTALL)
NUMBER = re.compile(r"([0#?,]*)(?:\.([0#?]*))?(,*)(E[+-]0+)?")
CONDITION = re.compile(r"[<>=]")
LONGEST = 200


def shown(value: float, code: str) -> str | None:
    """None where the stored value says it best: `General`, dates, fractions, conditions, text."""
    if len(code) > LONGEST or abs(value) >= 1e15:
        return None
    sections = _sections(code)
    parts = sections[0]
    is_negative = value < 0
    if is_negative and len(sections) > 1:
        parts, is_negative = sections[1], False  # which has its own sign
    elif value == 0 and len(sections) > 2:
        parts = sections[2]
    return _written(abs(value), parts, is_negative) if parts else None


def _sections(code: str) -> list[list[tuple[str, bool]]]:
    """Pieces of each section, with whether they are literal."""
    sections: list[list[tuple[str, bool]]] = [[]]
    for quoted, escaped, currency, bracket, plain in PIECE.findall(code):
        if plain == ";":
            sections.append([])
        elif plain:
            sections[-1].append((plain, plain not in "0#?.,%/@EeGgyYmMdDhHsSbB"))
        elif bracket and (CONDITION.search(bracket) or bracket.lower() in ("h", "m", "s", "hh", "mm", "ss")):
            sections[-1].append(("@", False))  # not understood here
        elif text := quoted or escaped or currency:
            sections[-1].append((text, True))
    return sections


def _written(value: float, parts: list[tuple[str, bool]], is_negative: bool) -> str | None:
    places = [number for number, (text, literal) in enumerate(parts) if not literal and text != "%"]
    if not places:
        return None
    first, last = places[0], places[-1]
    # A plus or minus sign in the middle belongs to an exponent.
    middle = "".join(text for text, literal in parts[first : last + 1] if not literal or text in "+-")
    if any(literal and text not in "+-" for text, literal in parts[first : last + 1]):
        return None
    found = NUMBER.fullmatch(middle)
    if not found or not re.search("[0#?]", middle):
        return None
    percents = sum(text == "%" and not literal for text, literal in parts)
    whole, decimals, exponent = found[1], found[2] or "", found[4]
    thousands = len(whole) - len(whole.rstrip(",")) + len(found[3])
    number = Decimal(repr(value)).scaleb(2 * percents - 3 * thousands)
    digits = _scientific(number, decimals) if exponent else _plain(number, whole.rstrip(","), decimals)
    before, after = ("".join(text for text, _ in piece) for piece in (parts[:first], parts[last + 1 :]))
    sign = "-" if is_negative and re.search("[1-9]", digits) else ""
    return f"{sign}{before}{digits}{after}".strip()


def _plain(number: Decimal, whole: str, decimals: str) -> str:
    rounded = number.quantize(Decimal(1).scaleb(-len(decimals)), rounding=ROUND_HALF_UP)
    before, _, after = f"{rounded:f}".partition(".")
    before = before.lstrip("0").rjust(whole.count("0"), "0")
    if "," in whole.strip(",") and before:
        before = f"{int(before):,}".rjust(len(before), "0")
    while after and len(after) > decimals.count("0") and after.endswith("0"):
        after = after[:-1]
    return f"{before}.{after}" if after else before


def _scientific(number: Decimal, decimals: str) -> str:
    mantissa, _, exponent = f"{number:.{len(decimals)}E}".partition("E")
    return f"{mantissa}E{int(exponent):+03}"
