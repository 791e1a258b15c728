"""Mail servers of different virtue: each records what it was told, in order, and the mail it took."""
import socket
import ssl
import threading


class Mail:
    def __init__(self):
        self.sender = None
        self.rcpts = []
        self.data = b""
        self.tls = None
        self.mail_line = ""

    def header(self, name):
        for line in self.data.split(b"\r\n\r\n")[0].split(b"\r\n"):
            if line.lower().startswith(name.lower().encode() + b":"):
                return line.split(b":", 1)[1].strip().decode("utf-8", "replace")
        return None


class Sink:
    """SMTP server on ip:port (port 0 = any).

    tls: "good" (with cert, key), "none" (not offered), "refuse" (454), "break" (garbage instead of a
    handshake), "alert" (closes after ClientHello), "stall" (never answers the hello), "inject" (a reply in
    clear behind the 220 of STARTTLS, in the same segment).
    script: {command or b"BODY": reply text or callable(session) -> reply or None = close}.
    """

    def __init__(self, ip="127.0.0.1", port=0, *, tls="good", cert=None, key=None, hostname="sink",
                 script=None, extensions=("PIPELINING", "SIZE 52428800", "8BITMIME",
                                          "ENHANCEDSTATUSCODES", "DSN"),
                 min_tls=None, max_tls=None, ciphers=None, banner=None):
        self.tls, self.hostname = tls, hostname
        self.script = dict(script or {})
        self.extensions = list(extensions)
        self.banner = banner
        self.mails, self.commands, self.connections = [], [], 0
        self.all_mails = []  # never cleared by tests
        self.sni = None
        self.lock = threading.Condition()
        self.context = None
        if cert:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(cert, key)
            self.context.sni_callback = self._sni
            if min_tls:
                self.context.minimum_version = min_tls
            if max_tls:
                self.context.maximum_version = max_tls
            if ciphers:
                self.context.set_ciphers(ciphers)
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((ip, port))
        self.sock.listen(128)
        self.ip, self.port = self.sock.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def _sni(self, _socket, name, _context):
        self.sni = name

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            conn.settimeout(60)
            Session(self, conn).run()
        except (OSError, ssl.SSLError, EOFError):
            pass
        finally:
            try:
                conn.close()
            except OSError:
                pass

    def wait(self, n=1, timeout=20, match=None):
        """Blocks until n mails (that match) are there; returns them."""
        def good():
            return [m for m in self.mails if match is None or match(m)]
        with self.lock:
            if not self.lock.wait_for(lambda: len(good()) >= n, timeout):
                raise AssertionError("%s: %d of %d mails after %d s; commands %r" % (
                    self.hostname, len(good()), n, timeout, self.commands[-20:]))
            return good()

    def wait_command(self, verb, n=1, timeout=20):
        def count():
            return sum(1 for c in self.commands if c.upper().startswith(verb))
        with self.lock:
            if not self.lock.wait_for(lambda: count() >= n, timeout):
                raise AssertionError("%s: %s was not seen %d times; %r" % (
                    self.hostname, verb, n, self.commands[-20:]))

    def saw(self, verb):
        return any(c.upper().startswith(verb) for c in self.commands)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)  # else the thread in accept keeps it listening
        except OSError:
            pass
        self.sock.close()


class Session:
    def __init__(self, sink, conn):
        self.sink, self.conn = sink, conn
        self.file = conn.makefile("rb")
        self.secure = None
        self.mail = None

    def say(self, text):
        self.conn.sendall(text.encode() + b"\r\n")

    def note(self, line):
        with self.sink.lock:
            self.sink.commands.append(line)
            self.sink.lock.notify_all()

    def scripted(self, verb):
        """Reply of the script: text, or None when the script has none."""
        answer = self.sink.script.get(verb)
        if callable(answer):
            answer = answer(self)
        if answer == "close":
            raise EOFError
        if answer:
            self.say(answer)
        return answer

    def run(self):
        if self.sink.banner is not None:
            self.conn.sendall(self.sink.banner)
        elif not self.scripted("CONNECT"):
            self.say("220 %s ESMTP lab" % self.sink.hostname)
        while True:
            line = self.file.readline(65536)
            if not line:
                return
            text = line.decode("latin-1").rstrip("\r\n")
            verb = text.split(" ")[0].upper()
            self.note(text)
            if verb == "QUIT":
                self.say("221 2.0.0 bye")
                return
            handler = getattr(self, "do_" + verb.lower(), None)
            if handler is None:
                self.say("500 5.5.2 unknown")
            elif not (verb != "DATA" and self.scripted(verb)):
                handler(text)

    def do_ehlo(self, _):
        names = [self.sink.hostname] + self.sink.extensions
        if self.sink.tls != "none" and not self.secure:
            names.append("STARTTLS")
        for i, n in enumerate(names):
            self.say("250%s%s" % ("-" if i + 1 < len(names) else " ", n))

    def do_helo(self, _):
        self.say("250 " + self.sink.hostname)

    def do_starttls(self, _):
        mode = self.sink.tls
        if mode == "none":
            self.say("502 5.5.1 not implemented")
            return
        if mode == "refuse":
            self.say("454 4.7.0 TLS not available")
            return
        self.say("220 2.0.0 go ahead" + ("\r\n250 2.0.0 injected" if mode == "inject" else ""))
        if mode == "break":
            self.conn.recv(4096)
            self.conn.sendall(b"this is not TLS at all\r\n")
            raise EOFError
        if mode == "alert":
            self.conn.recv(4096)
            self.conn.sendall(b"\x15\x03\x03\x00\x02\x02\x28")
            raise EOFError
        if mode == "stall":
            threading.Event().wait(30)
            raise EOFError
        self.conn = self.sink.context.wrap_socket(self.conn, server_side=True)
        self.file = self.conn.makefile("rb")
        self.secure = (self.conn.version(), self.conn.cipher())
        self.mail = None
        self.note("(tls %s %s)" % (self.conn.version(), self.conn.cipher()[0]))

    def do_mail(self, line):
        self.mail = Mail()
        self.mail.mail_line = line
        self.mail.sender = line.split("<", 1)[1].split(">", 1)[0]
        self.mail.tls = self.secure
        self.say("250 2.1.0 ok")

    def do_rcpt(self, line):
        if not self.mail:  # pipelined behind a refused MAIL
            self.say("503 5.5.1 need MAIL")
            return
        self.mail.rcpts.append(line.split("<", 1)[1].split(">", 1)[0])
        self.say("250 2.1.5 ok")

    def do_data(self, _):
        answer = self.sink.script.get("DATA")
        if callable(answer):
            answer = answer(self)
        if answer == "close":
            raise EOFError
        if answer:
            self.say(answer)
            return
        if not self.mail or not self.mail.rcpts:
            self.say("503 5.5.1 no recipients")
            return
        self.say("354 go")
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError
            if line == b".\r\n":
                break
            lines.append(line[1:] if line.startswith(b".") else line)
        self.mail.data = b"".join(lines)
        mail, self.mail = self.mail, None
        self.pending = mail
        if self.scripted("BODY"):
            return
        with self.sink.lock:
            self.sink.mails.append(mail)
            self.sink.all_mails.append(mail)
            self.sink.lock.notify_all()
        self.say("250 2.0.0 taken")

    def do_rset(self, _):
        self.mail = None
        self.say("250 2.0.0 ok")

    def do_noop(self, _):
        self.say("250 2.0.0 ok")

    def do_auth(self, line):
        self.say("235 2.7.0 ok")
