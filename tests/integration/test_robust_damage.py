"""A damaged byte in the spool: an alarm, the other messages delivered, nothing wrong ever sent."""
import collections
import os
import re

import pytest

from robust import Lab, mail, wait_for

MESSAGES = 12


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("damage")).start()
    yield lab
    lab.close()


def records(gateway):
    """[(good, segment, offset, kind, id)] of what the spool holds."""
    found = []
    for line in gateway.ctl("spool", "verify", "--json", check=False).stdout.splitlines():
        m = re.match(r"(good|BAD) (\S+):(\d+) (\S+) (\S+) (\d+) bytes", line)
        if m:
            found.append((m[1] == "good", m[2], int(m[3]), m[4], m[5], int(m[6])))
    return found


def flip(gateway, record, into):
    _, segment, offset, _, _, _ = record
    with open(os.path.join(gateway.data, "spool", segment), "r+b") as f:
        f.seek(offset + into)
        byte = f.read(1)
        f.seek(offset + into)
        f.write(bytes([byte[0] ^ 0x40]))


@pytest.mark.parametrize("kind", ["body", "envelope", "state"])
def test_damage(lab, kind):
    gateway = lab.gateway
    lab.sinks["slow"].script["RCPT"] = "451 4.2.1 come back later"
    lab.sinks["slow"].mails.clear()
    ids = {}
    for i in range(MESSAGES):
        subject = "%s-%d" % (kind, i)
        ids[subject] = gateway.send("a@inside.test", "b@slow.test",
                                    mail("a@inside.test", "b@slow.test", subject, "text %d" % i))
    for id in ids.values():
        gateway.wait_event(id, "delayed")
    gateway.stop()
    mine = [r for r in records(gateway) if r[3] == kind and r[4] in ids.values()]
    assert all(r[0] for r in mine) and len(mine) >= MESSAGES, mine
    victim = mine[MESSAGES // 2]
    flip(gateway, victim, 48 + min(20, victim[5] // 2))
    checked = gateway.ctl("spool", "verify", check=False)
    assert checked.returncode != 0 and "BAD" in checked.stdout

    said = len(gateway.log_text())
    gateway.start(60)
    lab.let_through("slow")
    gateway.ctl("queue", "retry", "--queue", "delayed", "--yes")
    hurt = [s for s, id in ids.items() if id == victim[4]]
    wait_for(lambda: set(ids) - set(hurt) <= set(lab.subjects("slow")), 30, "the other messages")
    wait_for(lambda: not [m for m in gateway.queue() if m["queue"] not in ("exception",)], 20,
             "end of all deliveries")
    assert set(lab.subjects("slow").values()) == {1}
    for m in lab.sinks["slow"].mails:
        number = m.header("Subject").rsplit("-", 1)[1]
        assert b"\r\ntext %s\r\n" % number.encode() in m.data, "a wrong body was sent"
    if kind != "state":  # without its state a message is scanned, decided and delivered anew
        assert not set(hurt) & set(lab.subjects("slow"))
    assert re.search("spool.*event=alarm", gateway.log_text()[said:])
    kinds = collections.Counter(m["queue"] for m in gateway.queue())
    if kind == "body":
        assert kinds["exception"] == 1
        gateway.ctl("queue", "drop", "--queue", "exception", "--yes")
