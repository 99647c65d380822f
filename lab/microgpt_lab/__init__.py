"""The lab: everything round the versions. It drives them; no version imports it."""

import logging

# Matplotlib warns where it can keep no cache. A cache is never a condition, so nothing is said.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
