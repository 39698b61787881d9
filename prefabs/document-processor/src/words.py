"""Counting words in any mixture of scripts."""

import re

# Hanzi and kana are written without spaces: each counts as one, as word processors count them.
IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Elsewhere a word is a run of letters and digits, with the marks inside it: don't, 3.14, e-mail.
WORD = re.compile(rf"[{IDEOGRAPH}]|(?:(?![{IDEOGRAPH}])[^\W_])+(?:['’.,·_-](?:(?![{IDEOGRAPH}])[^\W_])+)*")


def count_words(text: str) -> int:
    return sum(1 for _ in WORD.finditer(text))
