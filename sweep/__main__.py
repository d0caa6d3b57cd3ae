"""The process of the `sweep` command, however it is started: `sweep` or `python -m sweep`."""

from __future__ import annotations

import sys

from sweep import signals


def main() -> int:
    """Run the command line; returns the exit status."""
    signals.guard()
    try:
        with signals.whole():  # a process that has imported half of something cannot end well
            from sweep import cli
        return cli.main()
    except Exception:
        if not signals.asked():
            raise
        return signals.stopped()  # a library made something else of the interrupt
    except KeyboardInterrupt:
        return signals.stopped()
    finally:
        signals.stopping()


if __name__ == "__main__":
    sys.exit(main())
