"""What went wrong with an input, in words for a person: English and Chinese."""

from typing import Any


class Problem(Exception):
    """A mistake in what the caller gave. It becomes `success: false`, never a traceback."""

    def __init__(self, error_code: str, english: str, chinese: str) -> None:
        super().__init__(english)
        self.error_code = error_code
        self.texts = {"en": english, "zh": chinese}

    def text(self, language: str) -> str:
        return self.texts["zh" if speaks_chinese(language) else "en"]

    def result(self, language: str) -> dict[str, Any]:
        return {"success": False, "error": self.text(language), "error_code": self.error_code}


def speaks_chinese(language: str) -> bool:
    return language.lower().replace("_", "-").split("-")[0] == "zh"
