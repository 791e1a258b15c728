"""Limits of strangers, from addresses that are not loopback: rates, greeting, per address, slow clients.

The gateway runs in a network namespace of its own (needs root); each test has client addresses of
its own, because an address at its limit stays there for a minute.
"""
import base64
import json
import os
import re
import select
import signal
import smtplib
import socket
import sqlite3
import ssl
import time

import pytest
from conftest import World
from postseal_lab.gateway import mail, wait_for
from postseal_lab.netns import NetPair

HERE, HERE6 = "192.0.2.1", "2001:db8::1"
TRUSTED = "192.0.2.250"
PASSWORD = "correct horse battery staple"


class StrangerWorld(World):
    """The usual world with one more address, and clients on the other end of the cable."""

    def __init__(self, net, folder):
        super().__init__(folder)
        self.net = net
        g = self.gateway
        with open(g.config) as f:
            text = f.read()
        for kind in ("smtp", "submission", "submissions"):
            old = '%s = {"127.0.0.1:%d"}' % (kind, g.ports[kind])
            assert old in text
            text = text.replace(old, '%s = {"127.0.0.1:%d", "%s:%d", "[%s]:%d"}' % (
                kind, g.ports[kind], HERE, g.ports[kind], HERE6, g.ports[kind]))
        with open(g.config, "w") as f:
            f.write(text)

    def limits(self, **keys):
        """Everything off but what is named."""
        for key in ("rate_per_min", "handshakes_per_min", "messages_per_min",
                    "recipients_per_min", "pregreet_ms"):
            keys.setdefault("conn__" + key, 0)
        keys.setdefault("conn__per_ip", 200)
        self.deploy(self.submitters, trusted=(TRUSTED,), **keys)

    def connect(self, source, kind="smtp"):
        v6 = ":" in source
        with self.net.inside("client"):
            s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        s.settimeout(15)
        s.bind((source, 0))
        s.connect((HERE6 if v6 else HERE, self.gateway.ports[kind]))
        return s

    def smtp(self, source, kind="smtp"):
        return Client(self.connect(source, kind))

    def sends(self, source, subject):
        with self.smtp(source) as c:
            c.ehlo("client.test")
            c.sendmail("a@outside.test", ["b@inside.test"],
                       mail("a@outside.test", "b@inside.test", subject, "text"))


class Client(smtplib.SMTP):
    """smtplib over a socket that exists already."""

    def __init__(self, sock):
        super().__init__()
        self.sock = sock
        self.file = None
        code, text = self.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)

    def tls(self, session=None):
        """STARTTLS with a session to resume; returns whether it was, and the session."""
        code, text = self.docmd("STARTTLS")
        if code != 220:
            raise smtplib.SMTPResponseException(code, text)
        self.sock = CONTEXT.wrap_socket(self.sock, session=session)
        self.file = None
        self.ehlo_resp = self.helo_resp = None
        self.ehlo("client.test")
        return self.sock.session_reused, self.sock.session


CONTEXT = ssl._create_unverified_context()


def line(sock):
    """What the server says before it closes or waits, at most one read."""
    return sock.recv(4096)


def greeted(world, source, kind="smtp"):
    """Does a fresh connection get 220? The refusal otherwise."""
    with world.connect(source, kind) as s:
        said = line(s)
        return True if said.startswith(b"220 ") else said


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    assert os.getuid() == 0, "network namespaces need root"
    client = ["192.0.2.%d/24" % i for i in list(range(10, 40)) + [250]]
    client += ["2001:db8::10/64", "2001:db8::11/64"]
    net = NetPair(["%s/24" % HERE, "%s/64" % HERE6], client)
    w = None
    try:
        with net.inside("gateway"):
            w = StrangerWorld(net, tmp_path_factory.mktemp("lab"))
            w.partner("inside.test")
            w.gateway.start()
            hash = w.gateway.ctl("password", "hash", input=PASSWORD + "\n").stdout.strip()
            w.submitters = {"submitters.conf": "[submitter alice]\nhash = %s\n" % hash}
            yield w
    finally:
        if w:
            w.close()
        net.close()


def test_defaults_are_on(world):
    text = world.gateway.ctl("settings", "show").stdout
    for key, value in (("rate_per_min", 120), ("handshakes_per_min", 30), ("pregreet_ms", 2000),
                       ("messages_per_min", 600), ("recipients_per_min", 3000)):
        assert re.search(r"^%s = %d$" % (key, value), text, re.M), key


def test_connections_a_minute(world):
    world.limits(conn__rate_per_min=5)
    assert [greeted(world, "192.0.2.10") for _ in range(5)] == [True] * 5
    refused = greeted(world, "192.0.2.10")
    assert refused.startswith(b"421 4.7.0 ") and b"in one minute" in refused, refused
    assert greeted(world, "192.0.2.11") is True
    for _ in range(12):
        assert greeted(world, TRUSTED) is True
        with socket.create_connection(("127.0.0.1", world.gateway.ports["smtp"]), 10) as s:
            assert line(s).startswith(b"220 ")
    log = world.gateway.log_text()
    assert re.search(r"NOQUEUE: reject: CONNECT from unknown\[192\.0\.2\.10\]: 421 4\.7\.0 ", log)


def test_one_v6_network_is_one_address(world):
    world.limits(conn__rate_per_min=4)
    got = [greeted(world, "2001:db8::1%d" % (i % 2)) for i in range(5)]
    assert got[:4] == [True] * 4 and got[4].startswith(b"421 4.7.0 "), got


def test_refusals_are_tracked(world):
    world.limits(conn__rate_per_min=1)
    assert greeted(world, "192.0.2.12") is True
    assert greeted(world, "192.0.2.12") is not True

    def tracked():
        path = os.path.join(world.gateway.data, "db", "postseal.db")
        db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=5)
        try:
            rows = [json.loads(r[0]) for r in db.execute("SELECT detail FROM event WHERE id = 0")
                    if r[0].startswith("{")]
        finally:
            db.close()
        return [r for r in rows if r.get("ip") == "192.0.2.12"]
    events = wait_for(tracked, 15, "event in tracking")
    assert events[0]["command"] == "CONNECT" and events[0]["code"] == 421, events


def test_handshakes_a_minute(world):
    world.limits(conn__handshakes_per_min=3)
    session = None
    for i in range(3):
        with world.smtp("192.0.2.13") as c:
            c.ehlo("client.test")
            _, session = c.tls()
    with world.smtp("192.0.2.13") as c:  # clear text goes on, TLS is refused for now
        c.ehlo("client.test")
        with pytest.raises(smtplib.SMTPResponseException) as e:
            c.tls()
        assert e.value.smtp_code == 421 and b"4.7.0" in e.value.smtp_error
    with world.connect("192.0.2.13", "submissions") as s:
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            CONTEXT.wrap_socket(s).recv(10)
    assert "reject: STARTTLS from unknown[192.0.2.13]: 421 4.7.0" in world.gateway.log_text()


def test_resumed_handshakes_are_free(world):
    world.limits(conn__handshakes_per_min=2)
    session = None
    for i in range(8):
        with world.smtp("192.0.2.14") as c:
            c.ehlo("client.test")
            reused, session = c.tls(session)
            assert reused == (i > 0)
            c.noop()
            session = c.sock.session  # tickets come behind the handshake


def test_messages_and_recipients_a_minute(world):
    world.limits(conn__messages_per_min=3, conn__recipients_per_min=4)
    with world.smtp("192.0.2.15") as c:
        c.ehlo("client.test")
        assert c.mail("a@outside.test")[0] == 250
        assert [c.rcpt("b@inside.test")[0] for _ in range(4)] == [250] * 4
        code, text = c.rcpt("b@inside.test")
        assert code == 450 and text.startswith(b"4.7.1"), text
        for _ in range(2):
            c.rset()
            assert c.mail("a@outside.test")[0] == 250
        c.rset()
        code, text = c.mail("a@outside.test")
        assert code == 450 and text.startswith(b"4.7.1"), text
    with world.smtp(TRUSTED) as c:
        c.ehlo("client.test")
        for _ in range(8):
            assert c.mail("a@outside.test")[0] == 250
            c.rset()


def test_connections_at_once(world):
    world.limits(conn__per_ip=10)
    open_ones = [world.connect("192.0.2.16") for _ in range(10)]
    try:
        assert all(line(s).startswith(b"220 ") for s in open_ones)
        refused = greeted(world, "192.0.2.16")
        assert refused.startswith(b"421 4.7.0 ") and b"too many connections" in refused
        assert greeted(world, "192.0.2.17") is True
        open_ones.pop().close()
        wait_for(lambda: greeted(world, "192.0.2.16") is True, 5, "free place")
    finally:
        for s in open_ones:
            s.close()


def test_who_talks_first(world):
    world.limits(conn__pregreet_ms=1000)
    with world.connect("192.0.2.18") as s:
        s.sendall(b"EHLO rude.test\r\n")
        said = line(s)
        assert said.startswith(b"554 5.5.1 "), said
        assert line(s) == b""
    began = time.monotonic()
    assert greeted(world, "192.0.2.18") is True
    assert time.monotonic() - began >= 0.9
    for source, kind in ((TRUSTED, "smtp"), ("192.0.2.18", "submission")):
        began = time.monotonic()
        assert greeted(world, source, kind) is True
        assert time.monotonic() - began < 0.9, (source, kind)
    assert "CONNECT from unknown[192.0.2.18]: 554 5.5.1" in world.gateway.log_text()


def test_failed_log_ins_wait(world):
    """Known or not, the wait is the same; where the account is used, others' guesses cost nothing."""
    world.limits(submission__auth_failures=10, conn__max_errors=20, conn__tarpit_ms=0)

    def log_in(source, user, password):
        with world.smtp(source, "submission") as c:
            c.ehlo("client.test")
            c.tls()
            began = time.monotonic()
            code = c.docmd("AUTH PLAIN " + base64.b64encode(
                ("\0%s\0%s" % (user, password)).encode()).decode())[0]
            return code, time.monotonic() - began

    assert log_in("192.0.2.20", "alice", PASSWORD)[0] == 235
    for user, source in (("alice", "192.0.2.21"), ("nobody", "192.0.2.22")):
        waits = []
        for _ in range(3):
            code, seconds = log_in(source, user, "wrong")
            assert code == 535
            waits.append(seconds)
        assert waits[0] < 0.9 and 0.95 <= waits[1] < 1.9 and 1.95 <= waits[2] < 3.5, waits
    code, seconds = log_in("192.0.2.20", "alice", PASSWORD)
    assert code == 235 and seconds < 0.9, seconds
    code, seconds = log_in("192.0.2.23", "alice", PASSWORD)  # a new place waits like a guess
    assert code == 235 and seconds > 3.5, seconds


def test_log_ins_are_limited_in_a_session(world):
    world.limits(submission__auth_failures=2, conn__tarpit_ms=0)
    with world.smtp("192.0.2.24", "submission") as c:
        c.ehlo("client.test")
        assert c.docmd("AUTH PLAIN AGpvZQB3cm9uZw==")[0] in (530, 538), "TLS only"
        c.tls()
        for _ in range(2):
            assert c.docmd("AUTH PLAIN AGpvZQB3cm9uZw==")[0] == 535
        assert c.docmd("AUTH PLAIN AGpvZQB3cm9uZw==")[0] == 421


def test_idle_chatter(world):
    world.limits(conn__max_junk=10, conn__max_errors=3, conn__tarpit_ms=0)
    with world.connect("192.0.2.25") as s:
        line(s)
        s.sendall(b"EHLO client.test\r\n" + b"NOOP\r\n" * 14)
        text = b""
        while True:
            more = line(s)
            if not more:
                break
            text += more
        assert text.count(b"250 2.0.0") == 12 and b"\r\n421 4.7.0 " in text, text


SLOW = 102


class Slow:
    """One of many who say a byte a second: in a command, in DATA, or in the handshake."""

    def __init__(self, world, i):
        self.kind = ("command", "data", "handshake")[i % 3]
        self.sock = world.connect("192.0.2.%d" % (26 + i % 12),
                                  "submissions" if self.kind == "handshake" else "smtp")
        self.ended = False
        if self.kind == "data":
            self.talk(b"EHLO slow.test\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<b@inside.test>\r\n",
                      b"DATA\r\n")
        elif self.kind == "command":
            line(self.sock)

    def talk(self, *commands):
        line(self.sock)
        for c in commands:
            self.sock.sendall(c)
            line(self.sock)

    def drip(self, n):
        if self.ended:
            return
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 600
        try:
            self.sock.sendall(hello[n:n + 1] if self.kind == "handshake" else b"x")
            self.sock.setblocking(False)
            self.ended = self.sock.recv(4096) == b""
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        finally:
            self.sock.setblocking(True)


def test_slow_clients_disturb_nobody(world):
    world.limits(conn__first_mail_s=8, conn__handshake_timeout_s=6)
    slow = [Slow(world, i) for i in range(SLOW)]
    times = []
    try:
        for second in range(14):
            end = time.monotonic() + 1
            for s in slow:
                s.drip(second)
            for k in range(3):
                began = time.monotonic()
                world.sends("192.0.2.39", "beside the slow %d-%d" % (second, k))
                times.append(time.monotonic() - began)
            select.select([], [], [], max(0, end - time.monotonic()))
        times.sort()
        assert times[len(times) // 2] < 0.25 and times[-1] < 1, times
        ended = {kind: [s.ended for s in slow if s.kind == kind]
                 for kind in ("command", "data", "handshake")}
        assert all(ended["handshake"]) and all(ended["command"]), ended
        assert not any(ended["data"]), "data_min_rate looks at 30 s"
        assert len(world.sinks["inside.test"].wait(len(times))) >= len(times)
    finally:
        for s in slow:
            s.sock.close()


def test_after_a_crash_nobody_is_greeted_without_starttls(world):
    """All processes killed at once: who comes meanwhile waits, or is served in full."""
    world.limits()
    greetings = 0
    for _ in range(2):
        for pid in world.gateway.children().values():
            os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            try:
                with world.smtp("192.0.2.38") as c:
                    c.ehlo("client.test")
                    assert c.has_extn("starttls"), c.esmtp_features
                    assert c.mail("a@outside.test")[0] in (250, 451)
                    greetings += 1
            except (OSError, smtplib.SMTPException):
                select.select([], [], [], 0.05)  # killed while it waited
    assert greetings > 5
    world.gateway.wait_ready()
