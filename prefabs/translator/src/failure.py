"""What can go wrong between here and the model, in words for a person."""


class Failure(Exception):
    """It becomes `success: false`."""

    def __init__(self, error_code: str, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.error_code = error_code
        self.text = text
        self.retry_after = retry_after
