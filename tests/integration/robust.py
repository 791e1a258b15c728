"""What the robustness tests share: a gateway with its partners, load, and the balance of what was accepted."""
import collections
import ctypes
import os
import smtplib
import subprocess
import threading

from postseal_lab.ca import CA
from postseal_lab.dns import DNS
from postseal_lab.gateway import Gateway, mail, wait_for
from postseal_lab.sink import Sink

CARD = "Card 4111 1111 1111 1111"


class Lab:
    """good.test takes mail, slow.test defers it, bad.test refuses the recipient, inside.test takes
    what comes back."""

    def __init__(self, tmp, folder=None, **options):
        self.ca = CA(str(tmp / "ca"))
        self.dns = DNS()
        self.sinks = {}
        self._sink("good", "127.0.0.2", 0)
        port = self.sinks["good"].port
        self._sink("slow", "127.0.0.3", port, {"RCPT": "451 4.2.1 come back later"})
        self._sink("bad", "127.0.0.4", port, {"RCPT": "550 5.1.1 nobody of that name"})
        self._sink("inside", "127.0.0.5", port)
        self.port = port
        self.gateway = Gateway(ca=self.ca.path, dns=self.dns, folder=folder, **options)

    def _sink(self, name, ip, port, script=None):
        host = "mx.%s.test" % name
        cert, key = self.ca.issue(name, [host])
        self.sinks[name] = Sink(ip, port, cert=cert, key=key, hostname=host, script=script)
        self.dns.mail_host(name + ".test", ip)

    def start(self, files=None, **keys):
        try:
            self.gateway.start(60)
            self.gateway.world(self.port, **keys)
            if files:
                self.gateway.settings(files)
        except BaseException:
            self.close()
            raise
        return self

    def let_through(self, name):
        """The server has changed its mind."""
        self.sinks[name].script.clear()

    def subjects(self, name):
        sink = self.sinks[name]
        with sink.lock:
            return collections.Counter(m.header("Subject") for m in sink.mails)

    def process(self, role):
        return self.gateway.children().get("ps-" + role)

    def close(self):
        self.gateway.close()
        for s in self.sinks.values():
            s.close()
        self.dns.close()


class Load:
    """Threads that send numbered messages, to the domains in turn, until stopped; remembers what was
    acknowledged: {subject: (queue id, domain)}."""

    def __init__(self, gateway, body, domains=("good",), senders=4, pause=0.0, name="load"):
        self.gateway, self.body, self.domains = gateway, body, domains
        self.pause, self.name = pause, name
        self.acked, self.refused = {}, collections.Counter()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(senders)]
        for t in self.threads:
            t.start()

    def _run(self, who):
        number = 0
        while not self.stopping.is_set():
            try:
                client = self.gateway.client(tls=False)
                for _ in range(20):
                    number += 1
                    self._one(client, "%s-%d-%d" % (self.name, who, number),
                              self.domains[(number + who) % len(self.domains)])
                    if self.stopping.wait(self.pause):
                        break
                client.quit()
            except (OSError, smtplib.SMTPException):
                self.stopping.wait(0.05)

    def _one(self, client, subject, domain):
        to = "b@%s.test" % domain
        text = mail("a@inside.test", to, subject, self.body).replace("\n", "\r\n").encode()
        code, answer = client.mail("a@inside.test", ["SIZE=%d" % len(text)])
        if code == 250:
            code, answer = client.rcpt(to)
        if code == 250:
            code, answer = client.data(text)
        with self.lock:
            if code == 250:
                self.acked[subject] = (answer.decode().split("queued as ")[1].strip(), domain)
            else:
                self.refused["%d %s" % (code, answer.decode().split(" ")[0])] += 1
        if code != 250:
            client.rset()
            self.stopping.wait(0.02)
        if code == 421:
            raise smtplib.SMTPServerDisconnected("421")

    def count(self):
        with self.lock:
            return len(self.acked)

    def of(self, domain):
        with self.lock:
            return {s: id for s, (id, d) in self.acked.items() if d == domain}

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()


def ends(gateway, id):
    """The events that end a message's way, in order."""
    return [e["event"] for e in gateway.trace(id)
            if e["event"] in ("delivered", "bounced", "expired", "dropped", "held") and e["id"] == id]


def private_mounts():
    """What is mounted from here on is seen by this process and its children only, and ends with them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def mount_small(path, megabytes):
    os.makedirs(path, mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm,mode=0700" % megabytes, "none", path],
                   check=True)


__all__ = ["CARD", "Lab", "Load", "ends", "mail", "mount_small", "private_mounts", "wait_for"]
