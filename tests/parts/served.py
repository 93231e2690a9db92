"""Run a command that serves a page until Ctrl-C: wait for its address, fetch the page, press Ctrl-C.

    python tests/parts/served.py agr board quickstart

The exit code is that of the command, or 1 if it ends before its page was fetched.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+\S*")
_LIMIT_S = 180


def main(command: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell without a terminal ignores it in the background
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        over = threading.Timer(_LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
        over.start()
        fetched = False
        for line in process.stdout:
            sys.stdout.write(line)
            address = _ADDRESS.search(line)
            if address and not fetched:
                fetched = True
                with urllib.request.urlopen(address[0], timeout=_LIMIT_S) as answer:
                    print(f"{answer.status} {address[0]}")
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        over.cancel()
        code = process.wait()
    return code if fetched else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
