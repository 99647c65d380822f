"""The lab: everything round the versions. It drives them; no version imports it."""
