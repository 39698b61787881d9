"""Pages nested so deeply that parsers drop what is inside: they lose their structure and keep their text."""

import re

DEEPEST = 200
INLINE = "a|abbr|b|big|code|em|font|i|label|nobr|s|small|span|strike|strong|sub|sup|tt|u"
BLOCKS = "article|aside|blockquote|center|details|div|dl|fieldset|figure|footer|form|header|main|nav|ol|section"
BLOCKS += "|table|ul"
NESTING = re.compile(rf"<(/?)(?:{INLINE}|{BLOCKS})(?=[\s>])[^<>]*>", re.IGNORECASE)  # whose end tag is never left out
INLINE_TAG = re.compile(rf"</?(?:{INLINE})(?=[\s>])[^<>]*>", re.IGNORECASE)
BLOCK_TAG = re.compile(rf"</?(?:{BLOCKS}|caption|dd|dt|li|tbody|td|tfoot|th|thead|tr)(?=[\s>])[^<>]*>", re.IGNORECASE)
BREAKS = re.compile(r"(?:<br>\s*){3,}")


def shallow(html: str) -> str:
    depth = deepest = 0
    for tag in NESTING.finditer(html):
        depth = max(depth - 1, 0) if tag[1] else depth + 1
        deepest = max(deepest, depth)
    if deepest <= DEEPEST:
        return html
    return BREAKS.sub("<br><br>", BLOCK_TAG.sub("<br>", INLINE_TAG.sub("", html)))
