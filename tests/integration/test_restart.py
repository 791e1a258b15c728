"""Stop and start: what waits survives with its mark, ids stay unique (Q5)."""
import pytest
from conftest import CARD
from postseal_lab.gateway import wait_for


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("inside.test")
    w.partner("none.test")
    w.partner("later.test", script={"RCPT": "451 4.2.1 busy"})
    w.sinks["none.test"].tls = "none"
    return w.start({"phrases.conf": "[phrase x]\ntext = Project X\n",
                    "policies/hold.conf": "[policy]\ndirection = outbound\n\n[rule x]\n"
                    "condition = phrase:x at least 1\naction = quarantine encrypt-on-release\n"})


@pytest.fixture(scope="module")
def sent(world):
    large = "many words in a large body\n" * 20000
    ids = {
        "secret": world.send("a@inside.test", "b@none.test", "secret", "card " + CARD),
        "secret-large": world.send("a@inside.test", "b@none.test", "secret", large + "card " + CARD),
        "plain": world.send("a@inside.test", "b@later.test", "plain", "hi"),
        "two": world.send("a@inside.test", ["b@later.test", "c@inside.test"], "two", "hi"),
        "held": world.send("a@inside.test", "b@none.test", "held", "about Project X"),
    }
    for name in ("secret", "secret-large", "plain", "two"):
        world.gateway.wait_event(ids[name], "delayed")
    world.gateway.wait_event(ids["held"], "held")
    wait_for(lambda: not any(m["active"] for m in world.gateway.queue()), 10, "idle queue")
    before = {m["id"]: m for m in world.gateway.queue()}
    history = world.gateway.ctl_json("settings", "history")[0]["revisions"]
    for _ in range(2):  # twice: a start after a start is a life of its own
        world.gateway.stop()
        assert world.gateway.process.returncode == 0
        world.gateway.start()
    return ids, before, history


def test_queue_is_the_same(world, sent):
    ids, before, history = sent
    after = {m["id"]: m for m in world.gateway.queue()}
    assert set(after) == set(before)
    for id, m in after.items():
        for key in ("queue", "sender", "subject", "size", "encrypt", "received", "parent"):
            assert m[key] == before[id][key], (key, m)
        assert [(r["address"], r["state"], r["attempts"]) for r in m["recipients"]] == \
            [(r["address"], r["state"], r["attempts"]) for r in before[id]["recipients"]]
    assert after[ids["secret"]]["encrypt"] and not after[ids["plain"]]["encrypt"]
    assert world.gateway.ctl_json("settings", "history")[0]["revisions"] == history


def test_next_attempt_is_kept(world, sent):
    ids, before, _ = sent
    after = {m["id"]: m for m in world.gateway.queue()}
    assert after[ids["plain"]]["next"] == before[ids["plain"]]["next"]


def test_encrypt_stays_encrypt(world, sent):
    """Q5: still no clear text after the restart, again and again."""
    ids = sent[0]
    for _ in range(3):
        attempts = world.gateway.queue("--id", ids["secret"])[0]["recipients"][0]["attempts"]
        world.gateway.ctl("queue", "retry", "--domain", "none.test", "--yes")
        wait_for(lambda: world.gateway.queue("--id", ids["secret"])[0]["recipients"][0]["attempts"] > attempts,
                 10, "attempt")
        wait_for(lambda: not any(m["active"] for m in world.gateway.queue()), 10, "idle queue")
    assert not world.sinks["none.test"].saw("MAIL")


def test_held_stays_held(world, sent):
    m = world.gateway.queue("--id", sent[0]["held"])[0]
    assert m["queue"] == "data-security"
    world.gateway.ctl("queue", "release", sent[0]["held"], "--yes")
    wait_for(lambda: world.gateway.queue("--id", sent[0]["held"])[0]["queue"] == "delayed", 10, "delayed")
    assert not world.sinks["none.test"].saw("MAIL")


def test_delivered_once_when_the_partner_is_well(world, sent):
    ids = sent[0]
    world.sinks["none.test"].tls = "good"
    world.sinks["later.test"].script.clear()
    world.gateway.ctl("queue", "retry", "--queue", "delayed", "--yes")
    wait_for(lambda: not world.gateway.queue(), 20, "empty queue")
    none, later = world.sinks["none.test"].mails, world.sinks["later.test"].mails
    assert len(none) == 3 and all(m.tls for m in none)
    assert len(later) == 2 and len(world.sinks["inside.test"].mails) == 1
    large = [m for m in none if len(m.data) > 400000]
    assert len(large) == 1 and large[0].data.count(b"many words in a large body\r\n") == 20000
    for id in ids.values():
        world.gateway.wait_event(id, "done")


def test_ids_are_unique_across_starts(world, sent):
    seen = set(sent[1])
    for _ in range(2):
        for i in range(10):
            id = world.send("a@inside.test", "b@inside.test", "unique %d" % i, "hi")
            assert id not in seen
            seen.add(id)
        world.gateway.stop()
        world.gateway.start()


def test_tls_identity_is_kept(world):
    """The certificate made at first start is presented after a restart too."""
    def fingerprint():
        with world.gateway.client() as c:
            return c.sock.getpeercert(binary_form=True)
    before = fingerprint()
    world.gateway.stop()
    world.gateway.start()
    assert fingerprint() == before


def test_timeline_goes_on(world, sent):
    events = [e["event"] for e in world.gateway.trace(sent[0]["secret"])]
    assert events[0] == "received" and events[-1] == "done" and events.count("delivered") == 1
    assert events.count("delayed") >= 4
