"""The command `microgpt`."""


def main() -> None:
    raise SystemExit("microgpt: no commands yet")
