"""A package whose import takes more memory than its manifest asks for."""

block = bytearray(400 << 20)


def size():
    return len(block)
