//! The filter of system calls that processes in a sandbox run under (seccomp, classic BPF).
//!
//! It refuses what no application needs and what would let one look for a way out: mounting, new user
//! namespaces, joining others, kernel keys, typing into a terminal. All else is allowed: the filter is a second wall behind
//! namespaces and dropped capabilities, not the first.

// instructions of classic BPF (linux/bpf_common.h, linux/seccomp.h)
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
// offsets in `struct seccomp_data`
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_1: u32 = 24;

#[cfg(target_arch = "x86_64")]
const NATIVE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const NATIVE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const NATIVE: Option<u32> = None;

/// Calls that are refused with EPERM, whatever the arguments.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    467, // open_tree_attr, the same number on all architectures
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_open_by_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
];

/// The only families of sockets that there are inside: AF_VSOCK, for one, ends at the host of a virtual
/// machine and knows no namespaces.
const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The filter as instructions (code, jump if true, jump if false, constant); `None` on an architecture
/// whose numbers this does not know.
pub fn program() -> Option<Vec<(u16, u8, u8, u32)>> {
    let native = NATIVE?;
    let refuse = |errno: i32| (RETURN, 0, 0, ERRNO | errno.cast_unsigned());
    let mut code = vec![
        // another ABI (32-bit programs) numbers its calls otherwise
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, native),
        refuse(libc::ENOSYS),
        (LOAD, 0, 0, NUMBER),
        // the x32 ABI; numbers as high as this exist nowhere else
        (JUMP_AT_LEAST, 0, 1, 0x4000_0000),
        refuse(libc::ENOSYS),
        // its flags lie in memory, where a filter cannot look; libc then uses clone
        (JUMP_EQUAL, 0, 1, number(libc::SYS_clone3)),
        refuse(libc::ENOSYS),
    ];
    for &call in REFUSED {
        code.extend([(JUMP_EQUAL, 0, 1, number(call)), refuse(libc::EPERM)]);
    }
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        let flag = libc::CLONE_NEWUSER.cast_unsigned();
        code.extend([
            (JUMP_EQUAL, 0, 4, number(call)),
            (LOAD, 0, 0, ARGUMENT_0),
            (JUMP_ANY_BIT, 0, 1, flag),
            refuse(libc::EPERM),
            (RETURN, 0, 0, ALLOW),
        ]);
    }
    code.extend([
        (JUMP_EQUAL, 0, 5, number(libc::SYS_ioctl)),
        (LOAD, 0, 0, ARGUMENT_1),
        (JUMP_EQUAL, 1, 0, libc::TIOCSTI as u32),
        (JUMP_EQUAL, 0, 1, libc::TIOCLINUX as u32),
        refuse(libc::EPERM),
        (RETURN, 0, 0, ALLOW),
    ]);
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        code.extend([(JUMP_EQUAL, 0, FAMILIES.len() as u8 + 3, number(call)), (LOAD, 0, 0, ARGUMENT_0)]);
        for (index, &family) in FAMILIES.iter().enumerate() {
            code.push((JUMP_EQUAL, (FAMILIES.len() - index) as u8, 0, family.cast_unsigned()));
        }
        code.extend([refuse(libc::EAFNOSUPPORT), (RETURN, 0, 0, ALLOW)]);
    }
    code.push((RETURN, 0, 0, ALLOW));
    Some(code)
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}
