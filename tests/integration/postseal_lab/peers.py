"""Postfix, Exim and OpenSMTPD of Debian as partners: next hop and sender of real mail.

script/peers unpacks the programs, each under a root of its own. Here each runs in private mount and
process namespaces, on a root that is the machine's with the peer's files laid over it, so that
compiled-in paths and users are there and nothing of the machine changes. All processes of a peer end
with the pipe to its keeper, even when the test is killed. That takes root (or sudo without a
password); where it is missing the peer fails and says so.
"""
import base64
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading

from .gateway import wait_for

REPOSITORY = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
AS_ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
USERS = ("postfix", "postdrop", "Debian-exim", "opensmtpd", "opensmtpq", "peer")
FIRST_ID = 64900
KNOWN = ("user", "second")  # mailboxes of each peer; every other recipient is refused

# $1: unpacked peer, $2: work folder, seen as /peer inside; the rest is the command.
KEEPER = r"""
set -eu
peer=$1 work=$2
shift 2
mount --make-rprivate /
mount -t tmpfs tmpfs "$work/mount"
mkdir "$work/mount/upper" "$work/mount/work" "$work/mount/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/mount/upper,workdir=$work/mount/work" \
    "$work/mount/root"
root=$work/mount/root
cp -r --preserve=mode,links "$peer/." "$root/"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mkdir "$root/peer"
mount --bind "$work" "$root/peer"
id=%d
for user in %s; do
    echo "$user:x:$id:$id::/nonexistent:/bin/sh" >>"$root/etc/passwd"
    echo "$user:x:$id:" >>"$root/etc/group"
    id=$((id + 1))
done
chroot "$root" /bin/sh /peer/start </dev/null >>"$work/log/output" 2>&1 &
cat >/dev/null   # until the test closes the pipe or ends
""" % (FIRST_ID, " ".join(USERS))


def peers_folder():
    return os.environ.get("POSTSEAL_PEERS") or os.path.join(
        os.path.expanduser("~"), ".cache", "postseal-peers")


def unpacked(name):
    """Root of an unpacked peer; fetches the peers when they are missing."""
    root = os.path.join(peers_folder(), name)
    if not os.path.exists(os.path.join(root, ".complete")):
        r = subprocess.run([os.path.join(REPOSITORY, "script", "peers")], capture_output=True,
                           text=True, timeout=600)
        if r.returncode:
            raise AssertionError("script/peers failed: %s%s" % (r.stdout, r.stderr))
    return root


class Peer:
    """A mail server with two addresses: `ip` with STARTTLS, `plain_ip` without.

    It takes mail for KNOWN users of `domain` (and of "plain." + domain) from everybody and keeps it
    as Maildir, and relays all other mail from loopback to `gateway` (ip, port) by mandatory STARTTLS.
    """
    name = None
    serves_tls = True

    def __init__(self, ip, plain_ip, port, domain, cert, key, gateway):
        self.ip, self.plain_ip, self.port, self.domain = ip, plain_ip, port, domain
        self.domains = (domain, "plain." + domain)
        self.host = "mx." + domain
        self.gateway = gateway
        self.folder = tempfile.mkdtemp(prefix="postseal-%s-" % self.name)
        os.chmod(self.folder, 0o755)
        for d in ("mount", "log", "etc"):
            os.mkdir(os.path.join(self.folder, d))
        os.chmod(os.path.join(self.folder, "log"), 0o777)
        shutil.copy(cert, os.path.join(self.folder, "etc", "cert.pem"))
        shutil.copy(key, os.path.join(self.folder, "etc", "key.pem"))
        os.chmod(os.path.join(self.folder, "etc", "key.pem"), 0o600)
        self.keeper = None

    # ---- life ----
    def write(self, path, text):
        with open(os.path.join(self.folder, path), "w") as f:
            f.write(text)

    def setup(self):
        """Writes the configuration and `start`, the script run on the peer's own root."""
        raise NotImplementedError

    def launch(self):
        if AS_ROOT and subprocess.run(["sh", "-c", "sudo -n true"], capture_output=True,
                                      check=False).returncode:
            raise AssertionError("%s needs root, or sudo without a password, for its own mounts and "
                                 "users; neither is there" % self.name)
        root = unpacked(self.name)
        self.setup()
        self.keeper = subprocess.Popen(
            AS_ROOT + ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/bash", "-c",
                       KEEPER, "keeper", root, self.folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return self

    def start(self):
        """Starts what launch() has not yet, and waits until it greets."""
        if not self.keeper:
            self.launch()
        try:
            wait_for(self._greets, 30, "greeting of " + self.name)
        except AssertionError as e:
            raise AssertionError("%s\n%s" % (e, self.log_text())) from None
        return self

    def _greets(self):
        if self.keeper.poll() is not None:
            raise AssertionError(
                "%s cannot run here (it needs root or sudo, and mount namespaces): %s" % (
                    self.name, self.keeper.stdout.read().decode(errors="replace")))
        try:
            for ip in (self.ip, self.plain_ip):
                with socket.create_connection((ip, self.port), 5) as s:
                    if s.recv(3) != b"220":
                        return False
            return True
        except OSError:
            if self.keeper.poll() is None and self.failed():
                raise AssertionError("%s ended:\n%s" % (self.name, self.log_text())) from None
            return False

    def failed(self):
        return os.path.exists(os.path.join(self.folder, "log", "ended"))

    def close(self):
        if self.keeper:
            self.keeper.stdin.close()
            try:
                self.keeper.wait(10)
            except subprocess.TimeoutExpired:
                subprocess.run(AS_ROOT + ["kill", "-KILL", str(self.keeper.pid)], check=False)
                self.keeper.wait(10)
            self.keeper.stdout.close()
        if not os.environ.get("POSTSEAL_KEEP"):
            as_root = AS_ROOT if self.keeper else []
            subprocess.run(as_root + ["rm", "-rf", self.folder], check=False)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def _run(self, *command):
        return subprocess.run(AS_ROOT + list(command), capture_output=True, timeout=30,
                              check=False).stdout

    def log_text(self):
        text = []
        for name in sorted(os.listdir(os.path.join(self.folder, "log"))):
            data = self._run("cat", os.path.join(self.folder, "log", name))
            text.append("--- %s %s\n%s" % (self.name, name, data.decode(errors="replace")[-6000:]))
        return "\n".join(text)

    # ---- mail ----
    def mails(self):
        """Each stored message as bytes, with CR LF line ends; its own first header fields included."""
        out = []
        new = os.path.join(self.folder, "Maildir", "new")
        for name in self._run("ls", "-tr", new).decode().split():
            data = self._run("cat", os.path.join(new, name))
            out.append(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        return out

    def wait(self, subject, n=1, timeout=30):
        """The messages with a text in their subject line, when there are n."""
        mark = subject.encode()

        def there():
            found = [m for m in self.mails() if mark in header(m, b"subject")]
            return found if len(found) >= n else None
        try:
            return wait_for(there, timeout, "mail %r at %s" % (subject, self.name))
        except AssertionError as e:
            raise AssertionError("%s\n%s" % (e, self.log_text())) from None

    def send(self, sender, to, data, options=(), rcpt_options=()):
        """Hands the peer a message (CR LF, bytes) that it sends on."""
        with smtplib.SMTP(self.ip, self.port, timeout=30) as c:
            c.ehlo("client.lab.test")
            if self.serves_tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                c.starttls(context=context)
                c.ehlo("client.lab.test")
            for step in (lambda: c.mail(sender, list(options)),
                         lambda: c.rcpt(to, list(rcpt_options)), lambda: c.data(data)):
                reply = step()
                assert reply[0] == 250, (self.name, reply, self.log_text())


def header(message, name):
    """Value of the first header field of this name, unfolded; empty when there is none."""
    value = None
    for line in message.split(b"\r\n\r\n", 1)[0].split(b"\r\n"):
        if value is not None:
            if line[:1] not in b" \t" or not line:
                break
            value += line
        elif line.lower().startswith(name.lower() + b":"):
            value = line.split(b":", 1)[1].strip()
    return value or b""


class Postfix(Peer):
    """`listeners`: {port: ["-o option=value", ...]} on `ip`, for tests that need more of them;
    `main`: further lines of main.cf, which win."""
    name = "postfix"

    def __init__(self, *args, listeners=None, main=""):
        super().__init__(*args)
        self.listeners, self.main = listeners or {}, main

    def setup(self):
        users = ", ".join("{ %s@%s = /peer/Maildir/ }" % (u, d) for d in self.domains for u in KNOWN)
        text = """
compatibility_level = 3.6
myhostname = %(host)s
mydestination =
mynetworks = 127.0.0.0/8
inet_protocols = ipv4
smtp_bind_address = %(ip)s
relayhost = [%(gw)s]:%(gwport)d
maillog_file = /peer/log/mail
maillog_file_prefixes = /peer
virtual_mailbox_domains = %(domains)s
virtual_mailbox_base = /
virtual_mailbox_maps = inline:{ %(users)s }
virtual_uid_maps = static:%(id)d
virtual_gid_maps = static:%(id)d
virtual_mailbox_limit = 0
message_size_limit = 60000000
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions =
smtpd_tls_security_level = may
smtpd_tls_chain_files = /peer/etc/key.pem, /peer/etc/cert.pem
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
smtp_line_length_limit = 0
smtp_destination_concurrency_limit = 4
bounce_queue_lifetime = 1h
minimal_backoff_time = 1s
queue_run_delay = 1s
smtputf8_enable = no
disable_dns_lookups = yes
append_dot_mydomain = no
alias_maps =
alias_database =
""" % {"host": self.host, "ip": self.ip, "gw": self.gateway[0], "gwport": self.gateway[1],
       "domains": " ".join(self.domains), "users": users,
       "id": FIRST_ID + USERS.index("peer")}
        # A name that stood twice would be warned about by each process at its start, and the logger
        # that fills its own queue with such warnings waits for itself.
        values = dict(line.split("=", 1) for line in (text + self.main).split("\n") if line)
        self.write("etc/main.cf", "".join("%s=%s\n" % (k.rstrip(), v) for k, v in values.items()))
        services = ["%s:%d inet n - n - - smtpd" % (self.ip, self.port),
                    "%s:%d inet n - n - - smtpd -o smtpd_tls_security_level=none" % (
                        self.plain_ip, self.port)]
        services += ["%s:%d inet n - n - - smtpd %s" % (self.ip, port, " ".join(options))
                     for port, options in self.listeners.items()]
        services += """
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""".split("\n")
        self.write("etc/master.cf", "\n".join(x for x in services if x) + "\n")
        self.write("start", """set -u
umask 022
mkdir -p /peer/Maildir && chown peer:peer /peer/Maildir
cp /peer/etc/main.cf /peer/etc/master.cf /etc/postfix/
chown postfix:postfix /var/lib/postfix
postfix check
/usr/lib/postfix/sbin/master -c /etc/postfix -d
echo $? >/peer/log/ended
""")


class Exim(Peer):
    name = "exim"

    def setup(self):
        self.write("etc/exim4.conf", """
primary_hostname = %(host)s
local_interfaces = %(ip)s.%(port)d : %(plain)s.%(port)d
domainlist mine = %(domains)s
spool_directory = /var/spool/exim4
log_file_path = /peer/log/exim-%%s
log_selector = +tls_cipher +smtp_connection +received_recipients
exim_user = Debian-exim
exim_group = Debian-exim
never_users = root
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
message_size_limit = 60M
dsn_advertise_hosts = *
tls_advertise_hosts = ${if eq{$received_ip_address}{%(ip)s}{*}{}}
tls_certificate = /peer/etc/cert.pem
tls_privatekey = /peer/etc/key.pem
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  accept domains = +mine
         endpass
         verify = recipient
  accept hosts = 127.0.0.0/8
  deny
data:
  accept
begin routers
mine:
  driver = accept
  domains = +mine
  local_parts = %(users)s
  transport = maildir
gateway:
  driver = manualroute
  domains = ! +mine
  route_list = * %(gw)s byname
  self = send
  transport = gateway
begin transports
maildir:
  driver = appendfile
  directory = /peer/Maildir
  maildir_format
  user = peer
  group = peer
  return_path_add
gateway:
  driver = smtp
  port = %(gwport)d
  interface = %(ip)s
  allow_localhost
  hosts_require_tls = *
  tls_verify_certificates =
  message_linelength_limit = 1000000
begin retry
* * F,1h,2s
""" % {"host": self.host, "ip": self.ip, "plain": self.plain_ip, "port": self.port,
       "domains": " : ".join(self.domains), "users": " : ".join(KNOWN),
       "gw": self.gateway[0], "gwport": self.gateway[1]})
        self.write("start", """set -u
umask 022
mkdir -p /peer/Maildir /var/spool/exim4 /etc/exim4
chown peer:peer /peer/Maildir
chown Debian-exim:Debian-exim /var/spool/exim4 /peer/etc/key.pem
cp /peer/etc/exim4.conf /etc/exim4/exim4.conf
chmod 644 /etc/exim4/exim4.conf
exim4 -bdf -q2s
echo $? >/peer/log/ended
""")


class OpenSMTPD(Peer):
    name = "opensmtpd"
    # Debian 12's 6.8.0p2 offers STARTTLS but fails each handshake as server with OpenSSL 3, whose
    # keys lose what it ties to them ("missing private key", upstream issue 1171): a real peer with
    # broken TLS. As client its TLS works.
    serves_tls = False

    def setup(self):
        self.write("etc/smtpd.conf", """
pki own cert "/peer/etc/cert.pem"
pki own key "/peer/etc/key.pem"
smtp max-message-size "60M"
table users { %(users)s }
listen on %(ip)s port %(port)d tls pki own hostname %(host)s
listen on %(plain)s port %(port)d hostname %(host)s
action "in" maildir "/peer/Maildir" virtual <users>
action "out" relay host "smtp+tls://%(gw)s:%(gwport)d" tls no-verify src %(ip)s helo %(host)s
match from any for domain { %(domains)s } action "in"
match from src 127.0.0.0/8 for any action "out"
match from local for any action "out"
""" % {"host": self.host, "ip": self.ip, "plain": self.plain_ip, "port": self.port,
       "domains": ", ".join('"%s"' % d for d in self.domains),
       "users": ", ".join('"%s@%s" = "peer"' % (u, d) for d in self.domains for u in KNOWN),
       "gw": self.gateway[0], "gwport": self.gateway[1]})
        self.write("start", """set -u
umask 022
mkdir -p /peer/Maildir && chown peer:peer /peer/Maildir
cp /peer/etc/smtpd.conf /etc/smtpd.conf
chmod 644 /etc/smtpd.conf
chown root:root /peer/etc/key.pem /var/lib/opensmtpd /var/lib/opensmtpd/empty
smtpd -d -f /etc/smtpd.conf -v
echo $? >/peer/log/ended
""")


PEERS = {c.name: c for c in (Postfix, Exim, OpenSMTPD)}


class AuthServer:
    """Tells Postfix who may log in, in Dovecot's protocol for that, on a loopback port."""

    def __init__(self, users):
        self.users = users
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        conn.sendall(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
                     b"SPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n")
        asked = {}
        with conn.makefile("rb") as lines:
            for line in lines:
                words = line.decode().rstrip("\n").split("\t")
                if words[0] in ("AUTH", "CONT"):
                    conn.sendall(self._answer(words, asked).encode() + b"\n")

    def _answer(self, words, asked):
        id = words[1]
        if words[0] == "AUTH":
            mechanism, given = words[2], [w[5:] for w in words if w.startswith("resp=")]
            asked[id] = (mechanism, [])
        else:
            mechanism, given = asked[id][0], words[2:3]
        try:
            given = [base64.b64decode(g, validate=True) for g in given]
        except ValueError:
            return "FAIL\t%s\treason=bad base64" % id
        if mechanism == "PLAIN":
            if not given:
                return "CONT\t%s\t" % id
            parts = given[0].split(b"\0")
            return self._verdict(id, parts[1:] if len(parts) == 3 else [b"", b""])
        so_far = asked[id][1] + given
        asked[id] = (mechanism, so_far)
        if len(so_far) < 2:
            prompt = b"Password:" if so_far else b"Username:"
            return "CONT\t%s\t%s" % (id, base64.b64encode(prompt).decode())
        return self._verdict(id, so_far)

    def _verdict(self, id, pair):
        user, password = (p.decode("latin-1") for p in pair)
        if self.users.get(user) == password:
            return "OK\t%s\tuser=%s" % (id, user)
        return "FAIL\t%s\tuser=%s" % (id, user)

    def close(self):
        self.sock.close()
