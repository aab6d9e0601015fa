//! Giving up what a process in the sandbox must not have: capabilities, another user's identity, system calls.

use std::io;

use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::recipe::{Limits, Recipe};
use crate::sys::{filter, namespace};

/// What the first process inside keeps: to become the application's user, and to end its processes.
const KEPT: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL);

/// What a process may reserve beyond twice its limit of memory, in bytes.
const RESERVED: u64 = 4 << 30;

/// Leaves the first process inside with what it needs.
pub(super) fn keep_few() -> io::Result<()> {
    let kept = rustix::thread::capabilities(None)?.permitted & KEPT;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Becomes what a command runs as, for ever. `counted` is how many processes the user has outside.
pub(super) fn give_up(recipe: &Recipe, isolated: bool, counted: u64) -> io::Result<()> {
    limit(&recipe.limits, counted)?;
    if isolated {
        rustix::thread::clear_ambient_capability_set()?;
        for bit in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if !matches!(rustix::thread::capability_is_in_bounding_set(one), Ok(true)) {
                continue;
            }
            rustix::thread::remove_capability_from_bounding_set(one)?;
        }
    }
    if let Some((uid, gid, groups)) = &recipe.user
        && rustix::process::geteuid().is_root()
    {
        let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        rustix::thread::set_thread_groups(&groups)?;
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    if isolated {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets)?;
        rustix::thread::set_no_new_privs(true)?;
        if let Some(program) = filter::program() {
            namespace::install_filter(&program)?;
        }
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn limit(limits: &Limits, counted: u64) -> io::Result<()> {
    let set = |resource, value: Option<u64>| {
        let Some(value) = value else { return Ok(()) };
        // a limit that is lower already stays
        let maximum = rustix::process::getrlimit(resource).maximum.map_or(value, |old| old.min(value));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    // an emergency brake for one process: the sum of all is watched, or held by a cgroup. Generous, for it counts
    // what is reserved, as stacks of threads are, and not what is used
    set(Resource::Data, limits.memory.map(|bytes| bytes.saturating_mul(2).saturating_add(RESERVED)))?;
    // the supervisor of each job counts too
    set(Resource::Nproc, limits.processes.map(|count| count.saturating_add(counted).saturating_add(2)))?;
    set(Resource::Nofile, limits.open_files)?;
    set(Resource::Fsize, limits.file_size)?;
    set(Resource::Cpu, limits.cpu)?;
    // 1 and not 0: with 0 the kernel would still start the host's handler where core_pattern names one
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?)
}
