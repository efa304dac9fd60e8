"""Reads mail with Python's own parser and tells what is in it.

stdin: messages, each behind its length as four octets, most significant first.
stdout: one line of JSON for each.
"""

import email
import email.policy
import email.utils
import json
import struct
import sys

STATUS = ("message/delivery-status", "message/global-delivery-status")


def plain(text):
    """Octets above 127, which the parser keeps as surrogates, as what they are in UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fields(block):
    """The fields of a block as they are: unfolded, nothing else decoded."""
    return [[name, value.replace("\r\n", "")] for name, value in block.items()]


def blocks(raw):
    """The blocks of a status part, each through the parser of header sections."""
    text = raw.decode("utf-8")
    parser = email.parser.HeaderParser(policy=email.policy.compat32.clone(linesep="\r\n"))
    parsed = [parser.parsestr(block) for block in text.split("\r\n\r\n")]
    return [fields(block) for block in parsed], [str(d) for block in parsed for d in block.defects]


def defects(part):
    """All but those of UTF-8 in an address: this parser cannot be told that mail given to it as octets is in UTF-8."""
    meant = ("NonASCIILocalPartDefect", "UndecodableBytesDefect")
    fields = [d for field in part.values() for d in getattr(field, "defects", [])]
    return [type(d).__name__ for d in part.defects + fields if type(d).__name__ not in meant]


def octets(raw, boundary, number):
    """The octets of a part, cut out by its boundary: the parser decodes, and tells of some types only what it made of them."""
    part = raw.split(b"\r\n--" + boundary.encode())[number + 1]
    return part.split(b"\r\n\r\n", 1)[1]


def describe(raw):
    message = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    parts = message.get_payload()
    boundary = message.get_boundary()
    status = octets(raw, boundary, 1)
    found, wrong = blocks(status)
    if parts[1].get_content_type() == STATUS[0]:
        # Here the parser knows of blocks itself.
        theirs = [[name for name, _ in fields(block)] for block in parts[1].get_payload()]
        ours = [[name for name, _ in block] for block in found]
        if theirs != ours:
            wrong.append(f"blocks differ: {theirs}, {ours}")
    returned = octets(raw, boundary, 2)
    return {
        "fields": [[name, plain(str(value))] for name, value in message.items()],
        "report_type": message.get_param("report-type"),
        "boundary": boundary,
        "boundaries": raw.count(boundary.encode()),
        "parts": [
            {
                "content_type": part.get_content_type(),
                "charset": part.get_param("charset"),
                "encoding": part["Content-Transfer-Encoding"],
                "fields": len(part.keys()),
            }
            for part in parts
        ],
        "text": octets(raw, boundary, 0).decode("utf-8"),
        "status": found,
        "returned": returned.decode("latin-1"),
        "date": email.utils.parsedate_to_datetime(message["Date"]).timestamp(),
        "to": [plain(address.addr_spec) for address in message["To"].addresses],
        "defects": defects(message) + [d for part in parts for d in defects(part)] + wrong,
    }


def main():
    while size := sys.stdin.buffer.read(4):
        raw = sys.stdin.buffer.read(struct.unpack(">I", size)[0])
        print(json.dumps(describe(raw)), flush=True)


main()
