"""The `archgen` command: one module a command."""

from __future__ import annotations

import atexit
import signal
import sys
import warnings

from archgen import config
from archgen.cli import (  # noqa: F401  they register themselves
    compare,
    data,
    design,
    export,
    generate,
    latency,
    latency_blocks,
    latency_fit,
    predictor,
    proxies,
    prune,
    search,
    spaces,
    supernet,
    train,
)
from archgen.cli.application import app
from archgen.cli.options import TRUST
from archgen.cli.terminal import INTERRUPTED, drop_output, fail, say
from archgen.errors import ArchgenError, ArchgenWarning

NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")
"""What torch says, as a `RuntimeError`, where there is none."""


def main() -> None:
    """Entry point: one line on standard error and exit status 2 for whatever a user can mend."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ArchgenWarning)
    warnings.showwarning = lambda message, *_, **__: say(str(message))
    arguments = [text for text in sys.argv[1:] if text != TRUST]  # of every command that reads a space
    try:
        with config.trusting(len(arguments) < len(sys.argv) - 1):
            code = app(args=arguments, prog_name="archgen", standalone_mode=False)
        sys.stdout.flush()  # a full disk shows here, not when the interpreter ends
    except ArchgenError as error:
        sys.exit(fail(str(error)))
    except OSError as error:  # a full disk, a folder without rights
        drop_output()
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            sys.exit(1)
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(fail(f"{error.strerror or error}{where}; free space or check the path, nothing was overwritten"))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
            sys.exit(fail("out of memory; ask for smaller networks, fewer or smaller images, or fewer processes"))
        if not hasattr(error, "format_message"):  # the command line's own complaints have it
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, many lines
            print(error.format_message(), file=sys.stderr)
            sys.exit(2)
        sys.exit(fail(error.format_message()))
    if code == INTERRUPTED:  # leaving takes a moment; who presses Ctrl-C again wants no traceback of it
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    sys.exit(code if isinstance(code, int) else 0)
