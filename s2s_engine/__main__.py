"""The command `s2s-engine`, also `python -m s2s_engine`. Knows only how to say that typer is not
installed; everything else is cli.py's."""

from __future__ import annotations

import sys

INSTALL = 's2s-engine: the command line needs typer: pip install "s2s_engine[cli]"'


def main() -> int:
    """Runs the command with the process's arguments; the exit code is 0, 1 (input) or 2 (usage)."""
    try:
        from . import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "click", "rich"):
            raise
        print(INSTALL, file=sys.stderr)
        return 2
    return cli.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
