"""Processes that stand still for a while (SIGSTOP), and a store that is away: mail that was accepted goes
its way, tracking arrives later and once, nothing stays stuck."""
import os
import signal
import threading

import pytest

from robust import CARD, Lab, Load, mail, wait_for

ROLES = ["smtp0", "queue", "content0", "store", "keys", "lookup", "web"]
STOPPED_S = 2.5


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("stall")).start()
    yield lab
    for role in ROLES:
        if lab.process(role):
            os.kill(lab.process(role), signal.SIGCONT)
    lab.close()


def pause(seconds):
    threading.Event().wait(seconds)


@pytest.mark.parametrize("role", ROLES)
def test_a_process_stands_still(lab, role):
    gateway = lab.gateway
    load = Load(gateway, CARD, senders=3, pause=0.02)
    try:
        wait_for(lambda: load.count() >= 20, 60, "load")
        pid = lab.process(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            pause(STOPPED_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        before = load.count()
        wait_for(lambda: load.count() >= before + 20, 30, "mail accepted afterwards")
    finally:
        load.stop()
    wait_for(lambda: set(load.acked) <= set(lab.subjects("good")), 60, "all deliveries")
    wait_for(lambda: not gateway.queue(), 30, "empty queue")
    arrived = lab.subjects("good")
    assert all(arrived[s] == 1 for s in load.acked)
    assert lab.process(role) == pid, "a pause of some seconds is no reason to end a process"
    lab.sinks["good"].mails.clear()


def test_mail_flows_while_the_store_is_away(lab):
    gateway = lab.gateway
    store = lab.process("store")
    os.kill(store, signal.SIGSTOP)
    try:
        load = Load(gateway, "hello", senders=3, pause=0.02)
        wait_for(lambda: load.count() >= 150, 60, "mail while the store is away")
        load.stop()
        wait_for(lambda: set(load.acked) <= set(lab.subjects("good")), 60, "deliveries meanwhile")
        os.kill(store, signal.SIGKILL)  # events wait in files for the next one
    finally:
        os.kill(store, signal.SIGCONT)
    wait_for(lambda: lab.process("store") not in (None, store), 20, "new store")
    for subject, (id, _) in load.acked.items():
        gateway.wait_event(id, "done", 30)
        events = [e["event"] for e in gateway.trace(id)]
        for once in ("received", "decided", "delivered", "done"):
            assert events.count(once) == 1, (subject, events)
    lab.sinks["good"].mails.clear()


def test_each_event_once_though_the_store_dies_under_load(lab):
    gateway = lab.gateway
    load = Load(gateway, "hello", senders=3, pause=0.15)
    try:
        for _ in range(3):
            n = load.count()
            wait_for(lambda: load.count() >= n + 20, 60, "load")
            old = wait_for(lambda: lab.process("store"), 20, "store")
            os.kill(old, signal.SIGKILL)
            wait_for(lambda: lab.process("store") not in (None, old), 20, "new store")
    finally:
        load.stop()
    for subject, (id, _) in load.acked.items():
        gateway.wait_event(id, "done", 30)
        events = [e["event"] for e in gateway.trace(id)]
        assert events.count("received") == events.count("delivered") == events.count("done") == 1, (
            subject, events)


def stalled_scan(lab, kill_times):
    """A message whose content worker is killed over it, again and again."""
    gateway = lab.gateway
    id = None
    for _ in range(kill_times):
        worker = wait_for(lambda: lab.process("content0"), 20, "content worker")
        os.kill(worker, signal.SIGSTOP)
        if id is None:
            id = gateway.send("a@inside.test", "b@good.test",
                              mail("a@inside.test", "b@good.test", "poison", CARD))
        wait_for(lambda: gateway.ctl_json("status")[0]["workers"]["content"], 20, "worker")
        wait_for(lambda: any(j.get("active") for j in gateway.queue("--id", id)), 20, "job")
        pause(0.3)  # the job is in the pipe of the stopped worker
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: lab.process("content0") not in (None, worker), 20, "new worker")
    return id


def test_a_message_that_kills_one_worker_is_scanned_by_the_next(lab):
    id = stalled_scan(lab, 1)
    lab.gateway.wait_event(id, "delivered")
    lab.sinks["good"].mails.clear()


def test_a_large_scan_that_is_killed_twice_is_held(lab):
    gateway = lab.gateway
    line = "word " * 15 + "\n"
    big = mail("a@inside.test", "b@good.test", "large", line * 100000)  # 7.5 MB
    worker = wait_for(lambda: lab.process("content0"), 20, "content worker")
    os.kill(worker, signal.SIGSTOP)
    id = gateway.send("a@inside.test", "b@good.test", big)
    pause(0.3)
    for _ in range(2):
        worker = wait_for(lambda: lab.process("content0"), 20, "content worker")
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: lab.process("content0") not in (None, worker), 20, "new worker")
        held = [m for m in gateway.queue("--id", id) if m["queue"] == "exception"]
        if held:
            break
        os.kill(wait_for(lambda: lab.process("content0"), 20, "worker"), signal.SIGSTOP)
        pause(0.3)
    os.kill(wait_for(lambda: lab.process("content0"), 20, "worker"), signal.SIGCONT)
    state = wait_for(lambda: [m for m in gateway.queue("--id", id) if m["queue"] == "exception"]
                     or lab.subjects("good")["large"], 40, "end of the scan")
    if isinstance(state, list):  # else the second worker was through before it could be stopped
        assert gateway.wait_event(id, "held")
        assert lab.subjects("good")["large"] == 0
        gateway.ctl("queue", "drop", "--id", id, "--yes")
