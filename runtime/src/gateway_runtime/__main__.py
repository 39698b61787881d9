"""Starts a zygote: ``python -I -S -u gateway_runtime/__main__.py`` with the control socket as descriptor 3."""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from gateway_runtime.zygote import main

if __name__ == "__main__":
    main()
