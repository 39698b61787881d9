"""The fixtures of the prefabs serve the examples too."""

import runpy
from pathlib import Path

prefab = runpy.run_path(str(Path(__file__).parents[1] / "prefabs" / "conftest.py"))["prefab"]
