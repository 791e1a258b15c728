"""Policies in the mail path: quarantine and what can be done with it, monitor mode, failed scans, deploy (K, F7-F9, Q30)."""
import base64
import os
import signal
import threading

import pytest
from conftest import CARD
from postseal_lab.gateway import mail, wait_for

POLICIES = {
    "phrases.conf": "[phrase project-x]\ntext = Project X\n\n[phrase wrap]\ntext = Project Y\n",
    "policies/hold.conf": "[policy]\ndirection = outbound\n\n[rule x]\n"
                          "condition = phrase:project-x at least 1\n"
                          "action = quarantine severity=high\n",
    "policies/hold-encrypt.conf": "[policy]\ndirection = outbound\n\n[rule y]\n"
                                  "condition = phrase:wrap at least 1\n"
                                  "action = quarantine severity=high encrypt-on-release\n",
}


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("inside.test")
    w.partner("good.test")
    w.partner("none.test", tls="none", cert="none")
    return w.start(POLICIES)


def held(world, id, queue="data-security"):
    message = wait_for(lambda: world.gateway.queue("--id", id, "--queue", queue), 10, "held message")
    return message[0]


def act(world, verb, id, *options):
    return world.gateway.ctl("queue", verb, id, "--yes", *options)


def quarantine(world, to, phrase="Project X", subject="x"):
    world.clear()
    id = world.send("a@inside.test", to, subject, "about %s only" % phrase)
    m = held(world, id)
    assert not world.sinks["good.test"].mails and not world.sinks["none.test"].mails
    return id, m


def test_quarantine_is_visible(world):
    id, m = quarantine(world, "b@good.test")
    assert m["queue"] == "data-security" and m["next"] is None and m["reason"]
    assert [x["id"] for x in world.gateway.queue("--queue", "data-security")] == [id]
    assert [x["id"] for x in world.gateway.queue("--queue", "held")] == [id]
    decided = world.last(id, "decided")
    assert decided["action"] == "quarantine" and decided["severity"] == "high"
    assert decided["rules"][0]["policy"] == "hold" and decided["rules"][0]["rule"] == "x"
    show = world.gateway.ctl_json("queue", "show", id)[0]
    assert show["decision"]["rules"][0]["policy"] == "hold"
    act(world, "drop", id)


def test_release_in_clear(world):
    """Held without encrypt-on-release: released, it takes the ordinary route."""
    id, _ = quarantine(world, "b@none.test")
    act(world, "release", id)
    world.gateway.wait_event(id, "delivered")
    m = world.sinks["none.test"].wait(1)[0]
    assert m.tls is None and b"about Project X only" in m.data
    released = world.last(id, "released")
    assert released["by"] and released["action"] == "release"
    world.gateway.wait_event(id, "done")
    assert not [e for e in world.gateway.trace(id) if e["event"] == "held"][1:], "not held again"


def test_release_encrypted(world):
    id, _ = quarantine(world, "b@good.test", "Project Y")
    act(world, "release", id)
    world.gateway.wait_event(id, "delivered")
    assert world.sinks["good.test"].wait(1)[0].tls
    assert world.last(id, "delivered")["required"] == "encrypt"


def test_release_encrypted_never_clear(world):
    id, _ = quarantine(world, "b@none.test", "Project Y")
    act(world, "release", id)
    world.gateway.wait_event(id, "delayed")
    assert not world.sinks["none.test"].saw("MAIL")
    message = world.gateway.queue("--id", id)[0]
    assert message["encrypt"] and message["queue"] == "delayed"
    act(world, "drop", id)


def test_release_in_clear_is_explicit_and_tracked(world):
    id, _ = quarantine(world, "b@none.test", "Project Y")
    act(world, "release", id, "--in-clear")
    world.gateway.wait_event(id, "delivered")
    assert world.last(id, "released")["in_clear"] is True


def test_drop(world):
    id, _ = quarantine(world, "b@good.test")
    act(world, "drop", id)
    world.gateway.wait_event(id, "dropped")
    assert not world.gateway.queue("--id", id)
    assert world.last(id, "dropped")["by"]
    assert not world.sinks["inside.test"].mails, "no report"


def test_bounce(world):
    id, _ = quarantine(world, "b@good.test")
    act(world, "bounce", id)
    report = world.sinks["inside.test"].wait(1)[0]
    assert b"multipart/report" in report.data and b"b@good.test" in report.data
    wait_for(lambda: not world.gateway.queue("--id", id), 10, "end")
    assert not world.sinks["good.test"].mails


def test_bounce_of_what_leaves_encrypted_only(world):
    """A message held with encrypt-on-release is sealed in its report too."""
    id, _ = quarantine(world, "b@good.test", "Project Y", subject="Subject-to-hide")
    act(world, "bounce", id)
    report = world.sinks["inside.test"].wait(1)[0]
    assert b"about Project Y" not in report.data and b"Subject-to-hide" not in report.data


def test_admin_hold(world):
    world.clear()
    id = world.send("a@inside.test", "b@none.test", "x", "card " + CARD)
    world.gateway.wait_event(id, "delayed")
    wait_for(lambda: not world.gateway.queue("--id", id)[0]["active"], 10, "idle")
    act(world, "hold", id)
    m = wait_for(lambda: world.gateway.queue("--id", id, "--queue", "held"), 10, "held")[0]
    assert m["encrypt"]
    assert "not applicable" in world.gateway.ctl("queue", "retry", id, "--yes", check=False).stdout \
        or world.gateway.ctl("queue", "retry", id, "--yes", check=False).returncode
    act(world, "release", id, "--in-clear")
    wait_for(lambda: sum(e["event"] == "delayed" for e in world.gateway.trace(id)) == 2, 10,
             "second attempt")
    assert not world.sinks["none.test"].saw("MAIL"), "Encrypt stays Encrypt, whatever is said"
    act(world, "drop", id)


def test_queue_verbs_ask_first(world):
    ids = [quarantine(world, "b@good.test", subject="ask %d" % i)[0] for i in range(3)]
    r = world.gateway.ctl("queue", "drop", "--queue", "data-security", input="no\n", check=False)
    assert "3 messages" in r.stderr and r.returncode
    assert len(world.gateway.queue("--queue", "data-security")) == 3
    r = world.gateway.ctl("queue", "drop", "--queue", "data-security", input="yes\n")
    assert "3 of 3" in r.stdout
    assert not world.gateway.queue("--queue", "data-security")
    r = world.gateway.ctl("queue", "drop", "--yes", check=False)
    assert r.returncode, "without a filter nothing is done"
    assert all(world.last(i, "dropped") for i in ids)


@pytest.mark.parametrize("filter,matches", [
    (["--sender", "filter-sender@"], True), (["--sender", "somebody"], False),
    (["--recipient", "b@good"], True), (["--domain", "good.test"], True),
    (["--domain", "good.tes"], False), (["--older", "1"], False),
    (["--queue", "data-security", "--domain", "good.test"], True),
    (["--queue", "delayed"], False)])
def test_queue_filters(world, filter, matches):
    world.clear()
    if not world.gateway.queue("--sender", "filter-sender@inside.test"):
        id = world.send("filter-sender@inside.test", "b@good.test", "f", "Project X")
        held(world, id)
    assert bool(world.gateway.queue(*filter)) == matches


def test_end_of_filters(world):
    world.drop_all()


# ---- monitor ----

def test_monitor_mode(world):
    """Q30, A12: the incident is written, the message leaves unchanged and not encrypted."""
    world.clear()
    world.deploy(POLICIES, dlp__outbound="monitor")
    try:
        text = mail("a@inside.test", "b@none.test", "m", "card %s and Project X" % CARD)
        id = world.gateway.send("a@inside.test", "b@none.test", text)
        world.gateway.wait_event(id, "delivered")
        m = world.sinks["none.test"].wait(1)[0]
        assert m.tls is None and m.data.endswith(text.replace("\n", "\r\n").encode())
        d = world.last(id, "decided")
        assert d["monitor"] and d["action"] == "permit" and d["wanted"] == "quarantine"
        assert {r["policy"] for r in d["rules"]} == {"hold", "pci-card-numbers"}
    finally:
        world.deploy(POLICIES, dlp__outbound="enforce")


# ---- deploy ----

def test_undeployed_edit_has_no_effect(world):
    """Q30, K5."""
    world.clear()
    g = world.gateway
    tree = os.path.join(g.folder, "edit")
    g.ctl("settings", "export", tree)
    with open(os.path.join(tree, "policies", "hold.conf")) as f:
        text = f.read()
    with open(os.path.join(tree, "policies", "hold.conf"), "w") as f:
        f.write(text.replace("enabled = yes", "enabled = no", 1))
    before = g.ctl_json("status")[0]["revision"]
    r = g.ctl("settings", "apply", tree, "--plan")
    assert "enabled" in r.stdout
    g.ctl("settings", "apply", tree)
    id = world.send("a@inside.test", "b@good.test", "x", "Project X")
    first = held(world, id)["id"]
    g.ctl("settings", "deploy", "--comment", "hold off")
    id = world.send("a@inside.test", "b@good.test", "x", "Project X")
    g.wait_event(id, "delivered")
    assert g.wait_event(id, "decided")[0]["revision"] == before + 1
    assert held(world, first), "what was decided stays decided"
    g.ctl("settings", "rollback", str(before))
    id = world.send("a@inside.test", "b@good.test", "x", "Project X")
    held(world, id)
    assert g.wait_event(id, "decided")[0]["revision"] == before + 2
    history = g.ctl_json("settings", "history")[0]["revisions"]
    active = [r for r in history if r["active"]]
    assert [r["revision"] for r in active] == [before + 2]
    assert "rollback to %d" % before in active[0]["comment"]
    assert any(r["comment"] == "hold off" for r in history)
    audit = [(a["action"], a["element"]) for a in g.ctl_json("audit", "list")]
    assert ("rollback", "revision %d" % (before + 2)) in audit
    assert ("deploy", "revision %d" % (before + 1)) in audit
    world.drop_all()


# ---- failed scans ----

def nested(depth):
    text = "Content-Type: text/plain\n\nplain\n"
    for i in range(depth):
        text = ("Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n%s\n--b%d--\n" %
                (i, i, text, i))
    return "From: a@inside.test\nSubject: nested\nMIME-Version: 1.0\n" + text


@pytest.mark.parametrize("what,settings,message", [
    ("depth", {"content__max_depth": 5}, nested(20)),
    ("default depth", {}, nested(80)),
    ("parts", {"content__max_parts": 3},
     "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
     "--b\n\npart\n" * 20 + "--b--\n"),
    ("text", {"content__max_text_kb": 64}, "Subject: long\n\n" + "some words here\n" * 9000),
], ids=lambda x: x if isinstance(x, str) and len(x) < 20 else "")
def test_limits_fail_the_scan(world, what, settings, message):
    """F9: what could not be scanned whole is held in a visible exception queue; never clean."""
    world.clear()
    world.deploy(POLICIES, **settings)
    try:
        id = world.gateway.send("a@inside.test", "b@good.test", message)
        m = held(world, id, "exception")
        assert m["reason"]
        world.gateway.wait_event(id, "held")
        events = [e["event"] for e in world.gateway.trace(id)]
        assert "scan-failed" in events and "delivered" not in events
        assert not world.sinks["good.test"].mails
        act(world, "release", id)
        world.gateway.wait_event(id, "delivered")
        assert world.sinks["good.test"].wait(1)[0].tls
        assert world.last(id, "delivered")["required"] == "encrypt", "released, it goes encrypted"
    finally:
        world.deploy(POLICIES, content__max_depth=50, content__max_parts=5000,
                     content__max_text_kb=65536)


def test_scan_failure_encrypts_when_told(world):
    world.clear()
    off = {k: v.replace("[policy]", "[policy]\nenabled = no") for k, v in POLICIES.items()}
    world.deploy(off, content__max_depth=5, exceptions__on_scan_failure="encrypt")
    try:
        id = world.gateway.send("a@inside.test", "b@none.test", nested(20))
        world.gateway.wait_event(id, "delayed")
        assert world.gateway.queue("--id", id)[0]["encrypt"]
        assert not world.sinks["none.test"].saw("MAIL")
        id = world.gateway.send("a@inside.test", "b@good.test", nested(20))
        world.gateway.wait_event(id, "delivered")
        assert world.sinks["good.test"].mails[0].tls
    finally:
        world.deploy(POLICIES, content__max_depth=50, exceptions__on_scan_failure="hold")
        world.drop_all()


class Killer(threading.Thread):
    """Stops each content worker as soon as it is there, and kills it a moment later, over its job."""

    def __init__(self, gateway):
        super().__init__(daemon=True)
        pid = gateway.process.pid
        self.children = "/proc/%d/task/%d/children" % (pid, pid)
        self.stopped, self.over, self.killed = threading.Event(), threading.Event(), set()

    def workers(self):
        with open(self.children) as f:
            pids = [int(p) for p in f.read().split()]
        for pid in pids:
            try:
                with open("/proc/%d/comm" % pid) as f:
                    if "content" in f.read():
                        yield pid
            except (FileNotFoundError, ProcessLookupError):
                pass

    def run(self):
        while not self.over.wait(0.0005):
            for pid in set(self.workers()) - self.killed:
                try:
                    os.kill(pid, signal.SIGSTOP)
                    self.stopped.set()
                    self.over.wait(0.4)
                    self.killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def test_content_killed_during_scans(world):
    """A worker that dies with the message twice: a failed scan, never a lost mail and never clean."""
    world.clear()
    killer = Killer(world.gateway)
    killer.start()
    try:
        assert killer.stopped.wait(5)
        id = world.send("a@inside.test", "b@good.test", "kill", "harmless words")
        m = wait_for(lambda: world.gateway.queue("--id", id, "--queue", "exception"), 60,
                     "message in the exception queue")[0]
    finally:
        killer.over.set()
        killer.join()
    assert len(killer.killed) >= 2
    assert m["reason"]
    assert not world.sinks["good.test"].mails
    status = world.gateway.ctl_json("status")[0]["since_start"]
    assert status["scan_failed"] >= 1 and status["content_killed"] >= 2
    next_id = world.send("a@inside.test", "b@good.test", "after", "harmless words")
    world.gateway.wait_event(next_id, "delivered", 60)
    act(world, "release", id)
    world.gateway.wait_event(id, "delivered")


# ---- what the scan sees ----

def b64(text):
    return base64.encodebytes(text.encode()).decode()


SEEN = {
    "text": "Content-Type: text/plain\n\ncard %s\n" % CARD,
    "no separators": "\ncard 4111111111111111 end\n",
    "dashes": "\n4111-1111-1111-1111\n",
    "base64": "Content-Transfer-Encoding: base64\n\n" + b64("card " + CARD),
    "quoted-printable": "Content-Transfer-Encoding: quoted-printable\n\n=34111 1111 =\n1111 1111\n",
    "html": "Content-Type: text/html\n\n<p>4111 <b>1111</b> 1111&nbsp;1111</p>\n",
    "utf-16": "Content-Type: text/plain; charset=utf-16be\nContent-Transfer-Encoding: base64\n\n",
    "attachment": "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhi\n--b\n"
                  "Content-Type: text/csv\nContent-Disposition: attachment; filename=a.csv\n\n"
                  "n,4111111111111111\n--b--\n",
    "forwarded": "Content-Type: message/rfc822\n\nSubject: inner\n\ncard %s\n" % CARD,
    "ssn": "\nssn 536-90-4399\n",
}

SEEN["utf-16"] += base64.encodebytes(("card " + CARD).encode("utf-16-be")).decode()


@pytest.mark.parametrize("name", SEEN)
def test_seen_and_encrypted(world, name):
    world.clear()
    id = world.gateway.send("a@inside.test", "b@good.test",
                            "From: a@inside.test\nSubject: s\nMIME-Version: 1.0\n" + SEEN[name])
    assert world.gateway.wait_event(id, "decided")[0]["detail"]["encrypt"], name
    world.gateway.wait_event(id, "done")
    assert world.sinks["good.test"].mails[0].tls


def test_subject_is_seen(world):
    id = world.gateway.send("a@inside.test", "b@good.test", "Subject: %s\n\nhi\n" % CARD)
    assert world.gateway.wait_event(id, "decided")[0]["detail"]["encrypt"]


@pytest.mark.parametrize("body", ["4111 1111 1111 1112", "219-00-9999", "666-12-3456", "nothing",
                                  "phone 0049 89 1234567", "1234567890123"])
def test_not_taken_for_secret(world, body):
    id = world.send("a@inside.test", "b@good.test", "s", body)
    assert not world.gateway.wait_event(id, "decided")[0]["detail"]["encrypt"]
