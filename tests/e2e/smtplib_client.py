"""Sends every file of a folder with smtplib; prints the features offered and the ids as JSON.

Arguments: port, folder.
"""

import json
import pathlib
import re
import smtplib
import sys
from email import policy
from email.message import EmailMessage

port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])


def message_id(reply):
    return re.findall(rb"\b[0-9A-F]{20}\b", reply)[-1].decode()


with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test.example", timeout=60) as smtp:
    smtp.ehlo_or_helo_if_needed()
    report = {"features": smtp.esmtp_features, "ids": {}}
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        code, reply = smtp.mail("a@client.test.example", [f"SIZE={len(body)}", "BODY=8BITMIME"])
        assert code == 250, (path.name, code, reply)
        code, reply = smtp.rcpt("b@example.com")
        assert code == 250, (path.name, code, reply)
        # Octets are sent as they are, but for the dots.
        code, reply = smtp.data(body)
        assert code == 250, (path.name, code, reply)
        report["ids"][path.name] = message_id(reply)

    mail = EmailMessage()
    mail["From"] = "jürgen@client.test.example"
    mail["To"] = "zoë@example.com"
    mail["Subject"] = "Grüße"
    mail.set_content("Grüße aus Köln\n", cte="8bit")
    smtp.command_encoding = "utf-8"
    code, reply = smtp.mail(mail["From"], ["SMTPUTF8", "BODY=8BITMIME"])
    assert code == 250, (code, reply)
    code, reply = smtp.rcpt(mail["To"])
    assert code == 250, (code, reply)
    code, reply = smtp.data(mail.as_bytes(policy=policy.SMTPUTF8))
    assert code == 250, (code, reply)
    report["unicode"] = message_id(reply)

    # A non-ASCII address without SMTPUTF8 is refused, and the session goes on (RFC 6531 section 3.4).
    smtp.rset()
    smtp.sock.sendall("MAIL FROM:<jürgen@client.test.example>\r\n".encode())
    code, reply = smtp.getreply()
    assert 500 <= code < 600, (code, reply)
    assert smtp.noop()[0] == 250
    assert smtp.verify("b@example.com")[0] in (250, 252)
    assert smtp.docmd("UNKNOWN")[0] == 500

json.dump(report, sys.stdout)
