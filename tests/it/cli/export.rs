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
