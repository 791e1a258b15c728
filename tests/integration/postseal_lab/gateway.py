"""A gateway under test: its own folder, bootstrap file, processes, and postsealctl."""
import json
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading
import time

BUILD = os.environ.get("POSTSEAL_BUILD") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "build")


def free_port(ip="127.0.0.1"):
    with socket.socket() as s:
        s.bind((ip, 0))
        return s.getsockname()[1]


def wait_for(condition, timeout=20, what="condition"):
    """Polls a condition of another process; the only waiting in these tests."""
    end = time.monotonic() + timeout
    event = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("no %s after %d s" % (what, timeout))
        event.wait(0.05)


class Gateway:
    def __init__(self, *, workers=1, sandbox="require", folder=None, ca=None, dns=None,
                 hostname="gateway.lab.test", log_level="info", log_format="text"):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="postseal-")
        self.data = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "gateway.log")
        self.ports = {k: free_port() for k in ("smtp", "submission", "submissions", "https")}
        self.dns = dns
        self.process = None
        self.config = os.path.join(self.folder, "postseald.conf")
        os.makedirs(self.data, mode=0o700, exist_ok=True)
        if ca:
            os.makedirs(os.path.join(self.data, "ca"), exist_ok=True)
            shutil.copy(ca, os.path.join(self.data, "ca", "lab.pem"))
        user = 'user = "root"\n' if os.getuid() == 0 else ""
        with open(self.config, "w") as f:
            f.write('hostname = "%s"\ndata_dir = "%s"\n%sworkers = %d\nsandbox = %s\n'
                    "log { format = %s  level = %s }\nlisten {\n" % (
                        hostname, self.data, user, workers, sandbox, log_format, log_level))
            for kind, port in self.ports.items():
                f.write('    %s = {"127.0.0.1:%d"}\n' % (kind, port))
            f.write("}\n")

    # ---- life ----
    def start(self, timeout=30):
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen([os.path.join(BUILD, "postseald"), "--config", self.config],
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=30):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError("postseald ended with %d:\n%s" % (
                    self.process.returncode, self.log_text()[-4000:]))
            r = self.ctl("status", "--json", check=False, quiet=True)
            if r.returncode:
                return False
            s = json.loads(r.stdout)
            return s["accepting"] and s["workers"]["smtp"] and s["workers"]["store"] and \
                s["workers"]["content"] and self._greets()
        wait_for(ready, timeout, "ready gateway")

    def _greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.ports["smtp"]), 2) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def children(self):
        """{title: pid} ("ps-queue", "ps-smtp0") of the processes of this gateway."""
        out = {}
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                with open("/proc/%s/stat" % pid) as f:
                    text = f.read()
            except OSError:
                continue
            name = text[text.index("(") + 1:text.rindex(")")]
            fields = text[text.rindex(")") + 2:].split()
            if int(fields[1]) == self.process.pid and fields[0] != "Z":
                out[name] = int(pid)
        return out

    def close(self):
        self.stop()
        if self.own_folder and not os.environ.get("POSTSEAL_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def log_text(self):
        try:
            with open(self.log_path, errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    # ---- administration ----
    def ctl(self, *args, check=True, quiet=False, input=None):
        r = subprocess.run([os.path.join(BUILD, "postsealctl"), "--data", self.data, *args],
                           capture_output=True, text=True, timeout=150, input=input)
        if check and r.returncode:
            raise AssertionError("postsealctl %s: exit %d\n%s%s" % (
                " ".join(args), r.returncode, r.stdout, r.stderr))
        return r

    def ctl_json(self, *args):
        lines = [json.loads(x) for x in self.ctl(*args, "--json").stdout.splitlines() if x]
        return lines

    def settings(self, files=None, comment="test", **keys):
        """Deploys changes: files = {path: text}; keys "delivery.retry_interval_min" = value."""
        tree = os.path.join(self.folder, "tree")
        shutil.rmtree(tree, ignore_errors=True)
        self.ctl("settings", "export", tree)
        for path, text in (files or {}).items():
            full = os.path.join(tree, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w") as f:
                f.write(text)
        for name, value in keys.items():
            file, key = name.split("__", 1)
            path = os.path.join(tree, file + ".conf")
            with open(path) as f:
                lines = f.read().splitlines()
            lines = ["%s = %s" % (key, value) if x.split("=")[0].strip() == key else x
                     for x in lines]
            with open(path, "w") as f:
                f.write("\n".join(lines) + "\n")
        self.ctl("settings", "apply", tree)
        return self.ctl("settings", "deploy", "--comment", comment)

    def world(self, port, trusted=("127.0.0.1",), protected=("inside.test",), **keys):
        """Usual test settings: DNS stub, partner port for MX delivery, trusted loopback."""
        keys.setdefault("dns__servers", self.dns.address)
        keys.setdefault("dns__timeout_ms", 5000)  # the stub may wait for a busy machine
        routes = ("[route default]\ndeliver = mx\nport = %d\ntls = opportunistic\n" % port)
        return self.settings({"routes.conf": routes,
                              "groups/ip/trusted.txt": "\n".join(trusted) + "\n",
                              "groups/domain/protected.txt": "\n".join(protected) + "\n"}, **keys)

    def queue(self, *filters):
        return [m for m in self.ctl_json("queue", "list", *filters) if "id" in m]

    def trace(self, id):
        r = self.ctl("message", "trace", id, "--json", check=False)
        return [json.loads(x) for x in r.stdout.splitlines() if x] if r.returncode == 0 else []

    def wait_event(self, id, event, timeout=20):
        def found():
            return [e for e in self.trace(id) if e.get("event") == event]
        return wait_for(found, timeout, "event %s of %s" % (event, id))

    # ---- sending ----
    def client(self, kind="smtp", tls=True, source=None):
        """source: loopback address to come from; only 127.0.0.1 is trusted in the usual settings."""
        context = ssl._create_unverified_context()
        source = (source, 0) if source else None
        if kind == "submissions":
            return smtplib.SMTP_SSL("127.0.0.1", self.ports[kind], timeout=30, context=context,
                                    source_address=source)
        c = smtplib.SMTP("127.0.0.1", self.ports[kind], timeout=30, source_address=source)
        c.ehlo("client.lab.test")
        if tls:
            c.starttls(context=context)
            c.ehlo("client.lab.test")
        return c

    def send(self, sender, rcpts, message, *, kind="smtp", tls=True, options=(), rcpt_options=(),
             source=None):
        """Sends and returns the queue id."""
        if isinstance(rcpts, str):
            rcpts = [rcpts]
        if isinstance(message, str):
            message = message.replace("\r\n", "\n").replace("\n", "\r\n").encode()
        c = self.client(kind, tls, source)
        try:
            code, text = c.mail(sender, list(options))
            assert code == 250, (code, text)
            for r in rcpts:
                code, text = c.rcpt(r, list(rcpt_options))
                assert code == 250, (r, code, text)
            code, text = c.data(message)
            assert code == 250, (code, text)
            return text.decode().split("queued as ")[1].strip()
        finally:
            try:
                c.quit()
            except smtplib.SMTPException:
                pass


def mail(sender, to, subject, body, extra=""):
    return ("From: %s\nTo: %s\nSubject: %s\nDate: Tue, 24 Nov 2026 10:00:00 +0000\n"
            "Message-ID: <%s@lab.test>\n%s\n%s\n" % (
                sender, to, subject, abs(hash((subject, body, to))), extra, body))
