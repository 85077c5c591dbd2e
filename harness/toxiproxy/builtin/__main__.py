"""``python -m harness.toxiproxy.builtin --host 127.0.0.1 --port 8474``: run the engine until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys

from harness.toxiproxy.builtin import VERSION, http
from harness.toxiproxy.builtin.engine import Proxies
from harness.toxiproxy.builtin.routes import Routes

log = logging.getLogger("toxiproxy")


async def run(host: str, port: int) -> int:
    """Exit code: 1 when the address is taken (the real server would stay alive and serve nobody)."""
    proxies = Proxies()
    try:
        server = await http.serve(Routes(proxies).answer, host, port)
    except OSError as error:
        log.error("cannot listen on %s:%s: %s", host, port, error)
        return 1
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    log.info(
        "built-in Toxiproxy engine %s on %s:%s, %s", VERSION, host, port, type(asyncio.get_running_loop())
    )
    gc.freeze()  # what is loaded now stays: later collections have less to look at
    await asked_to_stop.wait()
    server.close()
    proxies.stop()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness.toxiproxy.builtin", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8474)
    parser.add_argument(
        "--loop", choices=("auto", "asyncio"), default="auto", help="auto: uvloop where it is"
    )
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    factory = None
    if options.loop == "auto":
        try:
            import uvloop

            factory = uvloop.new_event_loop
        except ImportError:  # it is faster, not necessary
            log.info("uvloop is not installed: using asyncio's own event loop")
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(run(options.host, options.port))


if __name__ == "__main__":
    sys.exit(main())
