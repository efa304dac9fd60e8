"""aiosmtpd with its own Maildir handler: one process for each processor on a shared port.

usage: server.py PORT FOLDER
"""

import asyncio
import os
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP


async def serve(port: int, folder: str) -> None:
    handler = Mailbox(folder)
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(handler, hostname="mx.test.example", data_size_limit=0, enable_SMTPUTF8=True)

    server = await loop.create_server(session, "127.0.0.1", port, reuse_port=True, backlog=4096)
    await server.serve_forever()


def main() -> None:
    port, folder = int(sys.argv[1]), sys.argv[2]
    for _ in range(len(os.sched_getaffinity(0)) - 1):
        if os.fork() == 0:
            break
    asyncio.run(serve(port, folder))


main()
