"""What the annotations of this package need of `typing`, which would be a sixth of what importing a client costs.

Type checkers see the real names. While a program runs, annotations are strings that hardly anybody evaluates; whoever
does, to make a tool of `client.run` for example, finds `object` for `Any`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any
    from typing import BinaryIO as BinaryIO
    from typing import Literal as Literal
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import overload as overload
else:
    Any = BinaryIO = Literal = Protocol = Self = object

    def overload(function):
        """Nothing."""
        return function
