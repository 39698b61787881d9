"""How much a package may take, in the words of whoever has to do something about it."""

MIB = 1 << 20


def memory_exceeded(limit: int) -> str:
    """Why something was ended that needed more than `limit` bytes of memory."""
    return (
        f"it exceeded the memory limit of {size(limit)}. Raise execution_environment.memory in the prefab's manifest, "
        "or give it less to do at once"
    )


def size(number: int) -> str:
    """Bytes as people say them."""
    if number >= 10 * 1024 * MIB:
        return f"{number / (1024 * MIB):.0f} GiB"
    return f"{number / MIB:.0f} MiB" if number >= MIB else f"{number / 1024:.0f} KiB"
