"""The lab: everything round the versions. It drives them; no version imports it."""

import logging
import sys
from pathlib import Path

# Matplotlib warns where it can keep no cache. A cache is never a condition, so nothing is said.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# An installed package has the versions inside. There 01 is the `microgpt` that all import.
if (tree := Path(__file__).with_name("tree")).is_dir():
    sys.path.insert(0, str(tree / "01_pure_python"))
