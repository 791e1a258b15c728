"""SMTP in over real sockets: relay control, submission, limits, smuggling, injection (spec E4-E9, Q15)."""
import base64
import re
import smtplib
import socket
import ssl

import pytest
from conftest import CARD
from postseal_lab.gateway import mail, wait_for

STRANGER = "127.0.0.9"
PASSWORD = "correct horse battery staple"


class Raw:
    """A client that says bytes and reads replies."""

    def __init__(self, gateway, kind="smtp", source=STRANGER, tls=False):
        self.sock = socket.create_connection(("127.0.0.1", gateway.ports[kind]), 20, (source, 0))
        if tls:
            self.wrap()
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()

    def wrap(self):
        self.sock = ssl._create_unverified_context().wrap_socket(self.sock)
        self.file = self.sock.makefile("rb")

    def say(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def reply(self):
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError
            lines.append(line.decode())
            if line[3:4] != b"-":
                return int(line[:3]), "".join(lines)

    def ask(self, line):
        self.say(line + "\r\n")
        return self.reply()

    def starttls(self):
        assert self.ask("STARTTLS")[0] == 220
        self.wrap()
        return self.ask("EHLO client.test")

    def ended(self):
        try:
            return self.file.readline() == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("inside.test")
    w.partner("sub.inside.test", dns=True)
    w.partner("outside.test")
    w.partner("also-outside.test")
    w.gateway.start()
    hash = w.gateway.ctl("password", "hash", input=PASSWORD + "\n").stdout.strip()
    assert hash.startswith("$argon2id$")
    w.deploy({"submitters.conf": "[submitter alice@inside.test]\nhash = %s\n" % hash})
    return w


def received(world, domain, n=1):
    return world.sinks[domain].wait(n)


# ---- direction table ----

@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("sender,to,direction", [
    ("a@inside.test", "b@inside.test", "internal"),
    ("a@inside.test", "b@outside.test", "outbound"),
    ("a@outside.test", "b@inside.test", "inbound"),
    ("a@outside.test", "b@also-outside.test", "outbound"),
    ("", "b@outside.test", "outbound"),
    ("", "b@inside.test", "inbound"),
])
def test_direction_table(world, sender, to, direction, trusted):
    """Q15, 0.1, E5: strangers reach protected domains only; a trusted address relays, and is scanned."""
    g = world.gateway
    source = None if trusted else STRANGER
    if not trusted and not to.endswith("@inside.test"):
        with g.client(source=source) as c:
            assert c.mail(sender)[0] == 250
            code, text = c.rcpt(to)
            assert code == 550 and text.startswith(b"5.7.1"), (code, text)
        return
    id = world.send(sender, to, "direction", "card " + CARD, source=source)
    decided = g.wait_event(id, "decided")[0]["detail"]
    assert decided["direction"] == direction
    assert decided["analysed"]
    if direction == "outbound":
        assert decided["encrypt"], "scanned, whatever the sender address"


TRICKS = [
    "x@outside.test", "@inside.test:x@outside.test", "@inside.test,@inside.test:x@outside.test",
    "x%outside.test@inside.test", "outside.test!x@inside.test", "x@outside.test@inside.test",
    '"x@outside.test"@inside.test', '"x%outside.test"@inside.test', "x@inside.test@outside.test",
    "x@[127.0.0.1]", "x@[IPv6:::1]", "x@inside.test.outside.test", "x@sub.inside.test",
    "x@inside.test%00.outside.test", "x@outside.test,y@inside.test", "x@inside.test.",
    "x@outside.test x@inside.test", "postmaster@outside.test", "x%outside.test@[127.0.0.1]",
    "x@INSIDE.TEST@outside.test", "<x@outside.test>", "x@inside.test:25@outside.test",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_relay_tricks(world, trick):
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        c.ask("MAIL FROM:<a@inside.test>")
        code, text = c.ask("RCPT TO:<%s>" % trick)
        assert 500 <= code < 600, (trick, code, text)


def test_relay_right_recipients(world):
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        assert c.ask("MAIL FROM:<a@outside.test>")[0] == 250
        for to in ("x@inside.test", "X@Inside.TEST", "postmaster", "postmaster@inside.test"):
            assert c.ask("RCPT TO:<%s>" % to)[0] == 250, to
        assert c.ask("RCPT TO:<x@outside.test>")[0] == 550
        assert c.ask("RSET")[0] == 250


def test_untrusted_sender_claims_inside(world):
    """The sender address is never a reason to relay."""
    with Raw(world.gateway) as c:
        c.ask("EHLO gateway.lab.test")
        c.ask("MAIL FROM:<alice@inside.test> AUTH=alice@inside.test")
        assert c.ask("RCPT TO:<x@outside.test>")[0] in (550, 503)


# ---- submission ----

@pytest.mark.parametrize("kind", ["submission", "submissions"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_submission(world, kind, mechanism):
    world.clear()
    with world.gateway.client(kind, source=STRANGER) as c:
        c.ehlo("client.test")
        assert mechanism in c.esmtp_features["auth"].split()
        c.user, c.password = "alice@inside.test", PASSWORD
        code, _ = c.auth(mechanism, getattr(c, "auth_" + mechanism.lower()))
        assert code == 235
        refused = c.sendmail("alice@inside.test", ["b@outside.test"],
                             mail("alice@inside.test", "b@outside.test", "sub", "hi").replace(
                                 "\n", "\r\n"))
        assert refused == {}
    m = received(world, "outside.test")[0]
    top = m.data.split(b"\r\n\r\n")[0].decode()
    assert re.search(r"Received: from client\.test .*with ESMTPSA", top, re.S), top
    assert PASSWORD.encode() not in m.data


@pytest.mark.parametrize("kind", ["submission", "submissions"])
def test_submission_needs_auth(world, kind):
    with world.gateway.client(kind, source=STRANGER) as c:
        c.ehlo("client.test")
        code, text = c.docmd("MAIL FROM:<alice@inside.test>")
        assert code == 530 and b"5.7.0" in text, text


def test_submission_needs_tls(world):
    with Raw(world.gateway, "submission") as c:
        features = c.ask("EHLO client.test")[1]
        assert "AUTH" not in features and "STARTTLS" in features
        assert c.ask("MAIL FROM:<alice@inside.test>")[0] == 530
        code, text = c.ask("AUTH PLAIN " + base64.b64encode(
            b"\0alice@inside.test\0" + PASSWORD.encode()).decode())
        assert code in (530, 538), text


def test_no_auth_on_port_25(world):
    with Raw(world.gateway) as c:
        assert "AUTH" not in c.ask("EHLO client.test")[1]
        assert "AUTH" not in c.starttls()[1]


def test_wrong_password(world):
    with world.gateway.client("submission", source=STRANGER) as c:
        for user, password in (("alice@inside.test", "wrong"), ("nobody@inside.test", PASSWORD)):
            code, text = c.docmd("AUTH PLAIN " + base64.b64encode(
                ("\0%s\0%s" % (user, password)).encode()).decode())
            assert code == 535 and b"5.7.8" in text, text
        code, text = c.docmd("MAIL FROM:<alice@inside.test>")
        assert code == 530


def test_too_many_wrong_passwords(world):
    with world.gateway.client("submission", source=STRANGER) as c:
        wrong = base64.b64encode(b"\0alice@inside.test\0nope").decode()
        codes = []
        try:
            for _ in range(6):
                codes.append(c.docmd("AUTH PLAIN " + wrong)[0])
        except smtplib.SMTPServerDisconnected:
            pass
        assert codes[:2] == [535, 535] and len(codes) <= 4 and codes[-1] in (421, 535), codes


def test_no_password_in_log_or_tracking(world):
    g = world.gateway
    encoded = base64.b64encode(b"\0alice@inside.test\0" + PASSWORD.encode()).decode()
    for text in (g.log_text(), g.ctl("audit", "list", "--json").stdout):
        assert PASSWORD not in text and encoded not in text
        assert base64.b64encode(PASSWORD.encode()).decode() not in text


# ---- limits ----

def test_declared_size(world):
    with Raw(world.gateway) as c:
        features = c.ask("EHLO client.test")[1]
        size = int(re.search(r"SIZE (\d+)", features).group(1))
        assert size == 10240 * 1024
        assert c.ask("MAIL FROM:<a@outside.test> SIZE=%d" % (size + 1))[1].startswith("552 5.3.4")
        assert c.ask("MAIL FROM:<a@outside.test> SIZE=%d" % size)[0] == 250


def test_real_size(world):
    """A body over the limit: 552 at its end, nothing stored, the session lives."""
    world.deploy(msg__max_kb=100)
    try:
        with Raw(world.gateway) as c:
            c.ask("EHLO client.test")
            c.ask("MAIL FROM:<a@outside.test>")
            c.ask("RCPT TO:<b@inside.test>")
            assert c.ask("DATA")[0] == 354
            c.say("Subject: big\r\n\r\n" + ("x" * 70 + "\r\n") * 2000 + ".\r\n")
            code, text = c.reply()
            assert code == 552 and text.startswith("552 5.3.4"), text
            assert c.ask("NOOP")[0] == 250
    finally:
        world.deploy(msg__max_kb=10240)


def test_recipients(world):
    world.deploy(msg__max_recipients=5)
    try:
        with Raw(world.gateway) as c:
            c.ask("EHLO client.test")
            c.ask("MAIL FROM:<a@outside.test>")
            codes = [c.ask("RCPT TO:<b%d@inside.test>" % i) for i in range(7)]
            assert [x[0] for x in codes] == [250] * 5 + [452] * 2
            assert "4.5.3" in codes[5][1]
    finally:
        world.deploy(msg__max_recipients=1000)


def test_errors(world):
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        codes = []
        try:
            for _ in range(15):
                codes.append(c.ask("FROBNICATE")[0])
        except (EOFError, ConnectionError):
            pass
        assert codes[:9] == [500] * 9 and codes[-1] == 421 and len(codes) <= 12, codes


def test_header_size(world):
    with Raw(world.gateway, source="127.0.0.1") as c:
        c.ask("EHLO client.test")
        c.ask("MAIL FROM:<a@outside.test>")
        c.ask("RCPT TO:<b@inside.test>")
        c.ask("DATA")
        c.say("Subject: x\r\n" + "".join("X-%d: %s\r\n" % (i, "y" * 900) for i in range(400)) +
              "\r\nbody\r\n.\r\n")
        assert c.reply()[1].startswith("552 5.3.4")


def test_hops(world):
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        c.ask("MAIL FROM:<a@outside.test>")
        c.ask("RCPT TO:<b@inside.test>")
        c.ask("DATA")
        c.say("".join("Received: from a by b; Tue, 24 Nov 2026 10:00:00 +0000\r\n"
                      for _ in range(51)) + "Subject: x\r\n\r\nbody\r\n.\r\n")
        assert c.reply()[1].startswith("554 5.4.6")


def test_own_loop(world):
    """A message that has been here too often comes to an end, also when others cut Received."""
    world.clear()
    world.send("a@outside.test", "b@inside.test", "loop", "round and round", source=STRANGER)
    m = received(world, "inside.test")[0]
    own = [x for x in m.data.split(b"\r\n\r\n")[0].split(b"\r\n") if b"gateway.lab.test" in x]
    assert own, "our Received field names us"


def test_long_lines(world):
    """A command line has a limit; the session survives."""
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        code, text = c.ask("MAIL FROM:<%s@outside.test>" % ("a" * 5000))
        assert code in (500, 501), text
        assert c.ask("NOOP")[0] == 250


def test_body_line_of_any_length_arrives_unbroken(world):
    """A body line longer than 998: taken and not changed, or refused; never silently broken."""
    world.clear()
    body = "z" * 3000
    try:
        world.send("a@outside.test", "b@inside.test", "long", body, source=STRANGER)
    except AssertionError as refused:
        assert "(5" in str(refused)
        return
    assert body.encode() + b"\r\n" in received(world, "inside.test")[0].data


def test_http(world):
    with Raw(world.gateway) as c:
        c.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert c.ended()
    with Raw(world.gateway) as c:
        c.say("POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nEHLO a\r\nMAIL FROM:<a@b.test>\r\n")
        assert c.ended()


def test_pipelining(world):
    world.clear()
    with Raw(world.gateway) as c:
        assert "PIPELINING" in c.ask("EHLO client.test")[1]
        c.say("MAIL FROM:<a@outside.test>\r\nRCPT TO:<b@inside.test>\r\nRCPT TO:<x@outside.test>\r\n"
              "RCPT TO:<c@inside.test>\r\nDATA\r\n")
        assert [c.reply()[0] for _ in range(5)] == [250, 250, 550, 250, 354]
        c.say("Subject: p\r\n\r\nhi\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n")
        assert [c.reply()[0] for _ in range(4)] == [250, 250, 250, 221]
        assert c.ended()
    m = received(world, "inside.test")[0]
    assert m.rcpts == ["b@inside.test", "c@inside.test"]


def test_unadvertised_extensions_are_refused(world):
    with Raw(world.gateway, source="127.0.0.1") as c:
        features = c.ask("EHLO client.test")[1].upper()
        for name in ("CHUNKING", "SMTPUTF8", "REQUIRETLS", "BINARYMIME"):
            assert name not in features
        assert c.ask("MAIL FROM:<a@outside.test> SMTPUTF8")[0] == 555
        assert c.ask("MAIL FROM:<a@outside.test> BODY=BINARYMIME")[0] in (501, 504, 555)
        assert c.ask("BDAT 10 LAST")[0] in (500, 502)
        assert c.ask("VRFY root")[0] == 252


# ---- injection and smuggling ----

def test_starttls_injection(world):
    """Bytes behind STARTTLS are never interpreted, in clear or under TLS."""
    world.clear()
    with Raw(world.gateway, source="127.0.0.1") as c:
        c.ask("EHLO client.test")
        c.say("STARTTLS\r\nMAIL FROM:<evil@outside.test>\r\nRCPT TO:<b@inside.test>\r\nDATA\r\n"
              "Subject: injected\r\n\r\nx\r\n.\r\n")
        try:
            code, _ = c.reply()
            if code == 220:
                c.wrap()
                code, _ = c.ask("RCPT TO:<b@inside.test>")
                assert code == 503, "no transaction came from the clear text"
        except (EOFError, ssl.SSLError, ConnectionError):
            pass
    id = world.send("a@inside.test", "b@inside.test", "proof", "later")
    world.gateway.wait_event(id, "done")
    assert not any(b"injected" in m.data for m in world.sinks["inside.test"].mails)


ENDS = [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\n\n.\r\n", b"\n.\r",
        b"\r.\n", b"\r\n.\r\r\n", b"\r\n.\n\r\n", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\r\n.\t\r\n",
        b"\r\n. \r\n", b"\r\r.\r\n", b"\n\r\n.\n", b"\r\n..\r\n", b"\x0b.\r\n", b"\x0c.\x0c",
        b"\xe2\x80\xa8.\xe2\x80\xa8", b"\x85.\x85", b"\r\n.\r\x00\n", b"=0D=0A.=0D=0A",
        b"\r\n\r.\r\n", b"\r\n.\x1a\r\n"]
assert not any(b"\r\n.\r\n" in e for e in ENDS), "none is the true end"


@pytest.mark.parametrize("end", ENDS, ids=[repr(e)[2:-1] for e in ENDS])
@pytest.mark.parametrize("source", ["127.0.0.1", STRANGER])
def test_smuggling(world, end, source):
    """An imitation of the end of data gives one message or none, in and behind us: never two."""
    inside = world.sinks["inside.test"]
    world.clear()
    with Raw(world.gateway, source=source) as c:
        c.ask("EHLO client.test")
        c.ask("MAIL FROM:<a@outside.test>")
        c.ask("RCPT TO:<b@inside.test>")
        assert c.ask("DATA")[0] == 354
        c.say(b"Subject: first\r\n\r\ntext" + end +
              b"MAIL FROM:<evil@inside.test>\r\nRCPT TO:<victim@inside.test>\r\nDATA\r\n"
              b"Subject: smuggled\r\n\r\nsmuggled text\r\n.\r\n")
        code, text = c.reply()
        assert code in (250, 550), text
        assert c.ask("NOOP")[0] == 250, "exactly one reply"
        if code == 250:
            id = text.split("queued as ")[1].strip()
            world.gateway.wait_event(id, "done")
            assert len(inside.mails) == 1
            assert inside.mails[0].sender == "a@outside.test"
            assert inside.mails[0].rcpts == ["b@inside.test"]
            assert b"smuggled text" in inside.mails[0].data, "the whole of it is one message"
        # what a lenient server behind us could take for an end must not have passed
        if re.search(rb"(?<!\r)\n\.|\r(?!\n)|\x00", end):
            assert code == 550, "bare CR, LF and NUL are refused"
    assert not any("evil@" in x for x in inside.commands)


def test_dot_stuffing(world):
    world.clear()
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        c.ask("MAIL FROM:<a@outside.test>")
        c.ask("RCPT TO:<b@inside.test>")
        c.ask("DATA")
        c.say("Subject: dots\r\n\r\n..\r\n...\r\n..x\r\n .\r\n.\r\n")
        assert c.reply()[0] == 250
    assert received(world, "inside.test")[0].data.endswith(b"\r\n\r\n.\r\n..\r\n.x\r\n .\r\n")


# ---- TLS in ----

def test_tls_versions(world):
    def connect(version):
        context = ssl._create_unverified_context()
        context.minimum_version = context.maximum_version = version
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        with Raw(world.gateway) as c:
            c.ask("EHLO client.test")
            assert c.ask("STARTTLS")[0] == 220
            with context.wrap_socket(c.sock) as s:
                return s.version()
    assert connect(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert connect(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(old)


def test_garbage_instead_of_client_hello(world):
    with Raw(world.gateway) as c:
        c.ask("EHLO client.test")
        assert c.ask("STARTTLS")[0] == 220
        c.say("MAIL FROM:<a@outside.test>\r\n")
        data = c.sock.recv(100)
        assert not data.startswith(b"2"), "no SMTP reply in clear after STARTTLS"
    id = world.send("a@outside.test", "b@inside.test", "alive", "still", source=STRANGER)
    world.gateway.wait_event(id, "done")


def test_received_field(world):
    world.clear()
    id = world.send("a@outside.test", "b@inside.test", "received", "hi", source=STRANGER)
    m = received(world, "inside.test")[0]
    top = m.data.split(b"\r\n\r\n")[0].decode()
    field = re.search(r"^Received: (.*?\r\n)(?=\S)", top, re.S | re.M).group(1)
    assert "from client.lab.test" in field and "[127.0.0.9]" in field
    assert "by gateway.lab.test" in field and "with ESMTPS" in field
    assert id in field and "TLS" in field


def test_connections_from_one_address(world):
    """Ten at a time from a stranger; the next is told 421."""
    clients = []
    try:
        codes = []
        for _ in range(12):
            c = Raw(world.gateway, source="127.0.0.99")
            clients.append(c)
            codes.append(c.greeting[0])
        assert codes == [220] * 10 + [421] * 2, codes
    finally:
        for c in clients:
            c.close()
    wait_for(lambda: world.gateway._greets(), 10, "greeting")
