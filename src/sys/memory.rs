//! How the C library's allocator treats this program.
#![allow(unsafe_code)]

/// Blocks of this size and more are mapped each by itself.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 256 << 10;
/// So much may be free at the end of a heap before it is given back.
#[cfg(target_env = "gnu")]
const TRIMMED: libc::c_int = 1 << 20;

/// Large blocks are mapped each by itself, and given back when they are freed. Left to itself the allocator puts
/// them among the small ones as soon as one was freed, and what lies between them stays: a tenth more memory. And
/// there are as many heaps as processors, not eight times as many. To be called before any thread is started.
pub fn use_little() {
    #[cfg(target_env = "gnu")]
    let heaps = super::host::worker_count();
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and touches nothing but the allocator's own settings, under its own lock.
    unsafe {
        // what is refused stays as it was
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIMMED);
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(heaps).unwrap_or(libc::c_int::MAX));
    }
}
