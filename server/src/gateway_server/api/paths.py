"""How a route takes the rest of an address, whatever stands in it."""

from starlette.convertors import Convertor, register_url_convertor


class _Rest(Convertor[str]):
    """As Starlette's own `path`, which ends at the first line."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _Rest())
REST = ":rest"
"""Behind the name of a parameter, has it take slashes and ends of lines, too."""
