"""The tour of script/demo: a small world on loopback, a handful of messages, and what became of them."""
import base64
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

from postseal_lab.ca import CA  # noqa: E402
from postseal_lab.dns import DNS  # noqa: E402
from postseal_lab.gateway import Gateway, wait_for  # noqa: E402
from postseal_lab.sink import Sink  # noqa: E402

CARD = "4111 1111 1111 1111"
PARTNERS = [  # domain, address, TLS, certificate, what it is
    ("good.test", "127.0.0.2", "good", {}, "TLS with a certificate of the demo CA"),
    ("expired.test", "127.0.0.3", "good", {"expired": True}, "TLS with an expired certificate"),
    ("plain.test", "127.0.0.4", "none", None, "no STARTTLS at all"),
    ("broken.test", "127.0.0.5", "alert", None, "offers STARTTLS, breaks the handshake"),
]


def line(text=""):
    print(text, flush=True)


def title(text):
    line()
    line("=== " + text + " " + "=" * max(0, 74 - len(text)))


def message(to, subject, body, headers=""):
    return ("From: Alice <alice@hospital.test>\nTo: <%s>\nSubject: %s\n"
            "Date: Tue, 24 Nov 2026 10:00:00 +0000\nMessage-ID: <demo-%s@hospital.test>\n"
            "MIME-Version: 1.0\n%s\n%s\n" % (to, subject, base64.b16encode(
                subject.encode())[:24].decode(), headers, body))


def messages():
    html = "<html><body><p>Card: <b>4111</b> 1111 <i>1111</i> 1111</p></body></html>"
    encoded = base64.b64encode(("Please book " + CARD + " today.").encode()).decode()
    plain, html_type = "Content-Type: text/plain; charset=utf-8\n", \
        "Content-Type: text/html; charset=utf-8\n"
    b64 = plain + "Content-Transfer-Encoding: base64\n"
    return [
        ("harmless, to a partner with good TLS",
         "bob@good.test", message("bob@good.test", "Lunch", "At noon?", plain), "delivered"),
        ("harmless, to a partner without TLS: ordinary routing, in clear",
         "bob@plain.test", message("bob@plain.test", "Lunch", "At noon?", plain), "delivered"),
        ("harmless, to a partner whose handshake breaks: second connection in clear",
         "bob@broken.test", message("bob@broken.test", "Lunch", "At noon?", plain), "delivered"),
        ("a card number in the text: marked Encrypt, mandatory TLS",
         "bob@good.test", message("bob@good.test", "Booking", "Card " + CARD, plain), "delivered"),
        ("a card number in HTML, split by tags; level Encrypt does not ask for a valid certificate",
         "bob@expired.test", message("bob@expired.test", "Booking", html, html_type), "delivered"),
        ("a card number in base64, to a partner without TLS: waits, never in clear",
         "bob@plain.test", message("bob@plain.test", "Booking", encoded, b64), "delayed"),
        ("a card number, to a partner whose handshake breaks: waits, never in clear",
         "bob@broken.test", message("bob@broken.test", "Booking", "Card " + CARD, plain), "delayed"),
    ]


def world(folder):
    ca = CA(os.path.join(folder, "ca"))
    dns = DNS()
    sinks = {}
    port = 0
    for domain, ip, tls, cert, _ in PARTNERS:
        host = "mx." + domain
        pair = ca.issue(domain, [host], **cert) if cert is not None else (None, None)
        sinks[domain] = Sink(ip, port, tls=tls, cert=pair[0], key=pair[1], hostname=host)
        port = sinks[domain].port
        dns.mail_host(domain, ip, host)
    cert, key = ca.issue("hospital", ["mail.hospital.test"])
    sinks["hospital.test"] = Sink("127.0.0.6", port, cert=cert, key=key,
                                  hostname="mail.hospital.test")
    dns.mail_host("hospital.test", "127.0.0.6", "mail.hospital.test")
    return ca, dns, sinks, port


def settle(gateway, port):
    gateway.settings({
        "routes.conf": "[route default]\ndeliver = mx\nport = %d\ntls = opportunistic\n" % port,
        "groups/ip/trusted.txt": "127.0.0.1\n",
        "groups/domain/protected.txt": "hospital.test\n",
    }, comment="demo: partners and trusted address", dns__servers=gateway.dns.address,
        dns__timeout_ms=5000,
        delivery__max_retry_min=1, delivery__retry_interval_min=1)


def show_trace(gateway, id):
    for text in gateway.ctl("message", "trace", id).stdout.rstrip().splitlines():
        line("   " + text)


def send_all(gateway, sinks):
    results = []
    for what, to, text, expected in messages():
        title(what)
        id = gateway.send("alice@hospital.test", to, text)
        gateway.wait_event(id, expected)
        show_trace(gateway, id)
        domain = to.split("@")[1]
        commands = [c.split(" ")[0].upper() for c in sinks[domain].commands]
        results.append((what, id, expected))
        if expected == "delayed" and "MAIL" in commands and domain == "plain.test":
            took = [m for m in sinks[domain].mails if b"4111" in m.data]
            assert not took, "an Encrypt-marked message left in clear"
    return results


def bounce(gateway, sinks, results):
    title("the period of the two waiting messages ends (1 minute in this demo): reports")
    line("   waiting for the end of the retry period ...")
    waiting = [r for r in results if r[2] == "delayed"]
    wait_for(lambda: sinks["hospital.test"].mails and all(
        any(e["event"] == "expired" for e in gateway.trace(id)) for _, id, _ in waiting),
        120, "non-delivery reports")
    sinks["hospital.test"].wait(len(waiting), 60)
    for mail in sinks["hospital.test"].mails[:1]:
        line("   the sender gets (over its own route):")
        for text in mail.data.decode("utf-8", "replace").splitlines()[:44]:
            line("   | " + text)


def tour(gateway, keep):
    title("where to look further")
    ctl = "build/postsealctl --data %s" % gateway.data
    for text in ("status", "queue list", "message find Booking", "settings show routes.conf",
                 "explain route someone@good.test --encrypt",
                 "spool verify", "settings history"):
        line("   %s %s" % (ctl, text))
    line("   curl -k https://127.0.0.1:%d/metrics" % gateway.ports["https"])
    line("   log: %s" % gateway.log_path)
    line("   SMTP: 127.0.0.1:%(smtp)d   submission: %(submission)d   submissions: "
         "%(submissions)d" % gateway.ports)
    if not keep:
        line()
        line("Everything is stopped now. script/demo --keep leaves it running.")


def main():
    keep = "--keep" in sys.argv
    folder = tempfile.mkdtemp(prefix="postseal-demo-")
    ca, dns, sinks, port = world(folder)
    gateway = Gateway(folder=folder, ca=ca.path, dns=dns, hostname="gateway.hospital.test",
                      workers=1)
    title("Postseal demo")
    line("   a gateway for hospital.test, with partners on loopback:")
    for domain, ip, _, _, what in PARTNERS:
        line("   %-14s %s:%d  %s" % (domain, ip, port, what))
    try:
        gateway.start()
        settle(gateway, port)
        line()
        line("   " + gateway.ctl("status").stdout.splitlines()[0])
        results = send_all(gateway, sinks)
        title("the delayed queue")
        line(gateway.ctl("queue", "list").stdout)
        bounce(gateway, sinks, results)
        in_clear = [m for s in sinks.values() for m in s.mails
                    if not m.tls and b"4111" in m.data.replace(b" ", b"")]
        title("result")
        line("   %d messages sent, %d of them marked Encrypt; copies of a card number that any "
             "server saw in clear: %d" % (len(results), 4, len(in_clear)))
        tour(gateway, keep)
        if keep:
            line()
            line("Running. Press Enter (or Ctrl-C) to stop.")
            try:
                sys.stdin.readline() or subprocess.call(["sleep", "infinity"])
            except KeyboardInterrupt:
                pass
        return 1 if in_clear else 0
    finally:
        gateway.stop()
        for s in sinks.values():
            s.close()
        dns.close()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
