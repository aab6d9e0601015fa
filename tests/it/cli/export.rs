use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::env::TestEnv;

fn tar(archive: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    let status = Command::new("tar").arg("-C").arg(into).arg("-xpf").arg(archive).status().unwrap();
    assert!(status.success());
}

#[test]
fn stock_tar_unpacks_what_is_exported() {
    let env = TestEnv::with_tree();
    let long = "n".repeat(200);
    fs::write(env.path("tree").join(&long), "long").unwrap();
    fs::write(env.path("tree").join(std::ffi::OsStr::from_bytes(b"bytes\xff")), "bytes").unwrap();
    fs::hard_link(env.path("tree/a/one"), env.path("tree/linked")).unwrap();
    let mut sparse = fs::File::create(env.path("tree/sparse")).unwrap();
    sparse.seek(SeekFrom::Start(3 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    sparse.set_len(8 << 20).unwrap();
    drop(sparse);
    env.snapshot(&[]);

    env.ok(["export", "latest", "-o", "x.tar"]);
    tar(&env.path("x.tar"), &env.path("out"));
    let out = env.path("out").join(env.arg("tree").trim_start_matches('/'));
    let stat = |path: &Path| fs::symlink_metadata(path).unwrap();
    for name in ["a/one", "b.conf", "linked", "sparse", &long] {
        let (a, b) = (env.path("tree").join(name), out.join(name));
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap(), "{name}");
        let key = |m: fs::Metadata| (m.mode(), m.mtime(), m.mtime_nsec(), m.nlink());
        assert_eq!(key(stat(&a)), key(stat(&b)), "{name}");
    }
    assert_eq!(fs::read(out.join(std::ffi::OsStr::from_bytes(b"bytes\xff"))).unwrap(), b"bytes");
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("a/one"));
    assert_eq!(stat(&out.join("a/one")).ino(), stat(&out.join("linked")).ino());
    assert!(stat(&out.join("sparse")).blocks() * 512 < 4 << 20, "the holes are filled");

    // a link whose first name lies outside the part has the content itself
    env.ok(["export", &format!("latest:{}", env.arg("tree/linked")), "-o", "y.tar"]);
    tar(&env.path("y.tar"), &env.path("part"));
    let part = env.path("part").join(env.arg("tree/linked").trim_start_matches('/'));
    assert_eq!(fs::read(part).unwrap(), b"one\n");
}

#[test]
fn an_archive_goes_to_stdout_compressed_or_to_a_new_file() {
    let env = TestEnv::with_tree();
    env.snapshot(&[]);
    let plain = env.run(["export", "latest"]).raw;
    let packed = env.run(["export", "latest", "--zstd"]).raw;
    assert_eq!(plain.len() % 512, 0);
    assert_eq!(zstd::decode_all(&packed[..]).unwrap(), plain);
    env.write("taken", "precious");
    let run = env.run(["export", "latest", "-o", "taken"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(fs::read(env.path("taken")).unwrap(), b"precious");
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

// Flips a byte of the pack in which these bytes lie, as they do where nothing could be compressed.
fn damage(env: &TestEnv, wanted: &[u8]) {
    for entry in walkdir::WalkDir::new(env.path("repo/packs")).into_iter().map(Result::unwrap) {
        if !entry.file_type().is_file() {
            continue;
        }
        let mut bytes = fs::read(entry.path()).unwrap();
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            bytes[at] ^= 1;
            fs::remove_file(entry.path()).unwrap();
            fs::write(entry.path(), bytes).unwrap();
            return;
        }
    }
    panic!("the bytes are in no pack");
}

#[test]
fn what_is_damaged_is_left_out_and_named_and_everything_else_is_there() {
    let env = TestEnv::with_tree();
    let contents = [
        ("a/small", 3 << 20),
        ("b large", 20 << 20),
        ("c/hit", 3 << 20),
        ("d/hit and large", 18 << 20),
        ("z last", 1 << 20),
    ];
    for (seed, (name, len)) in (1..).zip(contents) {
        env.write(&format!("tree/{name}"), noise(seed, len));
    }
    fs::hard_link(env.path("tree/c/hit"), env.path("tree/hit again")).unwrap();
    env.snapshot(&[]);
    for name in ["c/hit", "d/hit and large"] {
        let content = fs::read(env.path("tree").join(name)).unwrap();
        damage(&env, &content[content.len() / 2..][..24]);
    }
    for archive in ["x.tar", "-"] {
        let run = match archive {
            "-" => {
                let run = env.run(["export", "latest"]);
                fs::write(env.path("y.tar"), &run.raw).unwrap();
                run
            }
            file => env.run(["export", "latest", "-o", file]),
        };
        assert_eq!(run.code, 40, "{}", run.stderr);
        for name in ["c/hit", "d/hit and large", "hit again"] {
            let named = |line: &str| line.contains("content-damaged") && line.contains(name);
            assert!(run.stderr.lines().any(named), "{name}: {}", run.stderr);
        }
        assert!(run.stderr.contains("3: damaged and left out"), "{}", run.stderr);
    }
    assert_eq!(fs::read(env.path("x.tar")).unwrap(), fs::read(env.path("y.tar")).unwrap());
    tar(&env.path("x.tar"), &env.path("out"));
    let out = env.path("out").join(env.arg("tree").trim_start_matches('/'));
    for name in ["a/small", "b large", "z last", "a/one", "b.conf"] {
        assert!(
            fs::read(env.path("tree").join(name)).unwrap() == fs::read(out.join(name)).unwrap(),
            "{name}"
        );
    }
    for name in ["c/hit", "d/hit and large", "hit again"] {
        assert!(!out.join(name).exists(), "{name}");
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn get(path: &Path, name: &str) -> Vec<u8> {
    let mut buffer = [0u8; 4096];
    let len = rustix::fs::getxattr(path, name, &mut buffer[..]);
    let len = len.unwrap_or_else(|e| panic!("{} of {}: {e}", name, path.display()));
    buffer[..len].to_vec()
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        value.extend(id.to_le_bytes());
    }
    value
}

#[test]
fn acls_and_attributes_come_back_by_gnu_tar_and_by_bsdtar() {
    if !rustix::process::geteuid().is_root() {
        // nobody else can set trusted attributes, or give files away
        return;
    }
    let env = TestEnv::with_tree();
    let own = u32::MAX;
    let access =
        acl(&[(1, 6, own), (2, 7, 1), (2, 5, 12345), (4, 4, own), (8, 5, 54321), (16, 7, own), (32, 0, own)]);
    let default = acl(&[(1, 7, own), (2, 5, 12345), (4, 5, own), (16, 5, own), (32, 0, own)]);
    let (file, dir) = (env.path("tree/a/one"), env.path("tree/a"));
    set(&file, "system.posix_acl_access", &access);
    set(&dir, "system.posix_acl_access", &access);
    set(&dir, "system.posix_acl_default", &default);
    set(&file, "user.plain", b"value");
    set(&file, "user.bytes", b"\x00\n=\xff");
    set(&file, "trusted.lifeboat", b"trusted");
    env.snapshot(&[]);
    env.ok(["export", "latest", "-o", "x.tar"]);
    let tools =
        [("tar", &["--acls", "--xattrs", "--xattrs-include=*"][..]), ("bsdtar", &["--acls", "--xattrs"])];
    for (tool, options) in tools {
        let into = env.path(tool);
        fs::create_dir(&into).unwrap();
        let output =
            Command::new(tool).args(options).arg("-C").arg(&into).arg("-xpf").arg(env.path("x.tar")).output();
        let output = output.unwrap_or_else(|e| panic!("{tool}: {e}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{tool}: {said}");
        let out = into.join(env.arg("tree").trim_start_matches('/'));
        for (original, path) in [(&file, out.join("a/one")), (&dir, out.join("a"))] {
            for name in [
                "system.posix_acl_access",
                "system.posix_acl_default",
                "user.plain",
                "user.bytes",
                "trusted.lifeboat",
            ] {
                let is_there = (name.ends_with("default") && path.is_dir())
                    || name.ends_with("access")
                    || (path.is_file() && !name.starts_with("system."));
                if is_there {
                    assert_eq!(get(&path, name), get(original, name), "{tool}: {name} of {}", path.display());
                }
            }
            assert_eq!(fs::metadata(original).unwrap().mode(), fs::metadata(&path).unwrap().mode(), "{tool}");
        }
    }
}
