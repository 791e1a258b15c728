"""SIGKILL of each process in turn under load: nothing acknowledged is lost, nothing whose delivery was
recorded is sent again, and the other processes carry on."""
import collections
import os
import signal
import smtplib
import threading

import pytest

from postseal_lab.ca import CA
from postseal_lab.dns import DNS
from postseal_lab.gateway import Gateway, mail, wait_for
from postseal_lab.sink import Sink

SENDERS = 4
ROLES = ["smtp0", "queue", "content0", "store", "keys", "lookup", "web"]


class Load:
    """Threads that send numbered messages until stopped; remembers what was acknowledged."""

    def __init__(self, gateway, body):
        self.gateway, self.body = gateway, body
        self.acked, self.refused = {}, collections.Counter()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(SENDERS)]
        for t in self.threads:
            t.start()

    def _run(self, who):
        number = 0
        while not self.stopping.is_set():
            try:
                client = self.gateway.client()
                for _ in range(10):
                    number += 1
                    self._one(client, "load-%d-%d" % (who, number))
                    if self.stopping.is_set():
                        break
                client.quit()
            except (OSError, smtplib.SMTPException):
                self.stopping.wait(0.05)

    def _one(self, client, subject):
        text = mail("a@inside.test", "b@good.test", subject, self.body)
        client.mail("a@inside.test")
        client.rcpt("b@good.test")
        code, answer = client.data(text.replace("\n", "\r\n").encode())
        with self.lock:
            if code == 250:
                self.acked[subject] = answer.decode().split("queued as ")[1].strip()
            else:
                self.refused[code] += 1
        if code == 421:
            raise smtplib.SMTPServerDisconnected("421")

    def count(self):
        with self.lock:
            return len(self.acked)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    ca = CA(str(tmp_path_factory.mktemp("ca")))
    dns = DNS()
    cert, key = ca.issue("good", ["mx.good.test"])
    sink = Sink("127.0.0.2", 0, cert=cert, key=key, hostname="mx.good.test")
    dns.mail_host("good.test", "127.0.0.2")
    gateway = Gateway(ca=ca.path, dns=dns)
    gateway.start(60)
    gateway.world(sink.port)
    yield gateway, sink
    gateway.close()
    sink.close()
    dns.close()


def arrivals(sink):
    with sink.lock:
        return collections.Counter(m.header("Subject") for m in sink.mails)


def others_than(gateway, role):
    """Processes that must live on; a content worker ends by itself after a number of jobs."""
    return {k: v for k, v in gateway.children().items()
            if k != "ps-" + role and not k.startswith("ps-content")}


def process(gateway, role):
    return gateway.children().get("ps-" + role)


@pytest.mark.parametrize("role", ROLES)
def test_kill_under_load(lab, role):
    gateway, sink = lab
    others = others_than(gateway, role)
    load = Load(gateway, "Card 4111 1111 1111 1111")
    try:
        for round in range(2):
            wait_for(lambda: load.count() >= 25 * (2 * round + 1), 60, "load")
            old = wait_for(lambda: process(gateway, role), 20, role)
            os.kill(old, signal.SIGKILL)
            wait_for(lambda: process(gateway, role) not in (None, old), 20, "new " + role)
            before = load.count()
            wait_for(lambda: load.count() >= before + 20, 30, "mail accepted after the restart")
    finally:
        load.stop()
    wait_for(lambda: not (set(load.acked) - set(arrivals(sink))), 60,
             "delivery of all that was acknowledged")
    wait_for(lambda: not gateway.queue(), 30, "empty queue")
    assert others_than(gateway, role) == others, "another process was restarted too"
    twice = [s for s, n in arrivals(sink).items() if n > 1 and s in load.acked]
    for subject in twice:  # a worker died after the final dot, before it could tell the result
        events = [e for e in gateway.trace(load.acked[subject]) if e["event"] == "delivered"]
        assert role == "smtp0" and len(events) == 1, (subject, events)
    assert not any(not m.tls for m in sink.mails), "an Encrypt-marked message left in clear"
    sink.mails.clear()


def test_kill_of_the_supervisor_ends_the_children_and_loses_nothing(lab):
    gateway, sink = lab
    load = Load(gateway, "hello")
    wait_for(lambda: load.count() >= 30, 60, "load")
    children = list(gateway.children().values())
    gateway.kill()
    load.stop()
    wait_for(lambda: not any(os.path.exists("/proc/%d" % p) for p in children), 10,
             "end of the children")
    gateway.start(60)
    wait_for(lambda: not (set(load.acked) - set(arrivals(sink))), 60, "delivery of all")
    wait_for(lambda: not gateway.queue(), 30, "empty queue")
