#!/usr/bin/env python3
"""Tests of recover.py and RECOVER.md against repositories that forge.py writes: python3 tests/tools/test_recover.py

More is tested as root (owners, devices, capabilities). LIFEBOAT_TEST_DIR says where to work, instead of the usual place for
temporary files; a file system with extended attributes is best.
"""
import fcntl, glob, hashlib, json, os, re, resource, shutil, socket, stat, struct, subprocess, sys, tempfile, time, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "..", "..", "src", "repo")
RECOVER = os.path.join(SOURCE, "recover.py")
sys.path.insert(0, HERE)
import forge

ROOT = os.geteuid() == 0


def recover(*words, cwd=None, script=RECOVER, limit=60):
    """(status, output, seconds, peak MiB of the process and its children)"""
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, script, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    return child.returncode, output.decode("utf-8", "replace"), time.monotonic() - started, usage.ru_maxrss / 1024


def tree(directory):
    """Everything that must come back, by path."""
    found, groups = {}, {}

    def visit(parent, name, path):
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(info.st_mode)
        real = kind in (stat.S_IFREG, stat.S_IFDIR)
        handle = os.open(name, (os.O_RDONLY if real else os.O_PATH) | os.O_NOFOLLOW, dir_fd=parent)
        where = handle if real else f"/proc/self/fd/{handle}"
        about = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev, {n: os.getxattr(where, n) for n in os.listxattr(where)}]
        if kind == stat.S_IFREG:
            digest, extents, at = hashlib.sha256(), [], 0
            while at < info.st_size:
                try:
                    begin = os.lseek(handle, at, os.SEEK_DATA)
                except OSError:
                    break
                at = os.lseek(handle, begin, os.SEEK_HOLE)
                extents.append((begin, at))
                digest.update(os.pread(handle, at - begin, begin))
            about += [info.st_size, digest.hexdigest(), extents]
        if kind == stat.S_IFLNK:
            about.append(os.readlink(os.fsencode(name), dir_fd=parent))
        if real:
            try:
                about.append(struct.unpack("L", fcntl.ioctl(handle, 0x80086601, bytes(8)))[0] & 0x8000F0)
            except OSError:
                pass
        if info.st_nlink > 1 and kind != stat.S_IFDIR:
            groups.setdefault(info.st_ino, []).append(path)
        found[path] = about
        if kind == stat.S_IFDIR:
            for below in sorted(map(os.fsencode, os.listdir(handle))):
                visit(handle, below, path + b"/" + below)
        os.close(handle)
    visit(None, os.fsencode(directory), b"")
    return found, sorted(sorted(g) for g in groups.values())


def run(*words):
    subprocess.run(words, check=True)


def make_tree(base):
    """A tree with every kind of entry. Gives back whether it holds a socket."""
    os.mkdir(base, 0o755)

    def put(path, data=b"", mode=0o644, when=None):
        path = os.path.join(os.fsencode(base), path)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        if when is not None:
            os.utime(path, ns=(when, when), follow_symlinks=False)
        return path
    for name in (b"plain", b"new\nline", b"\x1b[31m", b"-dash", b"sp ace ", b"\xff\xfe bytes", "é".encode(), "e\u0301".encode(), b"Case", b"case", b"x" * 255,
                 b"..\\x", b"a", b"a-b"):
        put(name, b"content of " + name) if name != b"a" else os.mkdir(os.path.join(base, "a"))
    put(b"a/b", b"order")
    put(b"empty"), put(b"mode0", b"0", 0o000 if ROOT else 0o400), put(b"suid", b"#!", 0o4755), put(b"sgid", b"#!", 0o2755)
    put(b"big", b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40000)))
    put(b"ten", bytes(range(256)) * 4 * 10)
    for name, when in ((b"t1901", -(1 << 31) * 10 ** 9 + 7), (b"t0", 0), (b"t2040", 2208988800 * 10 ** 9 + 999999999), (b"t2400", 13569465600 * 10 ** 9 + 1)):
        put(name, b"time", when=when)
    for name, pieces, size in (("middle", [(0, 65536), (1 << 20, 100000)], (1 << 20) + 100000), ("all", [], 1 << 33), ("tail", [(0, 8192)], 1 << 30),
                               ("first", [(1 << 20, 4096)], (1 << 20) + 4096), ("zeros", [(0, -65536)], 65536)):
        with open(os.path.join(base, "sparse-" + name), "wb") as file:
            for offset, length in pieces:
                file.seek(offset)
                file.write(os.urandom(length) if length > 0 else bytes(-length))
            file.truncate(size)
    for name, target in (("relative", "plain"), ("absolute", "/etc/passwd"), ("dangling", "nowhere"), ("loop", "loop"), ("long", "l" * 4095), ("bytes", b"\xff"),
                         ("up", "../../../..")):
        os.symlink(target, os.path.join(os.fsencode(base), b"link-" + name.encode()) if isinstance(target, bytes) else os.path.join(base, "link-" + name))
        os.utime(os.path.join(base, "link-" + name), ns=(5, 1234567890123456789), follow_symlinks=False)
    os.mkfifo(os.path.join(base, "fifo"), 0o620)
    there = socket.socket(socket.AF_UNIX)
    back = os.getcwd()
    os.chdir(base)
    there.bind("socket")
    os.chdir(back)
    there.close()
    os.mkdir(os.path.join(base, "d"))
    for first, second in (("plain", "d/hard"), ("plain", "hard"), ("link-dangling", "d/hard-link"), ("fifo", "d/hard-fifo")):
        os.link(os.path.join(base, first), os.path.join(base, second), follow_symlinks=False)
    put(b"d/inner", b"same content"), put(b"d/inner2", b"same content")
    for name, mode in (("sticky", 0o1777), ("setgid", 0o2755), ("readonly", 0o500), ("none", 0o000)):
        os.mkdir(os.path.join(base, name))
        put(name.encode() + b"/file", b"in " + name.encode())
        if name == "none" and ROOT or name != "none":
            os.chmod(os.path.join(base, name), mode)
    handle = os.open(base, os.O_RDONLY)
    for level in range(30):                                 # a path of more than 7,000 bytes
        name = f"{level:02d}".encode() + b"p" * 238
        os.mkdir(name, dir_fd=handle)
        handle, before = os.open(name, os.O_RDONLY, dir_fd=handle), handle
        os.close(before)
    with open(os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=handle), "wb") as file:
        file.write(b"deep down")
    os.close(handle)
    try:
        os.setxattr(os.path.join(base, "plain"), "user.text", b"value")
        os.setxattr(os.path.join(base, "ten"), "user.empty", b"")
        os.setxattr(os.path.join(base, "ten"), "user.binary", bytes(range(256)) * 4)
        os.setxattr(os.path.join(base, "d"), "user.directory", b"\0\xff")
    except OSError:
        pass
    if shutil.which("setfacl"):
        run("setfacl", "-m", "u:12345:rwx,g:54321:r,m::rx", os.path.join(base, "ten"))
        run("setfacl", "-d", "-m", "u:12345:rwx", os.path.join(base, "d"))
    if shutil.which("chattr"):
        run("chattr", "+d", os.path.join(base, "case"))
    if ROOT:
        os.setxattr(os.path.join(base, "link-up"), "trusted.link", b"on a symlink", follow_symlinks=False)
        os.setxattr(os.path.join(base, "fifo"), "trusted.fifo", b"on a fifo")
        os.mknod(os.path.join(base, "null"), 0o640 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(os.path.join(base, "minor"), 0o640 | stat.S_IFBLK, os.makedev(259, 1048575))
        os.chown(os.path.join(base, "suid"), 12345, 54321)
        os.chmod(os.path.join(base, "suid"), 0o6755)
        os.chown(os.path.join(base, "t0"), 4294967294, 3000000000)
        os.chown(os.path.join(base, "link-loop"), 7, 8, follow_symlinks=False)
        os.chown(os.path.join(base, "sticky"), 77, 88)
        if shutil.which("setcap"):
            shutil.copy("/bin/true", os.path.join(base, "capable"))
            os.chown(os.path.join(base, "capable"), 12345, 0)
            run("setcap", "cap_net_raw+ep", os.path.join(base, "capable"))
        if shutil.which("chattr"):
            for name in ("i", "a"):
                os.mkdir(os.path.join(base, "flag-" + name))
                put(b"flag-" + name.encode() + b"/f", b"flag")
                run("chattr", "+" + name, os.path.join(base, "flag-" + name, "f"), os.path.join(base, "flag-" + name))
    for name in ("d", "a", "readonly", "sticky"):
        os.utime(os.path.join(base, name), ns=(1, 1600000000123456789))
    os.utime(base, ns=(1, 1500000000987654321))


def clear(directory):
    if os.path.lexists(directory):
        if ROOT and shutil.which("chattr"):
            subprocess.run(["chattr", "-R", "-i", "-a", directory], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        subprocess.run(["chmod", "-R", "u+rwX", directory], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", directory], check=True)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix="recover-", dir=os.environ.get("LIFEBOAT_TEST_DIR"))
        cls.addClassCleanup(clear, cls.base)

    def at(self, *parts):
        return os.path.join(self.base, *parts)

    def restore(self, repo, snapshot, name, *more):
        target = self.at(name)
        clear(target)
        return recover("restore", snapshot, target, "--repo", repo, *more), target


class Whole(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.source = os.path.join(cls.base, "source")
        make_tree(cls.source)
        cls.repos = {}
        for name, chunking in (("usual", None), ("small", forge.SMALL)):
            repo = os.path.join(cls.base, name)
            cls.repos[name] = (repo, forge.build(cls.source, repo, "/srv/the app", chunking))

    def same(self, target):
        wanted, links = tree(self.source)
        found, made = tree(target)
        wanted.pop(b"/socket")
        self.assertEqual(set(wanted), set(found))
        for path in wanted:
            with self.subTest(path=path):
                # a directory's extents and the like do not matter; extents of files must be the same holes
                self.assertEqual(wanted[path], found[path])
        self.assertEqual(links, made)

    def test_everything(self):
        for name, (repo, snapshot) in self.repos.items():
            with self.subTest(name):
                (status, output, _, _), target = self.restore(repo, snapshot[:12], "t-" + name)
                self.assertEqual((status, output.count("NOT RESTORED")), (0, 0), output)
                self.assertIn("not made (a socket)", output)
                self.same(os.path.join(target, "srv/the app"))

    def test_without_index_and_more(self):
        repo = self.at("bare")
        clear(repo)
        shutil.copytree(self.repos["usual"][0], repo)
        for name in ("index", "records", "writers", "tmp"):
            shutil.rmtree(os.path.join(repo, name))
        (status, output, _, _), target = self.restore(repo, self.repos["usual"][1], "t-bare")
        self.assertEqual(status, 0, output)
        self.same(os.path.join(target, "srv/the app"))
        os.unlink(os.path.join(repo, "repository.json"))
        (status, output, _, _), target = self.restore(repo, self.repos["usual"][1], "t-bare2")
        self.assertEqual(status, 3, output)
        self.same(os.path.join(target, "srv/the app"))

    def test_path(self):
        repo, snapshot = self.repos["small"]
        for path, some in (("/srv/the app/d", b"/d/inner"), ("/srv/the app/plain", b"/plain"), ("/srv/the app/d/hard", b"/d/hard"), ("/srv", b"/plain"),
                           (b"/srv/the app/\xff\xfe bytes", b"/\xff\xfe bytes"), ("/", b"/plain")):
            (status, output, _, _), target = self.restore(repo, snapshot, "t-path", "--path", path)
            self.assertEqual(status, 0, output)
            found, _ = tree(os.path.join(target, "srv/the app"))
            wanted, _ = tree(self.source)
            self.assertEqual(found[some][6:9], wanted[some][6:9])
            below = os.fsencode(path)[len(b"/srv/the app"):]
            inside = {p for p in wanted if (p + b"/").startswith(below + b"/") and p != b"/socket"}
            self.assertEqual({p for p in found if (p + b"/").startswith(below + b"/")}, inside)
        (status, output, _, _), target = self.restore(repo, snapshot, "t-path", "--path", "/srv/nothing")
        self.assertEqual(status, 1, output)

    def test_list_and_check(self):
        repo, snapshot = self.repos["usual"]
        status, output, _, _ = recover("list", repo)
        self.assertEqual(status, 0)
        self.assertIn(snapshot[:16], output)
        self.assertIn("/srv/the app", output)
        self.assertEqual(recover("check", repo)[0], 0)
        if shutil.which("ssh-keygen"):
            copy = self.at("unsigned")
            shutil.copytree(repo, copy)
            signature = glob.glob(copy + "/snapshots/*.sig")[0]
            os.chmod(signature, 0o600)
            with open(signature, "w") as file:
                file.write("garbage")
            status, output, _, _ = recover("check", copy)
            self.assertEqual(status, 3, output)
            self.assertIn(".sig: damaged", output)
        # what a repair put aside is no problem of what is there
        copy = self.at("repaired")
        shutil.copytree(repo, copy)
        for number, pack in enumerate(glob.glob(copy + "/packs/??/*")):
            aside = pack.replace("/packs/", "/quarantine/packs/")
            os.makedirs(os.path.dirname(aside), exist_ok=True)
            shutil.copy(pack, aside)
            os.chmod(aside, 0o600)
            with open(aside, "r+b") as file:             # its table, or what it holds
                file.seek(-2 if number % 2 else 30, 2 if number % 2 else 0)
                file.write(b"\0\0")
        self.assertEqual(recover("check", copy)[0], 0)
        self.assertEqual(self.restore(copy, snapshot, "t-repaired")[0][0], 0)
        status, output, _, _ = recover("list", script=os.path.join(repo, "recover.py"), cwd="/")
        self.assertIn(snapshot[:16], output)

    def test_target(self):
        repo, snapshot = self.repos["usual"]
        clear(self.at("full"))
        os.mkdir(self.at("full"))
        open(self.at("full", "mine"), "w").close()
        self.assertEqual(recover("restore", snapshot, self.at("full"), "--repo", repo)[0], 1)
        self.assertEqual(os.listdir(self.at("full")), ["mine"])
        self.assertEqual(recover("restore", "feed", self.at("none"), "--repo", repo)[0], 1)
        self.assertEqual(recover("restore")[0], 2)

    @unittest.skipUnless(ROOT and shutil.which("setpriv"), "needs root and setpriv")
    def test_as_a_user(self):
        """An ordinary user gets every content; what could not be set is counted."""
        repo, snapshot = self.repos["usual"]
        open_base = self.at("user")
        os.mkdir(open_base)
        shutil.copytree(repo, open_base + "/repo")
        run("chown", "-R", "12399:12399", open_base)
        os.chmod(self.base, 0o755)
        result = subprocess.run(["setpriv", "--reuid=12399", "--regid=12399", "--clear-groups", sys.executable, open_base + "/repo/recover.py", "restore", snapshot,
                                 open_base + "/target"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
        if "Permission denied" in result.stdout and "can't open" in result.stdout:
            self.skipTest("the user cannot reach Python or the place")
        self.assertEqual(result.returncode, 3, result.stdout)
        self.assertIn("owner or group not set", result.stdout)
        wanted, _ = tree(self.source)
        found, _ = tree(open_base + "/target/srv/the app")
        self.assertEqual(set(wanted) - set(found), {b"/socket", b"/null", b"/minor"}, result.stdout)
        for path in found:
            self.assertEqual(wanted[path][3], found[path][3], path)
            self.assertEqual(found[path][1], 12399)
            if len(wanted[path]) > 8:
                self.assertEqual(wanted[path][6:9], found[path][6:9], path)
            if int(found[path][0], 8) & 0o170000 == stat.S_IFREG:
                self.assertFalse(int(found[path][0], 8) & 0o6000, path)


class Damaged(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.source = os.path.join(cls.base, "source")
        os.makedirs(os.path.join(cls.source, "sub"))
        for n in range(300):
            with open(os.path.join(cls.source, "sub", f"f{n:03d}"), "wb") as file:
                file.write(hashlib.shake_256(b"%d" % n).digest(3000 + n * 7))
        cls.repo = os.path.join(cls.base, "repo")
        writer = forge.Forge(cls.repo, forge.SMALL)
        writer.frame_target, writer.pack_target = 16384, 100000
        cls.snapshot = writer.commit([("/", writer.manifest(writer.tree(cls.source)))])
        cls.files = [p for p in glob.glob(cls.repo + "/**", recursive=True) if os.path.isfile(p)]

    def damaged(self, edit, name, *more):
        copy = self.at("copy")
        clear(copy)
        shutil.copytree(self.repo, copy)
        edit(copy)
        (status, output, seconds, _), target = self.restore(copy, self.snapshot, "t", *more)
        for directory, _, files in os.walk(target):
            for file in files:                            # whatever is there must be right
                with open(os.path.join(directory, file), "rb") as one, open(os.path.join(self.source, "sub", file), "rb") as other:
                    self.assertEqual(one.read(), other.read(), (name, file))
        there = sum(len(files) for _, _, files in os.walk(target))
        self.assertEqual(status == 0, there == 300 and "NOT" not in output, (name, status, there, output[-500:]))
        return status, output, there, recover("check", copy)

    def packs(self, kind):
        names = [p for p in self.files if p.endswith(".tar.zst")]
        return [p[len(self.repo) + 1:] for p in names if
                json.loads(subprocess.run(f"zstd -dc '{p}' | tail -c +1 | grep -a -o '{{\"lifeboat\":\"pack\".*' | head -1", shell=True, stdout=subprocess.PIPE).stdout)["kind"] == kind]

    def test_content_pack_damage(self):
        pack = self.packs("content")[0]

        def flip(at):
            def edit(copy):
                with open(os.path.join(copy, pack), "r+b") as file:
                    file.seek(at)
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 4]))
            return edit
        size = os.path.getsize(os.path.join(self.repo, pack))
        for at in (0, 5, 700, size // 2, size - 30, size - 1):
            status, output, there, check = self.damaged(flip(at), at)
            self.assertEqual((status, check[0]), (3, 3), output)
            self.assertTrue(200 <= there < 300 or at > size - 2000, (at, there))
        status, output, there, check = self.damaged(lambda copy: os.unlink(os.path.join(copy, pack)), "gone")
        self.assertEqual((status, check[0]), (3, 3))
        self.assertTrue(200 <= there < 300, there)
        self.assertEqual(output.count("NOT RESTORED"), 300 - there)

        def trash(copy):
            os.makedirs(os.path.join(copy, "trash", os.path.dirname(pack)))
            os.rename(os.path.join(copy, pack), os.path.join(copy, "trash", pack))
        self.assertEqual(self.damaged(trash, "trash")[0], 0)

    def test_manifest_damage(self):
        pack = self.packs("manifest")[0]

        def edit(copy):
            with open(os.path.join(copy, pack), "r+b") as file:
                file.seek(40)
                file.write(b"damage")
        status, output, there, check = self.damaged(edit, "manifest")
        self.assertEqual((status, check[0]), (3, 3), output)
        self.assertIn("are lost", output)

    def test_random_flips(self):
        import random
        pick = random.Random(5)
        for n in range(40):
            path = pick.choice([p for p in self.files if "/snapshots/" in p or "/packs/" in p or "/index/" in p])
            at = pick.randrange(os.path.getsize(path))

            def edit(copy):
                with open(path.replace(self.repo, copy), "r+b") as file:
                    file.seek(at)
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 1 << pick.randrange(8)]))
            name = (n, path[len(self.repo):], at)
            if path.endswith(".sig"):
                continue
            _, output, _, check = self.damaged(edit, name)
            self.assertEqual(check[0], 3, (name, check[1]))


class Formats(Case):
    def test_levels(self):
        """Many entries, so that the manifest has lists of lists, and one entry's change changes little."""
        repo = self.at("levels")
        writer = forge.Forge(repo)
        entries = [{"path": ".", "type": "dir", "mode": "755", "uid": os.getuid(), "gid": os.getgid(), "mtime": [1, 2]}]
        entries += [{"path": f"n{n:06d}", "type": "symlink", "mode": "777", "uid": os.getuid(), "gid": os.getgid(), "size": 1, "mtime": [n, 3], "target": "t"}
                    for n in range(40000)]
        manifest = writer.manifest(entries)
        self.assertGreaterEqual(manifest["level"], 1)
        snapshot = writer.commit([("/r", manifest)])
        (status, output, seconds, peak), target = self.restore(repo, snapshot, "t")
        self.assertEqual(status, 0, output[-2000:])
        self.assertEqual(len(os.listdir(os.path.join(target, "r"))), 40000)
        (status, output, seconds, peak), target = self.restore(repo, snapshot, "t", "--path", "/r/n012345")
        self.assertEqual((status, os.listdir(os.path.join(target, "r"))), (0, ["n012345"]), output)

    def test_roots(self):
        one, two, repo = self.at("one"), self.at("two"), self.at("roots")
        for directory in (one, two):
            os.mkdir(directory)
            with open(os.path.join(directory, "f"), "w") as file:
                file.write(directory)
        writer = forge.Forge(repo)
        snapshot = writer.commit([("/srv/one", writer.manifest(writer.tree(one))), ("/srv/one/below", writer.manifest(writer.tree(two))),
                                  ("/dump", writer.manifest(writer.tree(two + "/f")))])
        (status, output, _, _), target = self.restore(repo, snapshot, "t")
        self.assertEqual(status, 0, output)
        for path, text in (("srv/one/f", one), ("srv/one/below/f", two), ("dump", two)):
            with open(os.path.join(target, path)) as file:
                self.assertEqual(file.read(), text)

    def test_packs_with_tar(self):
        """Every pack is a plain archive, and every member's name its hash."""
        source, repo = self.at("source"), self.at("tar")
        shutil.copytree(os.path.join(HERE, "..", "..", "src"), source)
        forge.build(source, repo, "/s", forge.SMALL)
        for pack in glob.glob(repo + "/packs/*/*.tar.zst"):
            lists = set()
            for tar in filter(shutil.which, ("tar", "bsdtar")):
                lists.add(subprocess.run(f"zstd -dc '{pack}' | {tar} -tf -", shell=True, stdout=subprocess.PIPE, check=True).stdout)
            self.assertEqual(len(lists), 1)
            place = self.at("x")
            clear(place)
            os.mkdir(place)
            run("sh", "-c", f"zstd -dc '{pack}' | tar -xf - -C '{place}'")
            names = os.listdir(place)
            self.assertEqual(sorted(names), sorted(lists.pop().decode().split()))
            for name in names:
                with open(os.path.join(place, name), "rb") as file:
                    self.assertEqual(hashlib.sha256(file.read()).hexdigest(), name)

    def test_fastcdc(self):
        data = hashlib.shake_256(b"cdc").digest(200000)
        parts = forge.fastcdc(data, forge.SMALL)
        self.assertEqual(b"".join(parts), data)
        self.assertTrue(all(256 <= len(p) <= 4096 for p in parts[:-1]))
        moved = forge.fastcdc(b"ten bytes." + data, forge.SMALL)
        self.assertGreater(len(set(parts) & set(moved)), len(parts) * 9 // 10)


class HostileCases(Case):
    def test_all(self):
        home = self.at("h")
        # by a process of its own: the peak memory of a child is never less than its parent's was
        run(sys.executable, os.path.join(HERE, "forge.py"), "hostile", home, *os.environ.get("CASES", "").split())
        canary = tree(os.path.join(home, "canary"))
        worst, slowest = 0, 0
        for name in sorted(os.listdir(home)):
            if not os.path.exists(os.path.join(home, name, "expect.json")):
                continue
            with self.subTest(name), open(os.path.join(home, name, "expect.json")) as file:
                expect = json.load(file)
                repo, target = os.path.join(home, name, "repo"), os.path.join(home, name, "target")
                documents = [p for p in glob.glob(repo + "/snapshots/*.json")]
                newest = max(documents, key=os.path.getmtime)
                started = time.monotonic()
                status, output, seconds, peak = recover("restore", os.path.basename(newest)[:-5], target, "--repo", repo)
                worst, slowest = max(worst, peak), max(slowest, seconds)
                self.assertIn(status, (0, 1, 3), output[-2000:])
                self.assertNotIn("Traceback", output)
                self.assertFalse(re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", output), output[-500:])
                self.assertEqual(tree(os.path.join(home, "canary")), canary, "the canary was touched")
                self.assertEqual(sorted(os.listdir(os.path.join(home, name))), ["expect.json", "repo", "target"] if os.path.exists(target) else ["expect.json", "repo"])
                if expect["status"] != "any":
                    self.assertEqual(status == 0, expect["status"] == "ok", output[-2000:])
                if expect["whole"]:
                    self.assertFalse(os.path.exists(target) and os.listdir(target), output)
                self.assertLess(peak, 256, "MiB")
                self.assertLess(seconds, 60 if name in ("deep-4000", "path-7k") else 5)
                if name == "deep-4000":
                    self.assertIn(status, (0,), output[-300:])
                    clear(target)
                    continue
                found = {}
                if os.path.isdir(os.path.join(target, "r")):
                    found = {p.lstrip(b"/"): v for p, v in tree(os.path.join(target, "r"))[0].items()}
                for path in expect["good"]:
                    place = b"" if path == "." else path.encode("utf-8", "surrogateescape")
                    self.assertIn(place, found, output[-2000:])
                    if path in expect["sha256"] and not found[place][8:9] == []:
                        self.assertEqual(found[place][7], expect["sha256"][path])
                for path in expect["bad"]:
                    try:
                        self.assertNotIn(path.encode("utf-8", "surrogateescape"), found)
                    except UnicodeEncodeError:
                        pass
        print(f"\n{len(forge.CASES)} hostile cases; slowest {slowest:.1f} s, peak {worst:.0f} MiB", file=sys.stderr)


class ByHand(Case):
    """The commands of RECOVER.md, word for word."""

    def follow(self, repo, snapshot, file=None):
        """Does all that the page says; returns the directory with what came of it, and what was printed."""
        with open(os.path.join(SOURCE, "RECOVER.md")) as page:
            blocks = re.findall(r"^```sh\n(.*?)^```", page.read(), re.S | re.M)
        self.assertGreaterEqual(len(blocks), 4)
        work = tempfile.mkdtemp(dir=self.base)
        script = "set -eu\n" + "\n".join(blocks)
        environment = {**os.environ, "REPO": repo, "ID": snapshot, "WORK": work, **({"FILE": file} if file else {})}
        result = subprocess.run(["bash", "-c", script], cwd=repo, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(result.returncode, 0, result.stdout)
        if shutil.which("ssh-keygen"):
            self.assertIn('Good "lifeboat-snapshot" signature', result.stdout)
        return work, result.stdout

    def same_file(self, one, other):
        with open(one, "rb") as one, open(other, "rb") as other:
            self.assertEqual(one.read(), other.read(), one.name)

    def test_commands(self):
        source, repo = self.at("source"), self.at("repo")
        make = os.path.join(source, "docs", "it's here")
        os.makedirs(make)
        with open(os.path.join(make, "letter.txt"), "wb") as file:
            file.write(hashlib.shake_256(b"letter").digest(700000))
        for name in ("small", "end", "end\n"):
            with open(os.path.join(source, name), "w") as file:
                file.write("content of " + ascii(name))
        open(os.path.join(source, "empty"), "w").close()
        writer = forge.Forge(repo)
        snapshot = writer.commit([("/srv/app", writer.manifest(writer.tree(source)))])
        work, output = self.follow(repo, snapshot, "docs/it's here/letter.txt")
        self.assertNotRegex(output, "FAILED|WRONG")
        self.same_file(os.path.join(work, "file"), os.path.join(make, "letter.txt"))
        for name in ("docs/it's here/letter.txt", "small", "end", "end\n"):
            self.same_file(os.path.join(work, "everything/srv/app", name), os.path.join(source, name))

    def test_a_root_that_is_a_file(self):
        source, repo = self.at("alone"), self.at("repo-alone")
        with open(source, "w") as file:
            file.write("alone")
        writer = forge.Forge(repo)
        snapshot = writer.commit([("/etc/app.conf", writer.manifest(writer.tree(source)))])
        work, _ = self.follow(repo, snapshot)
        self.same_file(os.path.join(work, "everything/etc/app.conf"), source)

    def test_a_good_copy_in_another_pack(self):
        for first in (False, True):                      # which of the two is damaged, in the order of their names
            repos, packs = [], []
            for number in range(2):
                source, repo = self.at(f"copies{first}{number}"), self.at(f"repo-copies{first}{number}")
                os.mkdir(source)
                for name, seed in (("letter", b"letter"), ("zz", b"%d" % number)):
                    with open(os.path.join(source, name), "wb") as file:
                        file.write(hashlib.shake_256(seed).digest(700000))
                writer = forge.Forge(repo)
                snapshot = writer.commit([("/srv/app", writer.manifest(writer.tree(source)))])
                largest = max(glob.glob(repo + "/packs/??/*"), key=os.path.getsize)
                repos.append((repo, snapshot, source)), packs.append(largest)
            whole = sorted(packs, key=os.path.basename)[0 if first else 1]
            damaged = packs[1 - packs.index(whole)]
            repo, snapshot, source = repos[packs.index(whole)]
            there = os.path.join(repo, "packs", os.path.basename(damaged)[:2])
            os.makedirs(there, exist_ok=True)
            shutil.copy(damaged, there)
            os.chmod(os.path.join(there, os.path.basename(damaged)), 0o600)
            os.truncate(os.path.join(there, os.path.basename(damaged)), 300000)
            work, output = self.follow(repo, snapshot)
            self.assertIn("FAILED", output)
            self.assertNotIn("WRONG", output)
            self.same_file(os.path.join(work, "everything/srv/app/letter"), os.path.join(source, "letter"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
