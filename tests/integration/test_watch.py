"""Logs and metrics."""
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import CARD
from postseal_lab.gateway import mail, wait_for

MARK = "unmistakable-words-of-the-body"
SUBJECT = "unmistakable-words-of-the-subject"


def make(new_world, **options):
    w = new_world(**options)
    w.partner("inside.test")
    w.partner("good.test")
    w.partner("none.test", tls="none", cert="none")
    w.partner("break.test", tls="break")
    w.partner("perm.test", script={"RCPT": "550 5.1.1 no such user"})
    w.partner("later.test", script={"RCPT": "451 4.2.1 busy"})
    return w.start()


def traffic(w):
    """5 delivered (one in clear after a broken handshake), 2 deferred, 1 bounced (with a report), 2 rejected."""
    g = w.gateway
    ids = {}
    for to, body in (("b@good.test", "hi"), ("b@none.test", "hi"), ("b@break.test", "hi"),
                     ("b@good.test", "card " + CARD), ("b@inside.test", "hi")):
        id = w.send("a@inside.test", to, SUBJECT, MARK + " " + body)
        g.wait_event(id, "done")
        ids[id] = "sent"
    for to, body in (("b@later.test", "hi"), ("b@none.test", "card " + CARD)):
        id = w.send("a@inside.test", to, SUBJECT, MARK + " " + body)
        g.wait_event(id, "delayed")
        ids[id] = "deferred"
    id = w.send("a@inside.test", "b@perm.test", SUBJECT, MARK)
    g.wait_event(id, "done")
    ids[id] = "bounced"
    w.sinks["inside.test"].wait(1, match=lambda m: b"multipart/report" in m.data)
    with g.client(source="127.0.0.9") as c:
        c.mail("x@outside.test")
        for i in range(2):
            assert c.rcpt("y%d@outside.test" % i)[0] == 550
    wait_for(lambda: len(g.queue()) == 2, 10, "two waiting messages")
    return ids


@pytest.fixture(scope="module")
def world(new_world):
    w = make(new_world)
    w.ids = traffic(w)
    return w


@pytest.fixture(scope="module")
def json_world(new_world):
    w = make(new_world, log_format="json")
    w.ids = traffic(w)
    return w


def settled(world, text):
    wait_for(lambda: text in world.gateway.log_text(), 10, "log line " + text)
    return world.gateway.log_text()


def test_pflogsumm_counts_right(world):
    text = settled(world, "y1@outside.test")
    r = subprocess.run([shutil.which("pflogsumm") or "/usr/sbin/pflogsumm", "--syslog-name=postseal"],
                       input=text, capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    counts = {m.group(2).strip(): int(m.group(1)) for m in
              re.finditer(r"^\s*(\d+)k?\s+([a-z ]+?)(?:\s+\(.*\))?$", r.stdout, re.M)}
    # 8 messages and the report about the bounced one
    assert counts["delivered"] == 6, (counts, r.stdout[:1500])
    assert counts["deferred"] == 2, counts
    assert counts["bounced"] == 1, counts
    assert counts["rejected"] == 2, counts
    assert counts["received"] in (8, 9), counts
    assert "a@inside.test" in r.stdout and "b@perm.test" in r.stdout + "b@perm.test"


def test_lines_are_complete(world):
    log = world.gateway.log_text()
    for id, status in world.ids.items():
        lines = [x for x in log.splitlines() if id in x]
        assert any("client=" in x and "/smtpd[" in x for x in lines)
        assert any("from=<a@inside.test>" in x and "/qmgr[" in x for x in lines)
        assert any("status=%s" % status in x and "/smtp[" in x for x in lines), (id, lines)
        assert any(x.rstrip().split(" event=")[0].endswith("removed") for x in lines) == (status != "deferred")
    assert re.search(r"status=sent .*tls=TLSv1\.3 cipher=\S+ bits=\d+", log)


def test_no_content_in_the_log(world, json_world):
    for w in (world, json_world):
        assert MARK not in w.gateway.log_text() and SUBJECT not in w.gateway.log_text()
        assert CARD not in w.gateway.log_text()


def test_debug_log_has_no_content_either(world):
    world.gateway.ctl("log", "level", "debug")
    try:
        id = world.send("a@inside.test", "b@good.test", SUBJECT, MARK + " card " + CARD)
        world.gateway.wait_event(id, "done")
    finally:
        world.gateway.ctl("log", "level", "info")
    text = world.gateway.log_text()
    assert MARK not in text and CARD not in text and SUBJECT not in text


def test_json_log(json_world):
    text = settled(json_world, "y1@outside.test")
    events = [json.loads(line) for line in text.splitlines()]
    names = {e["event"] for e in events}
    assert {"received", "attempt", "connect", "disconnect", "refused", "decided"} <= names, names
    attempts = [e for e in events if e["event"] == "attempt"]
    assert len(attempts) >= 8
    for e in events:
        assert isinstance(e, dict) and e["event"] and "\n" not in json.dumps(e)
    for id in json_world.ids:
        assert any(id in json.dumps(e) for e in attempts)


def test_log_lines_cannot_be_forged(world):
    """Line breaks and controls of a stranger never begin a line of ours."""
    import socket
    with socket.create_connection(("127.0.0.1", world.gateway.ports["smtp"]), 10) as s:
        s.settimeout(10)
        s.recv(1000)
        s.sendall(b"EHLO x\x1b[31m\tevil=1\r\nMAIL FROM:<\"a\\\rb\nNov 24 forged\"@x.test>\r\nQUIT\r\n")
        s.recv(1000)
    id = world.send("a@inside.test", "b@good.test", "line\x0bforged", "hi")
    world.gateway.wait_event(id, "done")
    for line in world.gateway.log_text().splitlines():
        assert re.match(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ postseal/[a-z]+\[\d+\]: ", line), line
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", line), line


def curl(world, path, *options):
    return subprocess.run(["curl", "-sk", "--max-time", "10", "-w", "\n%{http_code}", *options,
                           "https://127.0.0.1:%d%s" % (world.gateway.ports["https"], path)],
                          capture_output=True, text=True, timeout=20)


def get(world, path, *options):
    r = curl(world, path, *options)
    assert r.returncode == 0, r.stderr
    body, code = r.stdout.rsplit("\n", 1)
    return int(code), body


def test_health(world):
    assert get(world, "/livez") == (200, "ok\n")
    assert get(world, "/readyz") == (200, "ready\n")
    assert get(world, "/nothing")[0] == 404
    assert get(world, "/../../etc/passwd", "--path-as-is")[0] in (400, 404)


def test_health_is_https_only(world):
    r = subprocess.run(["curl", "-s", "--max-time", "5", "http://127.0.0.1:%d/livez" %
                        world.gateway.ports["https"]], capture_output=True, text=True, timeout=20)
    assert "ok\n" != r.stdout


def metrics(world):
    code, text = get(world, "/metrics")
    assert code == 200
    values = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) [a-z_:][a-z0-9_:]* .+", line), line
        elif line:
            m = re.match(r'([a-z_:][a-z0-9_:]*)(\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? (\S+)$', line)
            assert m, line
            values[m.group(1) + (m.group(2) or "")] = float(m.group(3))
    return text, values


def test_metrics(world):
    text, before = metrics(world)
    typed = set(re.findall(r"# TYPE (\S+)", text))
    untyped = [n for n in before if n.split("{")[0] not in typed
               and re.sub(r"_(bucket|sum|count)$", "", n.split("{")[0]) not in typed]
    assert untyped == []
    assert all(n.startswith("postseal_") for n in before)
    assert len(before) < 500, "bounded labels"
    id = world.send("a@inside.test", "b@good.test", SUBJECT, MARK)
    world.gateway.wait_event(id, "done")
    _, after = metrics(world)
    for name in ("received", "delivered", "scanned"):
        key = "postseal_%s_total" % name
        assert after[key] == before[key] + 1, name
    assert after["postseal_queue_messages"] == 2
    assert "inside.test" not in text and id not in text


def test_status_agrees(world):
    s = world.gateway.ctl_json("status")[0]
    _, m = metrics(world)
    assert s["queue"]["messages"] == m["postseal_queue_messages"] == 2
    assert s["queue"]["encrypt"] == 1
    assert s["since_start"]["bounced"] == m["postseal_bounced_total"] == 1
    assert s["since_start"]["deferred"] == 2
    text = world.gateway.ctl("status").stdout
    assert "2 messages" in text and "accepting mail" in text


def test_nothing_secret_on_disk_in_clear(world):
    """The database and event files hold no body; subjects only where tracking needs them."""
    for base, _, names in os.walk(world.gateway.data):
        for n in names:
            if not os.path.isfile(os.path.join(base, n)):
                continue  # sockets
            with open(os.path.join(base, n), "rb") as f:
                data = f.read()
            assert MARK.encode() not in data, (base, n)
            assert CARD.encode() not in data, (base, n)
            if os.path.basename(base) != "ca" and not n.endswith(".crt"):  # certificates are public
                assert os.stat(os.path.join(base, n)).st_mode & 0o077 == 0, (base, n)
